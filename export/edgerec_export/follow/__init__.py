"""Exports that follow an older bundle: its basis, widths and precisions, and rows that hardly changed."""

from edgerec_export.follow.bundle import (
    allocation_like,
    ids_by_section,
    in_older_basis,
    is_fitted,
    keep_rows,
    obstacle,
)

__all__ = ["allocation_like", "ids_by_section", "in_older_basis", "is_fitted", "keep_rows", "obstacle"]
