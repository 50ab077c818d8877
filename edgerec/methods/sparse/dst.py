"""Dynamic sparse training: SET, which grows values at random, and RigL, which grows them by the gradient of one batch.

RigL with DSL's setting (Wang et al. 2024, arXiv 2402.02855): the mask is drawn uniformly, each table has its own
budget, and the fraction of its smallest values that a change drops falls from 0.5 to 0.005 on a cosine; the inactive
values with the largest gradients of the current batch grow. SET (Mocanu et al. 2018, arXiv 1707.04780) differs in that
it grows at random.

Choices of ours: the mask changes once an epoch and is fixed after three quarters of them (RigL, Evci et al. 2020, arXiv
1911.11134), in DSL after 2,000 or 3,000 steps; values dropped at a change do not grow at the same change; every row has
at least one value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgerec.methods.base import Job, Method, check_user_share
from edgerec.methods.sparse.plan import SPARSE_BACKBONES, SparsePlan, check_config, horizon_of, train_within, two_tables
from edgerec.training import FitResult

_LAST_FRACTION = 0.01
"""Ratio of the last to the first fraction: DSL goes from 0.5 to 0.005."""


@dataclass(frozen=True)
class DSTConfig:
    """Settings of dynamic sparse training.

    Attributes:
        fraction: fraction of the values that the first change drops.
        every: number of steps between changes; None for one change an epoch.
        horizon: number of epochs after which the mask is fixed; None for three quarters of the maximum.
        user_share: share of the budget for users, in (0, 1); None for their share of the rows.
    """

    fraction: float = 0.5
    every: int | None = None
    horizon: int | None = None
    user_share: float | None = None

    def __post_init__(self) -> None:
        """Raise SettingError and BudgetError for values out of range."""
        check_config(self)
        check_user_share(self.user_share)


class _DST(Method):
    """Base class of methods with a random initial mask that changes during training; subclasses set `grow`."""

    config: ClassVar[type[DSTConfig]] = DSTConfig
    backbones: ClassVar[frozenset[str]] = SPARSE_BACKBONES
    cpu_only: ClassVar[bool] = True
    grow: ClassVar[str]

    def fit(self, job: Job, config: DSTConfig) -> FitResult:
        """Train within the budget. Raises BudgetError if it leaves less than one value a row."""
        bounds, counts = two_tables(job, config.user_share)
        plan = SparsePlan(
            bounds,
            counts,
            grow=self.grow,
            fraction=config.fraction,
            last_fraction=_LAST_FRACTION * config.fraction,
            every=config.every,
            horizon=horizon_of(job, config.horizon),
        )
        return train_within(job, plan)


class SET(_DST):
    """Sparse training that grows values at random."""

    name: ClassVar[str] = "set"
    grow = "random"


class RigL(_DST):
    """Sparse training that grows the values with the largest gradients of the current batch."""

    name: ClassVar[str] = "rigl"
    grow = "last-batch"
