"""BET's sampler: an action sets the sizes of whole tables, by a distribution family and a shape for users and items.

Qu et al. 2024 (arXiv 2310.14884), section 4.1, families and ranges of shapes as in the authors' code. Their rounding
can miss the budget by 5 %; sizes here are projected onto it exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import SizeBudget
from edgerec.extras import require
from edgerec.methods.search.history import action_of
from edgerec.models import SizePlan

_TINY = 1e-300
"""The smallest weight: quantiles of a power law with a small shape underflow to zero, and weights must be positive."""


def _power_law(uniform: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """Return quantiles of the density a x^(a - 1) on 0..1, a = `shape`."""
    return np.asarray(uniform ** (1 / max(shape, 1e-6)))


def _truncated_exponential(uniform: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """Return quantiles of a density proportional to e^-x on 0..b, b = `shape`."""
    return np.asarray(-np.log1p(uniform * np.expm1(-shape)))


def _truncated_normal(uniform: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """Return quantiles of a density proportional to the standard normal one on 0..b, b = `shape`."""
    special = require("scipy.special", "train")
    return np.asarray(special.ndtri(0.5 + uniform * (special.ndtr(shape) - 0.5)))


def _log_normal(uniform: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """Return quantiles of e^(s z), z standard normal, s = `shape`."""
    return np.asarray(np.exp(shape * require("scipy.special", "train").ndtri(uniform)))


FAMILIES: dict[str, tuple[Callable[[NDArray[np.float64], float], NDArray[np.float64]], float]] = {
    "power law": (_power_law, 20.0),
    "truncated exponential": (_truncated_exponential, 5.0),
    "truncated normal": (_truncated_normal, 20.0),
    "log-normal": (_log_normal, 0.5),
}
"""Inverse distribution functions, and the largest shape, by name."""


@dataclass(frozen=True)
class Action:
    """The parameters of a draw of all sizes.

    Attributes:
        families, shapes: distribution and shape of users and of items.
        share: share of the budget for users.
        seed: seed of the drawn values.
    """

    families: tuple[str, str]
    shapes: tuple[float, float]
    share: float
    seed: int

    def __post_init__(self) -> None:
        """Raise ValueError for an action that the sampler does not draw."""
        if unknown := [name for name in self.families if name not in FAMILIES]:
            raise ValueError(f"there is no family {unknown[0]!r}")
        most = (FAMILIES[name][1] for name in self.families)
        if not all(0 <= shape <= limit for shape, limit in zip(self.shapes, most, strict=True)):
            raise ValueError(f"there are no such shapes: {self.shapes}")
        if not (0 <= self.share <= 1 and self.seed >= 0):
            raise ValueError(f"there is no action with the share {self.share} and the seed {self.seed}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Any) -> Action:
        """Read the action of a history entry. Raises RunError if it is malformed."""
        return action_of(cls, fields)


@dataclass(frozen=True)
class Sampler:
    """Draws actions and computes their sizes.

    Attributes:
        user_counts, item_counts: (n,) interactions: more frequent rows have larger sizes.
        budget: budget of both tables.
    """

    user_counts: NDArray[np.int64]
    item_counts: NDArray[np.int64]
    budget: SizeBudget

    def draw(self, rng: np.random.Generator) -> Action:
        """Draw an action: families and the share uniform, shapes uniform up to the family's largest."""
        families = [str(name) for name in rng.choice(list(FAMILIES), 2)]
        shapes = [float(rng.uniform(0, FAMILIES[name][1])) for name in families]
        return Action(
            (families[0], families[1]), (shapes[0], shapes[1]), float(rng.random()), int(rng.integers(1 << 32))
        )

    def plan(self, action: Action, *, exact: bool = False) -> SizePlan:
        """Return the sizes of an action.

        Args:
            exact: ignore the budget's limits of distinct sizes, which takes a twentieth of the time.
        """
        rng = np.random.default_rng(action.seed)
        budget = replace(self.budget, user_widths=None, item_widths=None) if exact else self.budget
        for_users = budget.users_part(action.share)
        parts = ((budget.user_sizes, for_users), (budget.item_sizes, budget.total - for_users))
        sides = [
            self._sizes(FAMILIES[family][0](_open_uniform(rng, order.size), shape), order, partial(sized, total=total))
            for family, shape, order, (sized, total) in zip(
                action.families, action.shapes, self._orders, parts, strict=True
            )
        ]
        return SizePlan(budget.d, *sides)

    @cached_property
    def _orders(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """User rows and item rows, the most frequent first."""
        return np.argsort(-self.user_counts, kind="stable"), np.argsort(-self.item_counts, kind="stable")

    def _sizes(
        self,
        values: NDArray[np.float64],
        order: NDArray[np.int64],
        sized: Callable[[NDArray[np.float64]], NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """Return (n,) sizes by the values: the n-th largest for the n-th most frequent row."""
        ordered = sized(np.maximum(np.sort(values)[::-1], _TINY))
        sizes = np.empty_like(ordered)
        sizes[order] = ordered
        return sizes


def _open_uniform(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Return (n,) uniform numbers in 0..1, without the ends."""
    return np.asarray((rng.integers(0, 1 << 53, n) + 0.5) / (1 << 53))
