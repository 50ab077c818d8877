"""Grids of trainings: a plan spans cells, and each is trained, exported and measured in a process of its own."""

from __future__ import annotations

from edgerec_bench.grid.plan import AUTO, AXES, FULL, GridPlan
from edgerec_bench.grid.rows import UNTRUNCATED, Row, grid_outputs, read_rows
from edgerec_bench.grid.run import GridResult, GridStatus, run_grid

__all__ = [
    "AUTO",
    "AXES",
    "FULL",
    "UNTRUNCATED",
    "GridPlan",
    "GridResult",
    "GridStatus",
    "Row",
    "grid_outputs",
    "read_rows",
    "run_grid",
]
