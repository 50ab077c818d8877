"""The kernel in WebAssembly as a device, without onnxruntime: in Node, or in headless Chromium."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from edgerec.errors import BenchError
from edgerec_devices.protocol import Device, Kind, Missing, Options
from edgerec_devices.web import browser, node

FORM = "wasm[:chromium]"


def _open(address: str, options: Options) -> AbstractContextManager[Device]:
    if address not in ("wasm", browser.CHROMIUM):
        raise BenchError(f"{address!r} is no address of the kernel; give {FORM}")
    if options.offline:
        raise BenchError("the kernel fetches nothing; leave --offline out")
    if address == "wasm":
        return nullcontext(node.Node(heap=options.memory, kernel=True))
    return browser.Browser(heap=options.memory, tell=options.tell, kernel=True)


def missing() -> list[Missing]:
    """List Node if it is missing: Chromium is for those who ask for it."""
    return node.missing_program()


KIND = Kind("wasm", FORM, "the kernel in WebAssembly: in Node, or in headless Chromium", _open, missing)
