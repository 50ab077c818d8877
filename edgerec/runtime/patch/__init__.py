"""Patches: one bundle made of another, on the device, and taken back. `edgerec diff` makes them."""

from edgerec.runtime.patch.updates import apply_patch, undo_patch

__all__ = ["apply_patch", "undo_patch"]
