"""The kinds of devices, and the device of an address."""

from __future__ import annotations

from contextlib import AbstractContextManager

from edgerec.errors import BenchError
from edgerec_devices import cortex_m, kernel, local
from edgerec_devices.adb import device as adb
from edgerec_devices.arm64 import device as arm64
from edgerec_devices.protocol import Device, Kind, Options, Tell, silent
from edgerec_devices.ssh import device as ssh
from edgerec_devices.web import browser, node, wasm

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        local.KIND,
        kernel.KIND,
        ssh.KIND,
        arm64.KIND,
        cortex_m.KIND,
        adb.KIND,
        browser.KIND,
        node.KIND,
        wasm.KIND,
    )
}


def kind_of(address: str) -> Kind:
    """Return the kind of an address. Raises BenchError if there is none."""
    kind = KINDS.get(address.partition(":")[0])
    if kind is None:
        forms = ", ".join(kind.form for kind in KINDS.values())
        raise BenchError(f"there is no device {address!r}; give one of: {forms}")
    return kind


def open_device(
    address: str, *, offline: bool = False, memory: int | None = None, tell: Tell | None = None
) -> AbstractContextManager[Device]:
    """Open the device of an address, as a context manager.

    Example:
        >>> with open_device("ssh://pi@raspberrypi.local") as device:
        ...     print(device.info()["cpu"])

    Args:
        offline: the device downloads nothing itself.
        memory: bytes of memory of a device that is started on this machine.
        tell: called with progress messages.

    Raises:
        BenchError: no such address, or an option that this kind of device does not have.
    """
    return kind_of(address).open(address, Options(offline, memory, tell or silent))
