"""Magnitude pruning: trains a dense table and sets its smallest values to zero, wherever they are.

The baseline MagPrune of recsys-benchmark (Tran et al. 2024, arXiv 2406.17335), as in its public code: each table is
pruned separately, the k largest values of each row are protected, a ternary search on validation NDCG finds k in
0..floor(density * d), and nothing is trained after pruning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BudgetError
from edgerec.methods.base import Job, Method, check_user_share
from edgerec.models import BACKBONES, SizePlan, Vectors, check_ranges
from edgerec.training import SELECTION, FitResult, Step


def largest(values: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Return (n_rows, d) bool: the `count` largest values of each row, of equals the first. `count` is at most d."""
    if count == 0:
        return np.zeros(values.shape, np.bool_)
    least = np.partition(values, -count, axis=1)[:, -count, None]
    above, ties = values > least, values == least
    missing = count - above.sum(axis=1, keepdims=True)
    chosen: NDArray[np.bool_] = above | (ties & (np.cumsum(ties, axis=1) <= missing))
    return chosen


def check_protected(protected: int, n_values: int, n_rows: int) -> None:
    """Raise BudgetError if `protected` values a row are more than `n_values` in all."""
    if protected * n_rows > n_values:
        raise BudgetError(
            f"protecting {protected} values in each of {n_rows} rows takes more than the {n_values} values of their "
            f"budget; protect at most {n_values // n_rows}"
        )


def prune(matrix: NDArray[np.float32], n_values: int, protected: int) -> NDArray[np.float32]:
    """Return a copy with at most `n_values` non-zero values: the `protected` largest of each row, then the largest.

    Of equals the first by row and then by column stays. Zeros do not count, so that a row has fewer than `protected`
    values only if it had fewer before.

    Args:
        matrix: (n_rows, d), finite.

    Raises BudgetError if the protected values alone exceed `n_values`.
    """
    check_protected(protected, n_values, len(matrix))
    sizes = np.abs(matrix)
    chosen = largest(sizes, protected) & (sizes > 0)
    others = np.where(chosen, np.float32(-1), sizes).reshape(1, -1)
    remaining = min(n_values, matrix.size) - int(chosen.sum())
    chosen |= largest(others, remaining).reshape(matrix.shape)
    return np.where(chosen, matrix, np.float32(0))


def best_protection(score: Callable[[int], float], most: int) -> int:
    """Return the number in 0..`most` with the highest score, the smallest tried of equals, by ternary search.

    The search calls `score` about 5 ln(most) times instead of most + 1 times. It is exact for scores that rise to one
    peak and then fall; they may be constant before they rise, since protecting values that are not pruned anyway
    changes nothing. For other scores it returns the best of those tried.
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


_DEFAULT_PROTECTED = 1
"""Number of protected values a row if there is no validation part to choose it on: with 1, no row is empty."""


@dataclass(frozen=True)
class MagnitudeConfig:
    """Settings of magnitude pruning.

    Attributes:
        item_protected: number of the largest values of each item that are not pruned; None to choose it on validation,
            or 1 without a validation part.
        user_protected: the same of each user; ignored if users have no table.
        user_share: share of the budget for users, in (0, 1); None for their share of the rows.
    """

    item_protected: int | None = None
    user_protected: int | None = None
    user_share: float | None = None

    def __post_init__(self) -> None:
        """Raise SettingError and BudgetError for values out of range."""
        check_ranges(self, 0, 1e9, "item_protected", "user_protected")
        check_user_share(self.user_share)


class Magnitude(Method):
    """Prunes each table to a number of values that the budget gives, whatever k, the protected values of each row.

    Choices of ours, which the published code leaves open: the tables are pruned separately, since scores do not change
    if one is scaled up and the other down; items are searched first, with unpruned users, then users with the pruned
    items; the epoch is that of the best dense tables; a final model trained again on all of train is pruned with the
    same numbers and the same k. A budget in bytes covers positions too, a share or a parameter count values alone, as
    in the papers.
    """

    name: ClassVar[str] = "magnitude"
    # Rows of neighbours have their largest weights already, and the exporter prunes them to a size.
    backbones: ClassVar[frozenset[str]] = frozenset(BACKBONES) - {"neighbours"}
    config: ClassVar[type[MagnitudeConfig]] = MagnitudeConfig

    def fit(self, job: Job, config: MagnitudeConfig) -> FitResult:
        """Train dense tables and prune them.

        Raises BudgetError if the budget leaves less than one value a row, or less than the protected values.
        """
        sides = _stored_tables(job, config)
        result = job.fit(SizePlan(job.d), keep_chosen=True)
        pruned, chosen, history = result.vectors, result.chosen, list(result.history)
        found: dict[str, Any] = {}
        for side in sides:
            protected = side.protected
            if protected is None:
                protected = _DEFAULT_PROTECTED if chosen is None else _search_protected(job, side, chosen, history)
            found[side.setting] = protected
            pruned = side.pruned(pruned, protected)
            chosen = None if chosen is None else side.pruned(chosen, protected)
        return replace(
            result,
            vectors=pruned.with_history(job.train),
            validation={} if chosen is None else job.validate(chosen),
            history=history,
            chosen=chosen,
            method_config=replace(config, **found),
            sparse=True,
        )


@dataclass(frozen=True)
class _PrunedTable:
    """A stored table, and its limits.

    Attributes:
        name: 'item' or 'user'.
        rows, values: number of rows and of values after pruning.
        protected: protected values of each row; None if the config leaves it open.
    """

    name: str
    rows: int
    values: int
    protected: int | None

    @property
    def setting(self) -> str:
        """Name of the config's setting for the protected values."""
        return f"{self.name}_protected"

    def pruned(self, vectors: Vectors, protected: int) -> Vectors:
        """Return the vectors with this table pruned."""
        table = f"{self.name}s"
        changes: dict[str, Any] = {table: prune(getattr(vectors, table), self.values, protected)}
        return replace(vectors, **changes)


def _stored_tables(job: Job, config: MagnitudeConfig) -> list[_PrunedTable]:
    """Return the stored tables, items first. Raises BudgetError."""
    total = job.values(sparse=True)
    for_users = job.users_part(total, config.user_share)
    sides = [_PrunedTable("item", job.train.n_items, total - for_users, config.item_protected)]
    if job.user_table:
        sides.append(_PrunedTable("user", job.train.n_users, for_users, config.user_protected))
    for side in sides:
        check_protected(side.protected or 0, side.values, side.rows)
    return sides


def _search_protected(job: Job, side: _PrunedTable, vectors: Vectors, history: list[dict[str, Any]]) -> int:
    """Return the best number of protected values on validation; append each trial to `history`."""
    most = side.values // side.rows
    numbers = count(1)

    def score(protected: int) -> float:
        value = job.validate(side.pruned(vectors, protected))[SELECTION]
        values: dict[str, Any] = {side.setting: protected, SELECTION: value}
        history.append({"phase": "prune", **values})
        job.progress(Step("prune", 1, 1, next(numbers), most + 1, values))
        return value

    return best_protection(score, most)
