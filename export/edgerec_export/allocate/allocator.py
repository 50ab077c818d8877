"""Allocation of a byte budget to the dimensions of rows, and their bits, by the rate and distortion of scores.

The distortion of a table is the mean squared error of its scores: with w_j the weight of a value's squared error
(`Importance`), dropping dimension j of row v costs v_j^2 w_j, and storing it with step D costs D^2 / 12 * w_j
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
from edgerec.tables.codes import LARGEST, damped
from edgerec_export.allocate.importance import Importance, item_importance, user_importance, value_effects
from edgerec_export.layouts import TableAllocation
from edgerec_export.source import Source, near_one
from edgerec_export.thin import is_thin, of_largest
from edgerec_export.values import BYTES, DAMPING, chunks

ROWS_AT_ONCE = 1 << 15
HALVINGS = 40
"""Maximum number of bisection steps for lambda."""
LOWEST, HIGHEST = 1e-30, 1e30
"""Range of lambda."""
EXACT = 0.998
"""Smallest share of a budget that is spent."""
SAMPLE = 1 << 12
"""Approximate number of rows of a large table on which lambda is searched first, and codings are compared."""
NEAR = 1.03
"""First step from the lambda of a sample to that of the table."""
CACHED_BYTES = 1 << 28
"""Size of a table's distortions that are cached from one lambda to the next."""
GAUSSIAN = {"int2": 0.1188, "int4": 0.01154}
"""Mean squared error of codes in the best steps, as a share of the variance of normally distributed values (Max, IRE
Transactions on Information Theory 6, 1960, table II, of 4 and 16 output levels with equal steps)."""


@dataclass(frozen=True)
class Allocation:
    """The parts of a byte budget that items and users get.

    Attributes:
        items, users: the parts of both tables.
        whole: True if both tables are stored without truncation, so that more bytes would change nothing.
        twice: the distortion that both parts count, of dimensions that neither row of a score stores.
    """

    items: TableAllocation
    users: TableAllocation | None
    whole: bool = False
    twice: float = 0.0

    @property
    def distortion(self) -> float:
        return self.items.distortion + (0.0 if self.users is None else self.users.distortion) - self.twice

    @property
    def nbytes(self) -> float:
        return self.items.nbytes + (0.0 if self.users is None else self.users.nbytes)


def rotated(source: Source) -> Source:
    """Return tables with the same scores and their dimensions in order of importance, if both tables are dense.

    This is a change of basis, which also scales dimensions; `edgerec_export.layouts.rotation` is the orthogonal one.

    With U = Q_u R_u, V = Q_v R_v and R_u R_v' = P S W', the tables U R_u^-1 P S^1/2 and V R_v^-1 W S^1/2 have the same
    scores, and their first s dimensions are the best approximation of rank s (Eckart and Young 1936). Without a user
    table the items are rotated to their principal axes. Prefix and sparse tables are returned unchanged, since they
    would lose their zeros, and so are tables of which apps pass vectors.
    """
    if source.takes_vectors and source.users is None:
        return source
    if source.items.kind != "dense" or (source.users is not None and source.users.kind != "dense"):
        return source
    of_items = _factor(source.items)
    if source.users is None:
        axes = np.linalg.eigh(of_items.T @ of_items)[1][:, ::-1]
        return turned(source, axes)
    of_users = _factor(source.users)
    left, s, right = np.linalg.svd(of_users @ of_items.T)
    root = np.sqrt(s)
    users = _multiplied(source.users, np.linalg.solve(of_users, left) * root)
    items = _multiplied(source.items, np.linalg.solve(of_items, right.T) * root)
    return replace(source, items=items, users=users)


def turned(source: Source, axes: NDArray[np.float64]) -> Source:
    """Return tables with the same scores in the basis `axes` (d, d), which are orthonormal without a user table."""
    items = _multiplied(source.items, axes)
    if source.users is None:
        return replace(source, items=items, encoder=None if source.encoder is None else source.encoder.turned(axes))
    return replace(source, items=items, users=_multiplied(source.users, np.asarray(np.linalg.inv(axes).T, np.float64)))


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


def _weight_of_errors(gram: NDArray[np.float64], feedback: bool) -> NDArray[np.float64]:
    """Return the (d,) mean weight of the squared error of a value, in rows of 1 to d rotated values.

    The rotation spreads errors evenly over the eigenvectors of G, whose mean weight is the mean eigenvalue. Error
    feedback moves them to where G is small, which leaves the geometric mean. For dense int4+int2 of ML-1M, iALS with
    users, at 4, 8 and 16 bytes a row, root mean squared errors of .067, .053 and .032 are expected, and .068, .053 and
    .032 are measured.
    """
    widths = np.arange(1, len(gram) + 1)
    if not feedback:
        return np.asarray(np.cumsum(np.diag(gram)) / widths, np.float64)
    root = np.linalg.cholesky(damped(gram, DAMPING))
    return np.asarray(np.exp(2 * np.cumsum(np.log(np.diag(root))) / widths), np.float64)


