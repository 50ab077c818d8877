"""The kernel on this machine as a device: the package edgerec-kernel answers, without onnxruntime and in one thread."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from edgerec.errors import BenchError
from edgerec.files import sha256
from edgerec_devices.facts import machine_facts
from edgerec_devices.local import Local, refuse_options
from edgerec_devices.protocol import Kind, Missing, Options, Request

PACKAGE = "edgerec_kernel"
MISSING = Missing("the package edgerec-kernel", "pip install edgerec-kernel")
OF_ONNXRUNTIME = ("onnxruntime", "ort_telemetry")


class Kernel(Local):
    """This machine, with the kernel instead of onnxruntime; files are not copied.

    Attributes:
        name: 'kernel'.
        timeout: maximum seconds of one request.
    """

    name = "kernel"

    def info(self) -> dict[str, Any]:
        """Return `machine_facts` without onnxruntime's, and the beginning of the library's sha256."""
        (library,) = _package().glob("libedgerec_kernel.*")
        facts = {name: value for name, value in machine_facts().items() if name not in OF_ONNXRUNTIME}
        return {**facts, "provider": "kernel", "edgerec_kernel": sha256(library)[:12]}

    def run(self, request: Request) -> dict[str, Any]:
        """Measure as `Local.run`, by the kernel."""
        return super().run({**request, "provider": "kernel"})


def _package() -> Path:
    """Return the folder of the package. Raises BenchError if it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise BenchError(f"{PACKAGE} is not installed; the device 'kernel' needs it: {MISSING.fix}")
    return Path(found.origin).parent


def _open(_: str, options: Options) -> AbstractContextManager[Kernel]:
    refuse_options(Kernel.name, options)
    _package()
    return nullcontext(Kernel())


def missing() -> list[Missing]:
    """List the package if it is missing."""
    return [] if importlib.util.find_spec(PACKAGE) else [MISSING]


KIND = Kind("kernel", "kernel", "this machine, with the kernel instead of onnxruntime", _open, missing)
