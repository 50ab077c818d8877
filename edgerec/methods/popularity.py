"""Sizes that grow with popularity: a row's size is proportional to its frequency to some power.

The rule of mixed-dimension embeddings (Ginart et al. 2021, arXiv 1909.11810), with sizes projected onto the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BudgetError
from edgerec.methods.base import Job, check_user_share
from edgerec.methods.by_weight import plan_by_weight
from edgerec.training import FitResult


@dataclass(frozen=True)
class PopularityConfig:
    """How sizes follow popularity.

    Attributes:
        exponent: of the frequency; 0 is one size for all. Gentle is better: with iALS on MovieLens-1M 0.25 beat 1.
        user_share: of the budget that goes to users, in (0, 1); None for their share of the rows.
        widths: at most so many distinct sizes a table; None for 4 up to 10,000 rows, 8 up to 100,000 and 16 above.
            Each is a block of the exported graph, and costs about 1.3 us whatever its rows cost.
    """

    exponent: float = 0.25
    user_share: float | None = None
    widths: int | None = None

    def __post_init__(self) -> None:
        """Raises BudgetError for values out of range."""
        if not 0 <= self.exponent <= 4:
            raise BudgetError(f"exponent must be in 0..4, got {self.exponent}")
        check_user_share(self.user_share)
        if self.widths is not None and self.widths < 1:
            raise BudgetError(f"widths must be at least 1, got {self.widths}")


class Popularity:
    """Prefix sizes by frequency."""

    name: ClassVar[str] = "popularity"
    config: ClassVar[type[PopularityConfig]] = PopularityConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf", "svd"})
    budgeted: ClassVar[bool] = True

    def fit(self, job: Job, config: PopularityConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row."""
        items, users = (_weights(counts, config) for counts in (job.train.item_counts(), job.train.user_counts()))
        return job.fit(plan_by_weight(job, items, users, user_share=config.user_share, widths=config.widths))


def _weights(counts: NDArray[np.int64], config: PopularityConfig) -> NDArray[np.float64]:
    # A row that was never seen still has a place: counts start at one.
    weights: NDArray[np.float64] = np.power(counts + 1.0, config.exponent).astype(np.float64)
    return weights
