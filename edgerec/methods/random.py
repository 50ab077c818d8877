"""Sizes drawn at random: MR in CIESS, SR in BET. What a chosen size has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgerec.errors import BudgetError
from edgerec.methods.base import Job
from edgerec.methods.by_weight import plan_by_weight
from edgerec.training import FitResult


@dataclass(frozen=True)
class RandomConfig:
    """How sizes are drawn.

    Attributes:
        widths: at most so many distinct sizes a table; the papers have no limit. Each is a block of the exported graph.
    """

    widths: int = 16

    def __post_init__(self) -> None:
        """Raises BudgetError for a number of widths below one."""
        if self.widths < 1:
            raise BudgetError(f"widths must be at least 1, got {self.widths}")


class Random:
    """Each row's size uniform between 1 and twice the mean, whatever its popularity (CIESS and BET, authors' code).

    The draw is then projected onto the budget, which a draw alone only meets on average: ours.
    """

    name: ClassVar[str] = "random"
    config: ClassVar[type[RandomConfig]] = RandomConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf", "svd"})
    budgeted: ClassVar[bool] = True

    def fit(self, job: Job, config: RandomConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row."""
        rng = np.random.default_rng(job.seed)
        most = max(2 * job.values() // job.n_rows - 1, 1)
        items, users = (rng.integers(1, most, n, endpoint=True).astype(np.float64) for n in job.train.shape[::-1])
        return job.fit(plan_by_weight(job, items, users, widths=config.widths))
