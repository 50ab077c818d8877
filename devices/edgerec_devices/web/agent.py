"""What pages and Node have in common: the requests that their agent does, its answers, and the facts around it."""

from __future__ import annotations

from typing import Any

from edgerec.errors import BenchError, DoesNotFitError
from edgerec_devices.facts import machine_facts
from edgerec_devices.protocol import Request
from edgerec_devices.web import files

TASKS = ("bundle", "bare", "answers", "facts")
"""Those of `edgerec_devices.agent`, single questions in bundle rows, and what the browser or Node is."""
OF_PYTHON = ("python", "numpy", "onnxruntime", "usable_cores", "clock_ns")
"""Facts of this process, which measures nothing there."""


def refuse_others(request: Request, where: str) -> None:
    """Raises BenchError for a task that the agent does not know."""
    if request.get("task") not in TASKS:
        raise BenchError(f"{where} measures bundles only, no task {request.get('task')!r}; measure with --device local")


def answer_in(said: dict[str, Any], where: str) -> dict[str, Any]:
    """What the agent found.

    Raises:
        DoesNotFitError: the heap of WebAssembly was too small.
        BenchError: the agent's own reason.
    """
    if "error" in said:
        raise (DoesNotFitError if said.get("does_not_fit") else BenchError)(f"{where}: {said['error']}")
    answer: dict[str, Any] = said["ok"]
    return answer


def facts_here() -> dict[str, Any]:
    """This machine's, without those of Python."""
    return {name: value for name, value in machine_facts().items() if name not in OF_PYTHON}


def runtime_facts(runtime: str, provider: str, heap: int | None) -> dict[str, Any]:
    """onnxruntime-web has no telemetry that could be on; heap_limit_bytes where one was set."""
    facts = {"runtime": runtime, "onnxruntime": files.version(), "provider": provider, "ort_telemetry": "off"}
    return facts if heap is None else {**facts, "heap_limit_bytes": heap}
