"""Dynamic sparse training as it was before: SET, which grows at random, and RigL, which grows by one batch's gradient.

RigL with DSL's setting (Wang et al. 2024, arXiv 2402.02855): the mask is drawn uniformly, each table has a budget of
its own, and at each change the fraction of its smallest values that is dropped falls from 0.5 to 0.005 on a cosine;
what grows has the largest gradient of the current batch among what was inactive. SET (Mocanu et al. 2018, arXiv
1707.04780) differs in that it grows at random.

Choices of ours: the mask changes once an epoch and stays after three quarters of them (RigL, Evci et al. 2020, arXiv
1911.11134), where DSL counts 2,000 or 3,000 steps of its batches; what has just been dropped does not grow in the same
change; every row keeps a value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from edgerec.methods.base import Job, check_user_share
from edgerec.methods.sparse.plan import SPARSE_BACKBONES, SparsePlan, check_config, horizon_of, train_within, two_tables
from edgerec.training import FitResult

_LAST_FRACTION = 0.01
"""Of the first fraction: DSL goes from 0.5 to 0.005."""


@dataclass(frozen=True)
class DSTConfig:
    """When the mask changes, and by how much.

    Attributes:
        fraction: of the values that the first change drops.
        every: steps between changes; None for an epoch's.
        horizon: epochs after which the mask stays; None for three quarters of training's at most.
        user_share: of the budget that goes to users, in (0, 1); None for their share of the rows.
    """

    fraction: float = 0.5
    every: int | None = None
    horizon: int | None = None
    user_share: float | None = None

    def __post_init__(self) -> None:
        """Raises SettingError and BudgetError for values out of range."""
        check_config(self)
        check_user_share(self.user_share)


class _DST:
    """A mask that is drawn, and changes; methods say how it grows."""

    config: ClassVar[type[DSTConfig]] = DSTConfig
    backbones: ClassVar[frozenset[str]] = SPARSE_BACKBONES
    budgeted: ClassVar[bool] = True
    grow: ClassVar[str]

    def fit(self, job: Job, config: DSTConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row."""
        bounds, counts = two_tables(job, config.user_share)
        plan = replace(
            SparsePlan.still(bounds, counts),
            grow=self.grow,
            fraction=config.fraction,
            last_fraction=_LAST_FRACTION * config.fraction,
            every=config.every,
            horizon=horizon_of(job, config.horizon),
        )
        return train_within(job, plan)


class SET(_DST):
    """Grows at random."""

    name: ClassVar[str] = "set"
    grow = "random"


class RigL(_DST):
    """Grows where the current batch's gradient is largest."""

    name: ClassVar[str] = "rigl"
    grow = "last-batch"
