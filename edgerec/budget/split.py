"""The split of a budget between users and items and between the rows of each, for tables and streams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.budget.sizes import project_sizes, snap_sizes

Sizes = NDArray[np.int64]
Weights = NDArray[np.float64]

MOST_WIDTHS = 16
"""Maximum number of distinct sizes a table for a budget in bytes: each is a block, which costs bytes too."""


@dataclass(frozen=True)
class SizeBudget:
    """The number of values that the rows of both tables may have.

    Attributes:
        n_users: stored user rows; 0 if users have no table.
        n_items: stored item rows.
        total: values of both tables: at least one a row, at most full rows.
        d: the largest size; the smallest is 1.
        user_widths, item_widths: maximum number of distinct sizes of a table, whose sum is then at most its part; None
            for any number, and a sum of exactly its part.
    """

    n_users: int
    n_items: int
    total: int
    d: int
    user_widths: int | None = None
    item_widths: int | None = None

    @property
    def n_rows(self) -> int:
        return self.n_users + self.n_items

    @property
    def mean(self) -> float:
        """Mean number of values a row."""
        return self.total / self.n_rows

    @property
    def exact(self) -> bool:
        """True if sizes sum to the total exactly."""
        return self.user_widths is None and self.item_widths is None

    def users_part(self, share: float | None = None) -> int:
        """Return the number of values for users: `share` of all; None for their share of the rows."""
        return self.bounded_users_part(self.total * (self.n_users / self.n_rows if share is None else share))

    def bounded_users_part(self, values: float) -> int:
        """Return the number of values nearest to `values` that users can have; 0 if users have no table.

        It leaves either side at least one value a row and at most full rows.
        """
        least = max(self.n_users, self.total - self.n_items * self.d)
        most = min(self.n_users * self.d, self.total - self.n_items)
        return int(np.clip(round(values), least, most)) if self.n_users else 0

    def sizes(
        self, user_weights: Weights, item_weights: Weights, share: float | None = None
    ) -> tuple[Sizes | None, Sizes]:
        """Return (n_users,) and (n_items,) sizes in proportion to weights: a larger weight never has a smaller size.

        Args:
            user_weights: (n_users,) positive; not read if users have no table.
            item_weights: (n_items,) positive.
            share: share of the values for users; None for their share of the rows.
        """
        for_users = self.users_part(share)
        users = self.user_sizes(user_weights, for_users) if self.n_users else None
        return users, self.item_sizes(item_weights, self.total - for_users)

    def user_sizes(self, weights: Weights, total: int) -> Sizes:
        """Return (n_users,) sizes in proportion to weights, `total` in all."""
        return self._sizes(weights, total, self.user_widths)

    def item_sizes(self, weights: Weights, total: int) -> Sizes:
        """Return (n_items,) sizes in proportion to weights, `total` in all."""
        return self._sizes(weights, total, self.item_widths)

    def _sizes(self, weights: Weights, total: int, widths: int | None) -> Sizes:
        if widths is None:
            return project_sizes(weights, total, 1, self.d)
        return snap_sizes(weights, total, 1, self.d, widths)
