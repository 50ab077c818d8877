"""Integer row sizes that meet a budget exactly, with few distinct ones, and its split between users and items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import BudgetError

_LEAST_WEIGHT = 1e-300
"""Smallest weight over the largest: sizes over it are finite."""


def project_sizes(weights: ArrayLike, total: int, lo: int, hi: int) -> NDArray[np.int64]:
    """Return integer sizes in lo..hi that follow `weights` and sum to `total` exactly.

    Finds tau with sum clip(tau * weights, lo, hi) = total from sums of the sorted weights, rounds down, and gives the
    missing units to the largest remainders; a larger weight never gets a smaller size. This is the projection that BET,
    SCALL and CIESS share here: their published rounding can miss the budget by 5 %.

    Args:
        weights: (n,) positive and finite.
        total: n * lo <= total <= n * hi.

    Raises:
        BudgetError: weights that are not positive and finite, or a total that no sizes can meet.
    """
    weight = np.asarray(weights, np.float64)
    n = weight.size
    if weight.ndim != 1 or n == 0:
        raise BudgetError(f"sizes need one weight a row for at least one row, got shape {weight.shape}")
    if not (np.isfinite(weight).all() and (weight > 0).all()):
        raise BudgetError("weights must be positive and finite")
    if not 0 <= lo <= hi or not n * lo <= total <= n * hi:
        raise BudgetError(f"{n} sizes in {lo}..{hi} sum to {n * lo}..{n * hi}; {total} cannot be met")
    weight = np.maximum(weight / weight.max(), _LEAST_WEIGHT)
    exact = np.clip(_factor(weight, total, lo, hi) * weight, lo, hi) if hi > 0 else np.zeros(n)
    sizes: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    missing = total - int(sizes.sum())
    # More than one round only where rounding noise hides units.
    while missing > 0:
        rising = _largest(exact - sizes, weight, np.flatnonzero(sizes < hi), missing)
        sizes[rising] += 1
        missing -= rising.size
    return sizes


def _largest(
    remainders: NDArray[np.float64], weight: NDArray[np.float64], rows: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Return those of `rows` with the `count` largest remainders; of equal ones by weight, then by place."""
    if count >= rows.size:
        return rows
    own = remainders[rows]
    least = np.partition(own, -count)[-count]
    above, equal = rows[own > least], rows[own == least]
    by_weight = equal[np.argsort(-weight[equal], kind="stable")]
    return np.concatenate([above, by_weight[: count - above.size]])


def _factor(weight: NDArray[np.float64], total: int, lo: int, hi: int) -> float:
    """Return the tau with sum clip(tau * weight, lo, hi) = total.

    The sum is linear in tau between those at which a row leaves `lo` or reaches `hi`: the two around the total are
    found by bisection. Sums begin with the smallest weights, so that large ones do not cancel them.
    """
    ordered = np.sort(weight)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])

    def between(tau: float) -> tuple[float, float]:
        """Return sums of the rows at a bound, and of the weights of the others, for a tau."""
        low, high = np.searchsorted(ordered, [lo / tau, hi / tau])
        return lo * float(low) + hi * float(weight.size - high), float(sums[high] - sums[low])

    # The smallest first; two sorted runs, which a stable sort merges.
    bends = np.sort(np.concatenate([lo / ordered[::-1], hi / ordered[::-1]]), kind="stable")
    bends = np.concatenate([[0.0], bends[ordered.size :]]) if lo == 0 else bends
    below, above = 0, len(bends) - 1
    while above - below > 1:
        middle = (below + above) // 2
        fixed, free = between(bends[middle])
        below, above = (below, middle) if fixed + bends[middle] * free > total else (middle, above)
    fixed, free = between((bends[below] + bends[above]) / 2)
    return float(np.clip((total - fixed) / free, bends[below], bends[above])) if free > 0 else float(bends[below])


def merge_sizes(sizes: ArrayLike, most: int) -> NDArray[np.int64]:
    """Return the at most `most` widths that pad `sizes` the least; a row takes the smallest width that holds it.

    Exact, by dynamic programming over the distinct sizes. Returns fewer widths if fewer suffice.

    Args:
        sizes: (n,) positive integers.
        most: 1 or more.

    Returns:
        The widths, ascending.
    """
    return width_choices(sizes, most)[-1]


def width_choices(sizes: ArrayLike, most: int) -> list[NDArray[np.int64]]:
    """Return, for 1, 2, ... up to `most` widths, those that pad the least (see `merge_sizes`)."""
    distinct, counts = np.unique(np.asarray(sizes, np.int64), return_counts=True)
    m = distinct.size
    rows = np.concatenate([[0], np.cumsum(counts)])
    # cost[j] over the first j distinct sizes with the widths so far; the last width is always distinct[j - 1].
    cost = np.full(m + 1, np.inf)
    cost[0] = 0
    previous: list[NDArray[np.int64]] = []
    choices: list[NDArray[np.int64]] = []
    for _ in range(min(most, m)):
        # step[i, j]: sizes i..j-1 share the width distinct[j - 1]
        step = cost[:, None] + (rows[None, 1:] - rows[:, None]) * distinct[None, :]
        step[np.arange(m + 1)[:, None] > np.arange(m)[None, :]] = np.inf
        best = step.argmin(0)
        previous.append(best)
        cost = np.concatenate([[np.inf], step[best, np.arange(m)]])
        choices.append(_trace(previous, distinct))
    return choices


def _trace(previous: list[NDArray[np.int64]], distinct: NDArray[np.int64]) -> NDArray[np.int64]:
    widths, end = [], distinct.size
    for best in reversed(previous):
        widths.append(distinct[end - 1])
        end = int(best[end - 1])
    return np.array(widths[::-1], np.int64)


def snap_sizes(weights: ArrayLike, total: int, lo: int, hi: int, most: int = 16) -> NDArray[np.int64]:
    """Return sizes as `project_sizes` does, with at most `most` distinct values and a sum of at most `total`.

    A table of few widths is stored without padding. The projected total shrinks until the merged sizes fit; the rest
    of the budget moves the heaviest rows up to their next width.

    Raises BudgetError as `project_sizes` does.
    """
    weight = np.asarray(weights, np.float64)
    sizes = project_sizes(weight, total, lo, hi)
    low, high = weight.size * lo, total
    best = np.full(weight.size, lo, np.int64)
    while low <= high:
        middle = (low + high + 1) // 2
        sizes = project_sizes(weight, middle, lo, hi)
        widths = merge_sizes(sizes, most)
        merged = widths[np.searchsorted(widths, sizes)]
        if merged.sum() <= total:
            low, best = middle + 1, merged
        else:
            high = middle - 1
    return _spend(best, weight, total)


def _spend(sizes: NDArray[np.int64], weight: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Move rows to their next width while the total allows, the heaviest of each width first."""
    widths = np.unique(sizes)
    spent = sizes.copy()
    for lower, upper in zip(widths[-2::-1], widths[:0:-1], strict=True):
        capacity = (total - int(spent.sum())) // int(upper - lower)
        at = np.flatnonzero(sizes == lower)
        rising = at[np.argsort(-weight[at], kind="stable")][:capacity]
        spent[rising] = upper
    return spent


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
        """Number of rows."""
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
