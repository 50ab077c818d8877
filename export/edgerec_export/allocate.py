"""Allocation of a byte budget to the dimensions of rows, and their bits, by the rate and distortion of scores.

The distortion of a table is the mean squared error of its scores: with w_j the weight of a value's squared error
(`importance`), dropping dimension j of row v costs v_j^2 w_j, and storing it with step D costs D^2 / 12 * w_j
(dimensions taken as uncorrelated). Each row minimises distortion + lambda * bytes, with the lambda that spends the
budget, which is a point of the same slope on the rate-distortion curve of each row (Shoham and Gersho 1988).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import DenseTable, SparseTable, Table
from edgerec_export.importance import Importance, item_importance, user_importance
from edgerec_export.layouts import TableAllocation
from edgerec_export.source import Source, near_one
from edgerec_export.values import BYTES, LARGEST, chunks

ROWS_AT_ONCE = 1 << 15
HALVINGS = 40
"""Maximum number of bisection steps for lambda."""


@dataclass(frozen=True)
class Allocation:
    """The parts of a byte budget that items and users get.

    Attributes:
        items, users: the parts of both tables.
        whole: True if both tables are stored without truncation, so that more bytes would change nothing.
    """

    items: TableAllocation
    users: TableAllocation | None
    whole: bool = False

    @property
    def distortion(self) -> float:
        return self.items.distortion + (0.0 if self.users is None else self.users.distortion)

    @property
    def nbytes(self) -> float:
        return self.items.nbytes + (0.0 if self.users is None else self.users.nbytes)


def rotated(source: Source) -> Source:
    """Return tables with the same scores and their dimensions in order of importance, if both tables are dense.

    This is a change of basis, which also scales dimensions; `edgerec_export.layouts.rotation` is the orthogonal one.

    With U = Q_u R_u, V = Q_v R_v and R_u R_v' = P S W', the tables U R_u^-1 P S^1/2 and V R_v^-1 W S^1/2 have the same
    scores, and their first s dimensions are the best approximation of rank s (Eckart and Young 1936). Without a user
    table the items are rotated to their principal axes. Prefix and sparse tables are returned unchanged, since they
    would lose their zeros.
    """
    if source.items.kind != "dense" or (source.users is not None and source.users.kind != "dense"):
        return source
    of_items = _factor(source.items)
    if source.users is None:
        axes = np.linalg.eigh(of_items.T @ of_items)[1][:, ::-1]
        encoder = None if source.encoder is None else source.encoder.turned(axes)
        return replace(source, items=_multiplied(source.items, axes), encoder=encoder)
    of_users = _factor(source.users)
    left, s, right = np.linalg.svd(of_users @ of_items.T)
    root = np.sqrt(s)
    users = _multiplied(source.users, np.linalg.solve(of_users, left) * root)
    items = _multiplied(source.items, np.linalg.solve(of_items, right.T) * root)
    return replace(source, items=items, users=users)


def _factor(table: Table) -> NDArray[np.float64]:
    """Return the (d, d) upper triangular R with T'T = R'R for a table T, damped in case columns of T are dependent."""
    product = np.zeros((table.d, table.d))
    for part in chunks(table.n_rows, ROWS_AT_ONCE):
        rows = table.rows(np.arange(part.start, part.stop)).astype(np.float64)
        product += rows.T @ rows
    damped = product + np.eye(table.d) * (1e-9 * np.trace(product) / table.d or 1e-30)
    return np.asarray(np.linalg.cholesky(damped).T, np.float64)


def _multiplied(table: Table, matrix: NDArray[np.float64]) -> DenseTable:
    parts = [table.rows(np.arange(p.start, p.stop)) @ matrix for p in chunks(table.n_rows, ROWS_AT_ONCE)]
    return DenseTable(np.concatenate(parts).astype(np.float32))


class _RateCurves:
    """The curves of distortion against bytes of one table."""

    def __init__(self, table: Table, importance: Importance, precisions: Sequence[str]) -> None:
        self._table, self._importance, self._precisions = table, importance, tuple(precisions)
        self._most = _most(table)
        self.widest = int(self._most.max())

    def share(self, price: float, width: int | None) -> TableAllocation:
        """Return the allocation of each row that minimises distortion + price * bytes.

        Args:
            price: the Lagrange multiplier lambda, the distortion that a byte is worth.
            width: common number of dimensions; shorter rows are stored whole. None to choose it for each row.
        """
        n = self._table.n_rows
        sizes, which, distortion, nbytes = np.empty(n, np.int64), np.empty(n, np.int8), 0.0, 0.0
        for part in chunks(n, ROWS_AT_ONCE):
            values = self._table.rows(np.arange(part.start, part.stop))
            weight = self._importance.by_value(part)
            energy = np.square(values) * weight
            tail = energy.sum(1, keepdims=True) - np.cumsum(energy, axis=1)
            largest = np.abs(values).max(1, keepdims=True)
            spent = np.cumsum(weight, axis=1)
            best = np.full(len(values), np.inf)
            for number, precision in enumerate(self._precisions):
                step = largest / LARGEST[precision] if precision in LARGEST else largest * 0
                lost = np.maximum(tail, 0) + np.square(step) / 12 * spent
                cost = lost + price * BYTES[precision] * np.arange(1, self._table.d + 1)
                most = self._most[part, None]
                cost[np.arange(self._table.d) >= most] = np.inf
                if width is not None:
                    cost[np.arange(self._table.d) < np.minimum(most, width) - 1] = np.inf
                    cost[:, width:] = np.inf
                size = cost.argmin(1)
                here = np.take_along_axis(cost, size[:, None], 1)[:, 0]
                better = here < best
                best = np.where(better, here, best)
                sizes[part] = np.where(better, size + 1, sizes[part])
                which[part] = np.where(better, number, which[part])
            each = np.array([BYTES[precision] for precision in self._precisions])[which[part]] * sizes[part]
            distortion += float(best.sum() - price * each.sum())
            nbytes += float(each.sum())
        return TableAllocation(sizes, self._precisions, which, distortion, nbytes)


def allocate(
    source: Source, precisions: Sequence[str], nbytes: float, *, users: bool, width: int | None = None
) -> Allocation:
    """Return the allocation of `nbytes` of values with the least distortion; each row gets one of the precisions.

    The smallest allocation is returned if even that exceeds `nbytes`.

    Args:
        width: common number of dimensions; shorter rows are stored whole. None to choose it for each row.
    """
    source = near_one(source)
    sides = [_RateCurves(source.items, item_importance(source), precisions)]
    if users and source.users is not None:
        sides.append(_RateCurves(source.users, user_importance(source), precisions))

    def at(price: float) -> Allocation:
        shares = [side.share(price, width) for side in sides]
        return Allocation(shares[0], shares[1] if len(shares) > 1 else None)

    if (whole := at(0.0)).nbytes <= nbytes:
        return replace(whole, whole=width is None or all(side.widest <= width for side in sides))
    low, high = 1e-30, 1.0
    while (found := at(high)).nbytes > nbytes and high < 1e30:
        low, high = high, high * 1e4
    for _ in range(HALVINGS):
        middle = float(np.sqrt(low * high))
        if (here := at(middle)).nbytes > nbytes:
            low = middle
        else:
            high, found = middle, here
        if found.nbytes > 0.998 * nbytes or high / low < 1.001:
            break
    return found


def cut(source: Source, precision: str, width: int, *, users: bool) -> Allocation:
    """Return the allocation of the first `width` dimensions of every row; its distortion is nan."""

    def share(table: Table) -> TableAllocation:
        sizes = np.minimum(_most(table), width)
        return TableAllocation(
            sizes, (precision,), np.zeros(len(sizes), np.int8), math.nan, float(sizes.sum()) * BYTES[precision]
        )

    tables = [source.items, *([source.users] if users and source.users is not None else [])]
    shares = [share(table) for table in tables]
    whole = all(int(_most(table).max()) <= width for table in tables)
    return Allocation(shares[0], shares[1] if len(shares) > 1 else None, whole)


def _most(table: Table) -> NDArray[np.int64]:
    """Return the (n_rows,) maximum number of dimensions to store of each row: its size, or d for a sparse table."""
    return table.sizes() if table.kind != "sparse" else np.full(table.n_rows, table.d)


def pruned(source: Source, n_values: float) -> Source:
    """Return the source with sparse tables of the `n_values` values that affect scores most, at least one a row.

    A source that has at most `n_values` values is returned unchanged.
    """
    tables = {"items": source.items} | ({} if source.users is None else {"users": source.users})
    if sum(table.n_values for table in tables.values()) <= n_values:
        return source
    near = near_one(source)
    effects: dict[str, NDArray[np.float32]] = {}
    protected: dict[str, NDArray[np.bool_]] = {}
    for name in tables:
        own, importance = near.items, item_importance(near)
        if name == "users" and near.users is not None:
            own, importance = near.users, user_importance(near)
        effect = np.square(own.dense()) * importance.by_value(slice(None))
        protected[name] = np.zeros(effect.shape, bool)
        protected[name][np.arange(len(effect)), effect.argmax(1)] = True
        effects[name] = effect
    free = max(int(n_values) - sum(table.n_rows for table in tables.values()), 0)
    rest = np.concatenate([effects[name][~protected[name]] for name in tables])
    limit = np.partition(rest, rest.size - free - 1)[rest.size - free - 1] if free < rest.size else -1.0
    mask = {name: protected[name] | (effects[name] > limit) for name in tables}
    smaller = {name: SparseTable.from_dense(table.dense(), mask[name]) for name, table in tables.items()}
    return replace(source, items=smaller["items"], users=smaller.get("users"))
