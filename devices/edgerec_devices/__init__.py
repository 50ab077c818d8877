"""Devices on which a bundle is measured, all with the same four methods: info, push, run, pull.

Names are imported on first use: `edgerec_devices.facts` and `doctor` need nothing but Python.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgerec_devices.local import Local
    from edgerec_devices.protocol import Device, Request
    from edgerec_devices.registry import open_device
    from edgerec_devices.ssh.device import Ssh

_HOME = {
    "Device": "edgerec_devices.protocol",
    "Local": "edgerec_devices.local",
    "Request": "edgerec_devices.protocol",
    "Ssh": "edgerec_devices.ssh.device",
    "open_device": "edgerec_devices.registry",
}

__all__ = ["Device", "Local", "Request", "Ssh", "open_device"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'edgerec_devices' has no attribute {name!r}")