class _RateCurves:
    """The curves of distortion against bytes of every `step`th row of a table, as figures of the whole table."""

    def __init__(self, table: Table, importance: Importance, step: int = 1, *, feedback: bool) -> None:
        self._table, self._importance = table, importance
        self._rows = np.arange(0, table.n_rows, step)
        self._most = _most(table)[self._rows]
        self._times = table.n_rows / self._rows.size
        self._cached: dict[tuple[int, str, bool], NDArray[np.float32]] = {}
        self._weight = _weight_of_errors(importance.gram, feedback)
        self.widest = int(self._most.max())

    def share(self, price: float, precisions: Sequence[str], width: int | None) -> TableAllocation:
        """Return the allocation of each row that minimises distortion + price * bytes.

        Args:
            price: the Lagrange multiplier lambda, the distortion that a byte is worth.
            precisions: of which each row gets one.
            width: common number of dimensions; shorter rows are stored whole. None to choose it for each row.
        """
        n, dimensions = self._rows.size, np.arange(self._table.d)
        taken = np.array([BYTES[precision] * (dimensions + 1.0) for precision in precisions])
        sizes, which, distortion, nbytes = np.empty(n, np.int64), np.zeros(n, np.int8), 0.0, 0.0
        for part in chunks(n, ROWS_AT_ONCE):
            most = self._most[part, None]
            best, lost = np.full(len(most), np.inf, np.float32), np.empty(len(most), np.float32)
            for number, precision in enumerate(precisions):
                losses = self._losses(part, precision, width is not None)
                cost = losses + (price * taken[number]).astype(np.float32)
                if width is not None:
                    cost[dimensions < np.minimum(most, width) - 1] = np.inf
                    cost[:, width:] = np.inf
                size = cost.argmin(1)
                here = np.take_along_axis(cost, size[:, None], 1)[:, 0]
                better = here < best
                best = np.where(better, here, best)
                lost = np.where(better, np.take_along_axis(losses, size[:, None], 1)[:, 0], lost)
                sizes[part] = np.where(better, size + 1, sizes[part]) if number else size + 1
                which[part] = np.where(better, number, which[part])
            each = taken[which[part], sizes[part] - 1]
            distortion += float(lost.sum(dtype=np.float64))
            nbytes += float(each.sum())
        return TableAllocation(sizes, tuple(precisions), which, distortion * self._times, nbytes * self._times)

    def dropped(self, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the (d,) sum over rows of their share times the square of each dimension past their size."""
        total = np.zeros(self._table.d)
        for part in chunks(self._rows.size, ROWS_AT_ONCE):
            rows = self._rows[part]
            squares = np.square(self._table.rows(rows)) * (np.arange(self._table.d) >= sizes[part, None])
            total += self._importance.shares[rows] @ squares
        return total * self._times

    def _losses(self, part: slice, precision: str, rotated: bool) -> NDArray[np.float32]:
        """Return the (n, d) distortion of each size of these rows; the first `CACHED_BYTES` of them are cached."""
        key = part.start, precision, rotated and precision in GAUSSIAN
        if key in self._cached:
            return self._cached[key]
        rows = self._rows[part]
        values, weight = self._table.rows(rows), self._importance.by_value(rows)
        energy = np.square(values) * weight
        stored = np.cumsum(energy, axis=1)
        lost: NDArray[np.float32] = np.maximum(energy.sum(1, keepdims=True) - stored, 0)
        if rotated and precision in GAUSSIAN:
            within = np.cumsum(np.square(values), axis=1) * self._importance.shares[rows, None]
            lost += (GAUSSIAN[precision] * within * self._weight).astype(np.float32)
        elif precision == "int2":  # a wide range is clipped to the best for values as after a rotation
            lost += GAUSSIAN["int2"] * stored
        elif precision in LARGEST:
            step = np.abs(values).max(1, keepdims=True) / LARGEST[precision]
            lost += np.square(step) / 12 * np.cumsum(weight, axis=1)
        lost[np.arange(self._table.d) >= self._most[part, None]] = np.inf
        if sum(one.nbytes for one in self._cached.values()) + lost.nbytes <= CACHED_BYTES:
            self._cached[key] = lost
        return lost


class Allocator:
    """Allocations of byte budgets to the rows of a source, each of which gets one of some precisions."""

    def __init__(self, source: Source, *, users: bool) -> None:
        """Prepare the allocations; `users` is True if the user table is in the bundle."""
        self._source, self._users = near_one(source), users
        tables = [(self._source.items, item_importance(self._source))]
        if users and self._source.users is not None:
            tables.append((self._source.users, user_importance(self._source)))
        rows = [table.n_rows for table, _ in tables]
        feedback = self._source.users is not None  # the rounding of tables without users has none
        self._sides = [_RateCurves(*one, feedback=feedback) for one in tables]
        self._samples = [_RateCurves(*one, -(-one[0].n_rows // SAMPLE), feedback=feedback) for one in tables]
        self._few = max(rows) <= SAMPLE
        self._bytes: dict[tuple[bool, tuple[str, ...], int | None], dict[float, float]] = {}

    def smallest(self, precisions: Sequence[str]) -> Allocation:
        """Return the allocation of one value a row; its distortion is nan."""
        return cut(self._source, min(precisions, key=BYTES.__getitem__), 1, users=self._users)

    def within(self, nbytes: float, precisions: Sequence[str], width: int | None = None) -> Allocation:
        """Return the allocation of `nbytes` of values with the least distortion; the smallest if even that is larger.

        Args:
            precisions: of which each row gets one.
            width: common number of dimensions; shorter rows are stored whole. None to choose it for each row.
        """
        near = None if self._few else self._search(self._samples, nbytes, precisions, width)[0]
        return _counted_once(self._sides, self._search(self._sides, nbytes, precisions, width, near)[1])

    def estimate(self, nbytes: float, precisions: Sequence[str], width: int | None = None) -> float:
        """Return the approximate distortion of `within`, from a sample of rows."""
        return _counted_once(self._samples, self._search(self._samples, nbytes, precisions, width)[1]).distortion

    def _search(
        self,
        sides: Sequence[_RateCurves],
        nbytes: float,
        precisions: Sequence[str],
        width: int | None,
        near: float | None = None,
    ) -> tuple[float, Allocation]:
        """Return the price and allocation of a budget; `near` is a price that is expected to be close."""
        bytes_at = self._bytes.setdefault((sides is self._sides, tuple(precisions), width), {})

        def at(price: float) -> Allocation:
            shares = [side.share(price, precisions, width) for side in sides]
            found = Allocation(shares[0], shares[1] if len(shares) > 1 else None)
            bytes_at[price] = found.nbytes
            return found

        if bytes_at.get(0.0, 0.0) <= nbytes and (whole := at(0.0)).nbytes <= nbytes:
            return 0.0, replace(whole, whole=width is None or all(side.widest <= width for side in sides))
        # Prices that other budgets needed narrow the search.
        low = max((price for price, taken in bytes_at.items() if price and taken > nbytes), default=LOWEST)
        high = min((price for price, taken in bytes_at.items() if taken <= nbytes), default=max(1.0, low))
        if near and low < near < high:
            step = NEAR
            while (here := at(near)).nbytes > nbytes and near < HIGHEST:
                low, near, step = near, near * step, step * step
            high, found = near, here
            while low < high / step and found.nbytes <= EXACT * nbytes:
                if (here := at(high / step)).nbytes > nbytes:
                    low = high / step
                else:
                    high, found, step = high / step, here, step * step
        else:
            while (found := at(high)).nbytes > nbytes and high < HIGHEST:
                low, high = high, high * 1e4
        for _ in range(HALVINGS):
            if found.nbytes > EXACT * nbytes or high / low < 1.001:
                break
            middle = float(np.sqrt(low * high))
            if (here := at(middle)).nbytes > nbytes:
                low = middle
            else:
                high, found = middle, here
        return high, found


def _counted_once(sides: Sequence[_RateCurves], found: Allocation) -> Allocation:
    """Return an allocation without what both of its tables count of dimensions that neither row of a score stores."""
    if found.users is None:
        return found
    dropped = [side.dropped(share.sizes) for side, share in zip(sides, (found.items, found.users), strict=True)]
    return replace(found, twice=float(dropped[0] @ dropped[1]))


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
    if is_thin(source.items) and source.users is None:
        return replace(source, items=of_largest(source.items, value_effects(near), int(n_values)))
    sides = [("items", near.items, item_importance)]
    if near.users is not None:
        sides.append(("users", near.users, user_importance))
    effects: dict[str, NDArray[np.float32]] = {}
    protected: dict[str, NDArray[np.bool_]] = {}
    for name, own, importance_of in sides:
        importance = importance_of(near)
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
