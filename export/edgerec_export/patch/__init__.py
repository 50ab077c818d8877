"""Patches between versions of a bundle, and exports that follow an older version."""

from edgerec_export.patch.attributes import PreviousAttributes
from edgerec_export.patch.diff import Changes, Patch, diff, patch_output
from edgerec_export.patch.previous import PRECISION_OF_BITS, PreviousBundle
from edgerec_export.patch.rows import PreviousRows, matched, stored_block

__all__ = [
    "PRECISION_OF_BITS",
    "Changes",
    "Patch",
    "PreviousAttributes",
    "PreviousBundle",
    "PreviousRows",
    "diff",
    "matched",
    "patch_output",
    "stored_block",
]
