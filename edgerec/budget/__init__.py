"""Budgets in four spellings, and the exact integer sizes that keep to them."""

from edgerec.budget.budget import (
    BITS_PER_VALUE,
    BLOCK_OVERHEAD,
    MOST_POPULAR,
    PREFIX,
    SPARSE_OVERHEAD,
    Budget,
    BudgetKind,
    Positions,
    bundle_overhead,
    coded_overhead,
    format_bytes,
    parse_bytes,
    sparse_positions,
)
from edgerec.budget.front import front, knee
from edgerec.budget.sizes import MOST_WIDTHS, SizeBudget, merge_sizes, project_sizes, snap_sizes, width_choices

__all__ = [
    "BITS_PER_VALUE",
    "BLOCK_OVERHEAD",
    "MOST_POPULAR",
    "MOST_WIDTHS",
    "PREFIX",
    "SPARSE_OVERHEAD",
    "Budget",
    "BudgetKind",
    "Positions",
    "SizeBudget",
    "bundle_overhead",
    "coded_overhead",
    "format_bytes",
    "front",
    "knee",
    "merge_sizes",
    "parse_bytes",
    "project_sizes",
    "snap_sizes",
    "sparse_positions",
    "width_choices",
]
