"""The table that sparse training begins with: a mask, and the backbone's initial values on it."""

from __future__ import annotations

import numpy as np

from edgerec.data import Interactions
from edgerec.methods.sparse.masks import Mask, mask_of_largest, nmf_rows, random_mask
from edgerec.methods.sparse.objective import Objective
from edgerec.methods.sparse.plan import Plan
from edgerec.methods.sparse.table import ActiveTable, Floats


def begin(train: Interactions, objective: Objective, plan: Plan, rng: np.random.Generator) -> ActiveTable:
    """A table whose mask is the plan's; where it comes from a factorisation, so may the values, scaled to the size of
    the objective's own.

    Rows that are narrower than what ships hold no more than fits.
    """
    d = objective.width
    counts = [min(count, (stop - start) * d) for (start, stop), count in zip(plan.bounds, plan.counts, strict=True)]
    if plan.mask_init == "random":
        mask = random_mask(plan.bounds, counts, d, rng)
        return with_values(mask, initial_values(objective, mask, rng))
    rows = nmf_rows(train, d, plan.iterations, rng)
    mask = mask_of_largest(rows, sum(counts))
    if plan.start == "backbone":
        return with_values(mask, initial_values(objective, mask, rng))
    values = mask.of(rows)
    return with_values(mask, values * np.float32(objective.std / max(float(np.sqrt(np.square(values).mean())), 1e-12)))


def initial_values(objective: Objective, mask: Mask, rng: np.random.Generator) -> Floats:
    """(B,) the objective's initial values where the mask is active."""
    start = objective.start()
    if isinstance(start, float):
        return np.float32(start) * rng.standard_normal(mask.columns.size, np.float32)
    return mask.of(start)


def with_values(mask: Mask, values: Floats) -> ActiveTable:
    """The mask's table, with values (B,)."""
    return ActiveTable(values, mask.columns, mask.pointers, mask.d)
