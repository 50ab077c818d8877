"""Patches between versions of a bundle, and exports that follow an older version."""

from edgerec_export.patch.diff import Changes, Patch, diff, patch_output
from edgerec_export.patch.previous import PreviousBundle

__all__ = ["Changes", "Patch", "PreviousBundle", "diff", "patch_output"]
