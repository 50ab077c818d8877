"""Which values of a table are worth keeping: the largest of all, after the largest of each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BudgetError


def largest(values: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """(n_rows, d) bool: the `count` largest values of each row, of equals the first. `count` is at most d."""
    if count == 0:
        return np.zeros(values.shape, np.bool_)
    least = np.partition(values, -count, axis=1)[:, -count, None]
    above, ties = values > least, values == least
    room = count - above.sum(axis=1, keepdims=True)
    kept: NDArray[np.bool_] = above | (ties & (np.cumsum(ties, axis=1) <= room))
    return kept


def check_protected(protected: int, n_values: int, n_rows: int) -> None:
    """Raise BudgetError where `protected` values a row are more than `n_values` in all."""
    if protected * n_rows > n_values:
        raise BudgetError(
            f"protecting {protected} values in each of {n_rows} rows takes more than the {n_values} values of their "
            f"budget; protect at most {n_values // n_rows}"
        )


def prune(matrix: NDArray[np.float32], n_values: int, protected: int) -> NDArray[np.float32]:
    """A copy with at most `n_values` values that are not zero: each row's `protected` largest by magnitude, and the
    largest of all others.

    Of equals the first by row and then by column stays. A zero takes no place, so a row may keep fewer than
    `protected` only where it has fewer.

    Args:
        matrix: (n_rows, d), finite.

    Raises BudgetError where protection alone would take more.
    """
    check_protected(protected, n_values, len(matrix))
    sizes = np.abs(matrix)
    kept = largest(sizes, protected) & (sizes > 0)
    others = np.where(kept, np.float32(-1), sizes).reshape(1, -1)
    room = min(n_values, matrix.size) - int(kept.sum())
    kept |= largest(others, room).reshape(matrix.shape)
    return np.where(kept, matrix, np.float32(0))


def best_protection(score: Callable[[int], float], most: int) -> int:
    """The number in 0..`most` with the highest score, of equals the smallest that was tried, by ternary search.

    It asks about 5 ln(most) times instead of most + 1 times, and is exact where scores rise to one peak and fall after
    it; they may stay level before they rise, for up to what each row keeps anyway protection changes nothing. Where
    they do otherwise, the best of those that were asked for is returned.
    """
    tried: dict[int, float] = {}

    def at(k: int) -> float:
        if k not in tried:
            tried[k] = score(k)
        return tried[k]

    low, high = 0, most
    while high - low > 2:
        third = (high - low) // 3
        left, right = low + third, high - third
        if at(left) <= at(right):
            low = left + 1
        else:
            high = right - 1
    for k in range(low, high + 1):
        at(k)
    return max(sorted(tried), key=at)
