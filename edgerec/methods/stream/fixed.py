"""Sizes by a rule: equal ones, and ones that follow popularity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgerec.methods.base import check_user_share
from edgerec.methods.stream.base import Chooser, Moment, check_counts
from edgerec.models import SizePlan, State
from edgerec.models.settings import check_range


class Rule:
    """A chooser that remembers nothing."""

    def told(self) -> dict[str, Any]:
        return {}

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


@dataclass(frozen=True)
class UniformStreamConfig:
    """Nothing to set."""


class UniformStream:
    """One size for all rows, as large as the budget allows."""

    name: ClassVar[str] = "uniform"
    config: ClassVar[type[UniformStreamConfig]] = UniformStreamConfig

    class _Chooser(Rule):
        def plan(self, moment: Moment) -> SizePlan:
            return moment.now.equal_sizes()

    def follow(self, config: UniformStreamConfig, d: int, seed: int) -> Chooser:
        return self._Chooser()


@dataclass(frozen=True)
class PopularityStreamConfig:
    """How sizes follow popularity.

    Attributes:
        exponent: of the frequency.
        user_share: of the budget that goes to users, in (0, 1); None for their share of the rows.
        counts: frequencies are of 'all' that is known, or of the 'segment'.
    """

    exponent: float = 0.25
    user_share: float | None = None
    counts: str = "all"

    def __post_init__(self) -> None:
        """Raises SettingError, BudgetError for values out of range."""
        check_range("exponent", self.exponent, 0, 4)
        check_user_share(self.user_share)
        check_counts(self.counts)


class PopularityStream:
    """Sizes in proportion to a power of the frequency, as edgerec/methods/popularity.py has them."""

    name: ClassVar[str] = "popularity"
    config: ClassVar[type[PopularityStreamConfig]] = PopularityStreamConfig

    class _Chooser(Rule):
        def __init__(self, config: PopularityStreamConfig) -> None:
            self._config = config

        def plan(self, moment: Moment) -> SizePlan:
            config = self._config
            users, items = (
                np.power(counts + 1.0, config.exponent).astype(np.float64)
                for counts in moment.now.counts(config.counts)
            )
            return moment.now.room.plan(users, items, config.user_share)

    def follow(self, config: PopularityStreamConfig, d: int, seed: int) -> Chooser:
        return self._Chooser(config)
