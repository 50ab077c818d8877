"""Magnitude pruning: a dense table is trained, and its smallest values are set to zero, wherever they stand.

The baseline MagPrune of recsys-benchmark (Tran et al. 2024, arXiv 2406.17335), as its public code has it: each table is
pruned on its own, each row's largest k values are protected, k in 0..floor(density * d) is found by a ternary search
on validation NDCG, and nothing is trained after pruning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BudgetError
from edgerec.methods.base import Job, check_user_share
from edgerec.models import SizePlan, Vectors, check_range
from edgerec.training import SELECTION, FitResult, Step


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


_UNSEARCHED = 1
"""Protected values a row where nothing was held back to choose by: no row is then empty."""


@dataclass(frozen=True)
class MagnitudeConfig:
    """What is protected, and how the budget is shared.

    Attributes:
        item_protected: each item keeps at least so many of its values, the largest; None is chosen on validation, or
            1 where nothing is held back.
        user_protected: the same of each user; not read where users have no table.
        user_share: of the budget that goes to users, in (0, 1); None for their share of the rows.
    """

    item_protected: int | None = None
    user_protected: int | None = None
    user_share: float | None = None

    def __post_init__(self) -> None:
        """Raises SettingError and BudgetError for values out of range."""
        check_range("item_protected", self.item_protected, 0, 1e9)
        check_range("user_protected", self.user_protected, 0, 1e9)
        check_user_share(self.user_share)


class Magnitude:
    """Keeps the largest values of each table, the same number for every k.

    Choices of ours, which the recipe leaves open: the tables are not pruned as one, since scores stay the same where
    one is scaled up and the other down; items are searched first, beside whole users, then users beside the pruned
    items; the epoch is that of the best dense tables; where the final model is trained again on all of train, it is
    pruned to the same numbers with the k's that were found. A budget in bytes pays for positions too, a share or a
    parameter count for values alone, as in the papers.
    """

    name: ClassVar[str] = "magnitude"
    config: ClassVar[type[MagnitudeConfig]] = MagnitudeConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf", "svd"})
    budgeted: ClassVar[bool] = True

    def fit(self, job: Job, config: MagnitudeConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row, or less than what is protected."""
        sides = _sides(job, config)
        result = job.fit(SizePlan(job.d), keep_chosen=True)
        shipped, chosen, history = result.vectors, result.chosen, list(result.history)
        found: dict[str, Any] = {}
        for side in sides:
            protected = side.protected
            if protected is None:
                protected = _UNSEARCHED if chosen is None else _searched(job, side, chosen, history)
            found[side.setting] = protected
            shipped = side.pruned(shipped, protected)
            chosen = None if chosen is None else side.pruned(chosen, protected)
        return replace(
            result,
            vectors=shipped.with_history(job.train),
            validation={} if chosen is None else job.validate(chosen),
            history=history,
            chosen=chosen,
            method_config=replace(config, **found),
            sparse=True,
        )


@dataclass(frozen=True)
class _PrunedTable:
    """One of the stored tables, and what it may keep.

    Attributes:
        name: 'item' or 'user'.
        rows, values: of the table as a whole.
        protected: values that each row keeps; None where the config leaves it open.
    """

    name: str
    rows: int
    values: int
    protected: int | None

    @property
    def setting(self) -> str:
        """The config's name for what is protected."""
        return f"{self.name}_protected"

    def pruned(self, vectors: Vectors, protected: int) -> Vectors:
        """The vectors with this table pruned."""
        table = f"{self.name}s"
        changes: dict[str, Any] = {table: prune(getattr(vectors, table), self.values, protected)}
        return replace(vectors, **changes)


def _sides(job: Job, config: MagnitudeConfig) -> list[_PrunedTable]:
    """The tables that are stored, the items first. Raises BudgetError."""
    total = job.values(sparse=True)
    for_users = job.users_part(total, config.user_share)
    sides = [_PrunedTable("item", job.train.n_items, total - for_users, config.item_protected)]
    if job.user_table:
        sides.append(_PrunedTable("user", job.train.n_users, for_users, config.user_protected))
    for side in sides:
        check_protected(side.protected or 0, side.values, side.rows)
    return sides


def _searched(job: Job, side: _PrunedTable, vectors: Vectors, history: list[dict[str, Any]]) -> int:
    """What protection of the side is best on validation; each try is added to `history`."""
    most = side.values // side.rows
    tries = count(1)

    def score(protected: int) -> float:
        value = job.validate(side.pruned(vectors, protected))[SELECTION]
        told: dict[str, Any] = {side.setting: protected, SELECTION: value}
        history.append({"phase": "prune", **told})
        job.progress(Step("prune", 1, 1, next(tries), most + 1, told))
        return value

    return best_protection(score, most)
