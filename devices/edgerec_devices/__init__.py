"""Places where a bundle is measured, all behind the same four verbs."""

from edgerec_devices.local import Local
from edgerec_devices.protocol import Device, Request

__all__ = ["Device", "Local", "Request"]
