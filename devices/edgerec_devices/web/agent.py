"""Requests and answers of the JavaScript agent, in pages and in Node, and the facts that both report."""

from __future__ import annotations

import hashlib
from typing import Any

from edgerec.errors import BenchError, DoesNotFitError
from edgerec_devices.facts import machine_facts
from edgerec_devices.protocol import Request
from edgerec_devices.web import files

TASKS = ("bundle", "bare", "answers", "facts")
"""Tasks of the agent: `bundle` and `bare` as in `edgerec_devices.agent`, `answers` to questions in bundle rows, and
`facts` about the browser or Node."""
KERNEL = "kernel"
"""The provider of requests that the kernel answers instead of onnxruntime-web."""
OF_PYTHON = ("python", "numpy", "onnxruntime", "usable_cores", "clock_ns")
"""Facts about this Python process, which does not measure."""


def refuse_others(request: Request, where: str) -> None:
    """Raise BenchError if the agent does not know the request's task."""
    if request.get("task") not in TASKS:
        raise BenchError(f"{where} measures bundles only, no task {request.get('task')!r}; measure with --device local")


def answer_in(said: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the answer in the agent's envelope.

    Raises:
        DoesNotFitError: the heap of WebAssembly was too small.
        BenchError: the envelope has an error.
    """
    if "error" in said:
        raise (DoesNotFitError if said.get("does_not_fit") else BenchError)(f"{where}: {said['error']}")
    answer: dict[str, Any] = said["ok"]
    return answer


def facts_here() -> dict[str, Any]:
    """Return the facts about this machine without those of Python."""
    return {name: value for name, value in machine_facts().items() if name not in OF_PYTHON}


def runtime_facts(runtime: str, provider: str, heap: int | None) -> dict[str, Any]:
    """Return the facts about onnxruntime-web, which has no telemetry, or about the kernel, and the heap's limit if
    there is one."""
    facts = {"runtime": runtime, "provider": provider}
    if provider == KERNEL:
        builds = b"".join(path.read_bytes() for path in files.KERNELS)
        facts["edgerec_kernel"] = hashlib.sha256(builds).hexdigest()[:12]
    else:
        facts |= {"onnxruntime": files.version(), "ort_telemetry": "off"}
    return facts if heap is None else {**facts, "heap_limit_bytes": heap}
