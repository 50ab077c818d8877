"""Patches between versions of a bundle, and exports that follow an older version."""

from edgerec_export.patch.diff import Changes, Patch, diff, patch_output
from edgerec_export.patch.previous import PRECISION_OF_BITS, PreviousBundle, older_attributes
from edgerec_export.patch.rows import PreviousRows, matched, stored_block

__all__ = [
    "PRECISION_OF_BITS",
    "Changes",
    "Patch",
    "PreviousBundle",
    "PreviousRows",
    "diff",
    "matched",
    "older_attributes",
    "patch_output",
    "stored_block",
]
