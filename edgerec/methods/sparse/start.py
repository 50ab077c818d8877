"""The table that sparse training begins with: a mask, and the backbone's initial values on it."""

from __future__ import annotations

import numpy as np

from edgerec.data import Interactions
from edgerec.methods.sparse.masks import Mask, nmf_mask, random_mask
from edgerec.methods.sparse.objective import Objective
from edgerec.methods.sparse.plan import Plan
from edgerec.methods.sparse.table import ActiveTable, Floats


def begin(
    train: Interactions, d: int, objective: Objective, plan: Plan, seed: int, rng: np.random.Generator
) -> ActiveTable:
    """A table whose mask is the plan's."""
    if plan.mask_init == "random":
        mask = random_mask(plan.bounds, plan.counts, d, rng)
    else:
        mask = nmf_mask(train, d, sum(plan.counts), plan.iterations, rng)
    return with_values(mask, initial_values(objective, mask, seed, rng))


def initial_values(objective: Objective, mask: Mask, seed: int, rng: np.random.Generator) -> Floats:
    """(B,) the objective's initial values where the mask is active."""
    start = objective.start(seed)
    if isinstance(start, float):
        return np.float32(start) * rng.standard_normal(mask.columns.size, np.float32)
    return mask.of(start)


def with_values(mask: Mask, values: Floats) -> ActiveTable:
    """The mask's table, with values (B,)."""
    return ActiveTable(values, mask.columns, mask.pointers, mask.d)
