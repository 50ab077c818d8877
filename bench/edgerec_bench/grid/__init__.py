"""Grids of trainings: a plan of cells, each trained, exported and measured in a process of its own, and their rows."""

from __future__ import annotations

from edgerec_bench.grid.plan import AUTO, AXES, FULL, Plan
from edgerec_bench.grid.rows import Row, grid_outputs, read_rows
from edgerec_bench.grid.run import Grid, Standing, run_grid

__all__ = ["AUTO", "AXES", "FULL", "Grid", "Plan", "Row", "Standing", "grid_outputs", "read_rows", "run_grid"]
