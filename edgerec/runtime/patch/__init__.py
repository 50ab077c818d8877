"""Patches, which update a bundle on the device and can be undone. `edgerec diff` writes them."""

from edgerec.runtime.patch.updates import apply_patch, restore, undo_patch

__all__ = ["apply_patch", "restore", "undo_patch"]
