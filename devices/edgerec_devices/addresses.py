"""From what a person writes to the device that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgerec.errors import BenchError
from edgerec_devices.local import Local
from edgerec_devices.protocol import Device
from edgerec_devices.ssh import Ssh, Tell

FORMS = "local or ssh://[user@]host[:port]"


@contextmanager
def open_device(address: str, *, offline: bool = False, tell: Tell | None = None) -> Iterator[Device]:
    """The device of an address, for as long as the block lasts.

    Example:
        >>> with open_device("ssh://pi@raspberrypi.local") as device:
        ...     print(device.info()["cpu"])

    Args:
        offline: the device fetches nothing itself.
        tell: called with what takes long.

    Raises:
        BenchError: no such address.
    """
    if address == Local.name:
        if offline:
            raise BenchError("--offline is for devices that are set up from here; leave it out with the device 'local'")
        yield Local()
    elif address.startswith("ssh:"):
        with Ssh(address, offline=offline, tell=tell) as device:
            yield device
    else:
        raise BenchError(f"there is no device {address!r}; give {FORMS}")
