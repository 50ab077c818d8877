"""Where a table grows: gradients of inactive values, summed since the mask last changed, the strongest of each row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.sparse.table import ActiveTable, Floats, Rows
from edgerec.models import State
from edgerec.tables.checks import narrowest

_BLOCK = 1024
"""Rows that are summed at once: what they need beside is 12 bytes a dimension of each."""


class Accumulator:
    """Sums of the gradients of inactive values, with their signs: what pulls one way counts, what wavers does not.

    A row keeps its `slots` strongest sums, so that all hold at most n_rows * slots of the n_rows * d; a sum that falls
    out begins again at zero. Choices of ours: the paper says that gradients are accumulated, not where.

    Attributes:
        columns: (n_rows, slots) in the narrowest unsigned type that holds d - 1, different ones in a row.
        sums: (n_rows, slots) float32; zero where a slot is empty.
    """

    def __init__(self, n_rows: int, d: int, slots: int) -> None:
        """`slots` in 1..d."""
        self.sums = np.zeros((n_rows, slots), np.float32)
        self.columns = np.empty((n_rows, slots), narrowest(d - 1))
        self.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.sums.nbytes + self.columns.nbytes

    def add(self, table: ActiveTable, rows: Rows, start: int, gradients: Floats) -> None:
        """Add the gradients (n, k) of those rows, each given once, by the dimensions `start`..`start + k - 1`, where
        the table is inactive."""
        stop = start + gradients.shape[1]
        for first in range(0, rows.size, _BLOCK):
            chosen = rows[first : first + _BLOCK]
            fresh = gradients[first : first + _BLOCK].copy()
            places, owners = table.places(chosen)
            active, most = table.columns[places], self.sums.shape[1]
            sums, columns = self.sums[chosen], self.columns[chosen].astype(np.int64)
            if fresh.shape[1] == table.d:  # the sums all belong to what is there: nothing is to be joined
                fresh[owners, active] = 0
                np.put_along_axis(fresh, columns, np.take_along_axis(fresh, columns, 1) + sums, 1)
                if most < table.d:
                    self.columns[chosen] = columns = np.argpartition(np.abs(fresh), -most, axis=1)[:, -most:]
                self.sums[chosen] = np.take_along_axis(fresh, columns, 1)
                continue
            here = np.flatnonzero((active >= start) & (active < stop))
            fresh[owners[here], active[here].astype(np.int64) - start] = 0
            holders, slots = np.nonzero((columns >= start) & (columns < stop))
            own = holders, columns[holders, slots] - start
            sums[holders, slots] += fresh[own]
            if most < table.d:
                both = np.concatenate([sums, fresh], axis=1)
                sizes = np.abs(both)
                sizes[:, most:][own] = -1  # is in a slot, and not to be chosen again
                kept = np.argpartition(sizes, -most, axis=1)[:, -most:]
                sums = np.take_along_axis(both, kept, 1)
                before = np.take_along_axis(columns, np.minimum(kept, most - 1), 1)
                self.columns[chosen] = np.where(kept < most, before, kept - most + start)
            self.sums[chosen] = sums

    def strongest(self, start: int, stop: int, count: int) -> tuple[Rows, NDArray[Any]]:
        """Rows and columns, (k,) each, of the at most `count` strongest sums of the rows `start`..`stop` - 1."""
        sizes = np.abs(self.sums[start:stop])
        count = min(count, int(np.count_nonzero(sizes)))
        rows, slots = np.nonzero(most(sizes.reshape(-1), count).reshape(sizes.shape))
        return rows + start, self.columns[start:stop][rows, slots]

    def clear(self) -> None:
        """Forget all sums."""
        self.sums[:] = 0
        self.columns[:] = np.arange(self.columns.shape[1])

    def state(self) -> State:
        """Copies of both arrays."""
        return {"sums": self.sums.copy(), "sum_columns": self.columns.copy()}

    def restore(self, state: State) -> None:
        """Become what `state()` was of."""
        self.sums, self.columns = state["sums"].copy(), state["sum_columns"].copy()


def most(sizes: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """(n,) bool: the `count` largest, of equals the first. `count` is at most n."""
    if count == 0:
        return np.zeros(sizes.shape, np.bool_)
    least = np.partition(sizes, -count)[-count]
    kept: NDArray[np.bool_] = sizes > least
    kept[np.flatnonzero(sizes == least)[: count - np.count_nonzero(kept)]] = True
    return kept


def weakest(table: ActiveTable, start: int, stop: int, count: int) -> Rows:
    """(k,) where the at most `count` smallest values of the rows `start`..`stop` - 1 stand; every row keeps its
    largest."""
    first, last = table.pointers[start], table.pointers[stop]
    sizes = np.abs(table.values[first:last])
    starts = table.pointers[start:stop] - first
    largest = np.maximum.reduceat(sizes, starts)
    tops = np.flatnonzero(sizes == np.repeat(largest, np.diff(table.pointers[start : stop + 1])))
    # One of several equals is enough.
    sizes[tops[np.searchsorted(tops, starts)]] = np.inf
    count = min(count, sizes.size - starts.size)
    places: Rows = np.flatnonzero(most(-sizes, count)) + first
    return places


def at_random(
    table: ActiveTable, start: int, stop: int, count: int, rng: np.random.Generator
) -> tuple[Rows, NDArray[Any]]:
    """Rows and columns of `count` inactive values of the rows `start`..`stop` - 1, or of all where there are fewer."""
    owners = np.repeat(np.arange(start, stop), np.diff(table.pointers[start : stop + 1]))
    taken = owners * table.d + table.columns[table.pointers[start] : table.pointers[stop]]
    count = min(count, (stop - start) * table.d - taken.size)
    found = np.empty(0, np.int64)
    while found.size < count:
        drawn = rng.integers(start * table.d, stop * table.d, 2 * (count - found.size) + 8)
        fresh = drawn[~_contains(taken, drawn)]
        found = np.concatenate([found, fresh])
        found = found[np.sort(np.unique(found, return_index=True)[1])][:count]
    rows, columns = np.divmod(found, table.d)
    return rows, columns


def _contains(ascending: Rows, values: Rows) -> NDArray[np.bool_]:
    at = np.minimum(np.searchsorted(ascending, values), ascending.size - 1)
    found: NDArray[np.bool_] = ascending[at] == values
    return found
