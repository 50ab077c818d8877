"""Patches between bundles of a line: what one is made another by, and how the next is made alike."""

from edgerec_export.patch.diff import Changes, Patch, diff, patch_output
from edgerec_export.patch.previous import PreviousBundle

__all__ = ["Changes", "Patch", "PreviousBundle", "diff", "patch_output"]
