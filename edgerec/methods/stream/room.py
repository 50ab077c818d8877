"""What a budget leaves a segment's tables: a number of values, spent exactly, whatever the users' share of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BLOCK_OVERHEAD, Budget, bundle_overhead, project_sizes, snap_sizes
from edgerec.data import Interactions
from edgerec.models import SizePlan

Sizes = NDArray[np.int64]
Weights = NDArray[np.float64]

WIDTHS = 16
"""Distinct sizes a table where the budget is of a bundle in bytes: each is a block, which costs bytes too."""


@dataclass(frozen=True)
class Room:
    """Values that all rows of a segment may have.

    Attributes:
        n_users, n_items: rows that are known.
        total: values of both tables: never more than full rows take.
        d: the largest size; the smallest is 1.
        widths: at most so many distinct sizes a table, for a sum of at most `total`; None for any, and exactly it.
    """

    n_users: int
    n_items: int
    total: int
    d: int
    widths: int | None = None

    @classmethod
    def of(cls, budget: Budget, known: Interactions, d: int, *, bytes_per_value: float = 4.0) -> Room:
        """What `budget` leaves the users and items of `known`: a share or bytes a row fix the mean size, and the total
        grows with the rows; bytes of a bundle or a parameter count fix the total, and the mean size falls.

        Raises BudgetError where it is less than one value a row.
        """
        in_bytes = budget.kind == "bytes"
        blocks = 2 * WIDTHS * BLOCK_OVERHEAD
        overhead = bundle_overhead(known.item_ids, known.user_ids) + blocks if in_bytes else 0
        total = budget.values(sum(known.shape), d, bytes_per_value=bytes_per_value, overhead=overhead)
        return cls(known.n_users, known.n_items, total, d, WIDTHS if in_bytes else None)

    @property
    def mean(self) -> float:
        """Values a row."""
        return self.total / (self.n_users + self.n_items)

    def users_part(self, share: float) -> int:
        """How many values go to users: that share of all. What one side cannot hold, or needs to have one a row, is the
        other's to give."""
        least = max(self.n_users, self.total - self.n_items * self.d)
        most = min(self.n_users * self.d, self.total - self.n_items)
        return int(np.clip(round(share * self.total), least, most))

    def plan(self, user_weights: Weights, item_weights: Weights, share: float | None = None) -> SizePlan:
        """Sizes in proportion to weights (n,), all positive, where they fit in 1..d: a larger weight never has a
        smaller size, and the budget is spent exactly.

        Args:
            share: of the values that go to users; None for their share of the rows.
        """
        for_users = self.users_part(self.n_users / (self.n_users + self.n_items) if share is None else share)
        return SizePlan(self.d, self._sizes(user_weights, for_users), self._sizes(item_weights, self.total - for_users))

    def _sizes(self, weights: Weights, total: int) -> Sizes:
        if self.widths is None:
            return project_sizes(weights, total, 1, self.d)
        return snap_sizes(weights, total, 1, self.d, self.widths)


def sides_of(plan: SizePlan) -> tuple[Sizes, Sizes]:
    """(n_users,) and (n_items,) sizes of a plan that has both. Raises ValueError."""
    if plan.users is None or plan.items is None:
        raise ValueError("a plan of a stream sizes both sides")
    return plan.users, plan.items


def values_of(plan: SizePlan) -> int:
    """The values of a plan that sizes both sides."""
    return sum(int(sizes.sum()) for sizes in sides_of(plan))
