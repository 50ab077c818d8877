"""Selection of the values that a change of the mask drops (by magnitude) and grows (by gradient or at random)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.sparse.table import ActiveTable, Floats, Ints
from edgerec.models import State
from edgerec.tables import narrowest

_BLOCK = 1024
"""Number of rows processed at once, with at most 40 bytes of additional memory for each of their dimensions."""


class Accumulator:
    """Sums of the gradients of inactive values since the last change of the mask; opposite gradients cancel.

    A row stores its `slots` sums with the largest magnitudes, so that memory is n_rows * slots instead of n_rows * d; a
    sum that is evicted restarts at zero. Choices of ours: the paper (SparseRec) says that gradients are accumulated,
    but not in which memory.

    Attributes:
        columns: (n_rows, slots) in the narrowest unsigned type that holds d - 1, distinct in a row.
        sums: (n_rows, slots) float32; zero for an empty slot.
    """

    def __init__(self, n_rows: int, d: int, slots: int) -> None:
        """Allocate the sums, with `slots` in 1..d."""
        self.sums = np.zeros((n_rows, slots), np.float32)
        self.columns = np.empty((n_rows, slots), narrowest(d - 1))
        self._fresh: tuple[Floats, NDArray[Any]] | None = None
        """The strongest new sums of each row in the blocks of this step so far, and their columns."""
        self.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.sums.nbytes + self.columns.nbytes

    def add(self, table: ActiveTable, rows: Ints, start: int, gradients: Floats) -> None:
        """Add the gradients (n, k) of distinct rows and the dimensions `start`..`start + k - 1` of inactive values.

        A step may come in several blocks of ascending dimensions, each of the same rows; new sums are chosen after the
        last block, so that the result does not depend on the blocks.
        """
        stop, most = start + gradients.shape[1], self.sums.shape[1]
        whole = gradients.shape[1] == table.d
        if start == 0 and not whole and most < table.d:
            self._fresh = np.zeros((rows.size, most), np.float32), np.zeros((rows.size, most), self.columns.dtype)
        for first in range(0, rows.size, _BLOCK):
            block = slice(first, first + _BLOCK)
            chosen, fresh = rows[block], _inactive(table, rows[block], start, gradients[block])
            sums, columns = self.sums[chosen], self.columns[chosen].astype(np.int64)
            if whole:  # all sums belong to the given dimensions: there is nothing to join
                np.put_along_axis(fresh, columns, np.take_along_axis(fresh, columns, 1) + sums, 1)
                if most < table.d:
                    self.columns[chosen] = columns = np.argpartition(np.abs(fresh), -most, axis=1)[:, -most:]
                self.sums[chosen] = np.take_along_axis(fresh, columns, 1)
                continue
            holders, slots = np.nonzero((columns >= start) & (columns < stop))
            own = holders, columns[holders, slots] - start
            sums[holders, slots] += fresh[own]
            self.sums[chosen] = sums
            if self._fresh is None:
                continue
            fresh[own] = 0
            others = np.broadcast_to(np.arange(start, stop), fresh.shape)
            for stored, new in zip(
                self._fresh, _strongest((self._fresh[0][block], fresh), (self._fresh[1][block], others)), strict=True
            ):
                stored[block] = new
            if stop == table.d:
                joined = _strongest((sums, self._fresh[0][block]), (columns, self._fresh[1][block]))
                self.sums[chosen], self.columns[chosen] = joined
        if stop == table.d:
            self._fresh = None

    def strongest(self, start: int, stop: int, count: int) -> tuple[Ints, NDArray[Any]]:
        """Return (k,) rows and columns of the at most `count` strongest sums of the rows `start`..`stop` - 1."""
        sizes = np.abs(self.sums[start:stop])
        count = min(count, int(np.count_nonzero(sizes)))
        rows, slots = np.nonzero(most(sizes.reshape(-1), count).reshape(sizes.shape))
        return rows + start, self.columns[start:stop][rows, slots]

    def clear(self) -> None:
        """Reset all sums."""
        self.sums[:] = 0
        self.columns[:] = np.arange(self.columns.shape[1])

    def state(self) -> State:
        """Return copies of both arrays."""
        return {"sums": self.sums.copy(), "sum_columns": self.columns.copy()}

    def restore(self, state: State) -> None:
        """Restore from `state()`."""
        self.sums, self.columns = state["sums"].copy(), state["sum_columns"].copy()


class LastBatch:
    """The largest gradients of inactive values in one step, for growth by that step alone (RigL)."""

    def __init__(self, bounds: Sequence[tuple[int, int]], counts: Sequence[int], d: int) -> None:
        """Allocate `counts` gradients for the rows within each of the `bounds` (start, stop); 8 bytes each."""
        self._sides = [
            _StrongestGradients(start, stop, count, d) for (start, stop), count in zip(bounds, counts, strict=True)
        ]

    def add(self, table: ActiveTable, rows: Ints, start: int, gradients: Floats) -> None:
        """Add the gradients (n, k) of ascending rows and the dimensions `start`..`start + k - 1`."""
        for first in range(0, rows.size, _BLOCK):
            chosen = rows[first : first + _BLOCK]
            sizes = np.abs(_inactive(table, chosen, start, gradients[first : first + _BLOCK]))
            for side in self._sides:
                side.add(chosen, start, sizes)

    def strongest(self, start: int, stop: int, count: int) -> tuple[Ints, NDArray[Any]]:
        """Return rows and columns as `Accumulator.strongest` does, of one of the bounds and at most its count."""
        (side,) = (side for side in self._sides if (side.start, side.stop) == (start, stop))
        return side.strongest(count)


class _StrongestGradients:
    """The `count` largest gradients of the rows `start`..`stop` - 1, with their positions row * d + column.

    New gradients are buffered, and merged when they are more than a quarter of `count`.
    """

    def __init__(self, start: int, stop: int, count: int, d: int) -> None:
        self.start, self.stop, self._count, self._d = start, stop, count, d
        places = np.int32 if stop * d < 1 << 31 else np.int64
        self._sizes, self._places = np.empty(0, np.float32), np.empty(0, places)
        self._buffered: list[tuple[Floats, NDArray[Any]]] = []
        self._least = np.float32(0)

    def add(self, rows: Ints, start: int, sizes: Floats) -> None:
        first, last = np.searchsorted(rows, (self.start, self.stop))
        at, columns = np.nonzero(sizes[first:last] > self._least)
        places = rows[first:last][at] * self._d + columns + start
        self._buffered.append((sizes[first:last][at, columns], places.astype(self._places.dtype)))
        if sum(part[0].size for part in self._buffered) > self._count // 4:
            self._merge()

    def _merge(self) -> None:
        buffered, self._buffered = self._buffered, []
        self._sizes = np.concatenate([self._sizes, *(sizes for sizes, _ in buffered)])
        self._places = np.concatenate([self._places, *(places for _, places in buffered)])
        chosen = most(self._sizes, min(self._count, self._sizes.size))
        self._sizes, self._places = self._sizes[chosen], self._places[chosen]
        if 0 < self._sizes.size == self._count:
            self._least = self._sizes.min()

    def strongest(self, count: int) -> tuple[Ints, NDArray[Any]]:
        self._merge()
        places = self._places[most(self._sizes, min(count, self._sizes.size))].astype(np.int64)
        return places // self._d, places % self._d


def _inactive(table: ActiveTable, rows: Ints, start: int, gradients: Floats) -> Floats:
    """Return a copy of the gradients (n, k) of rows from the dimension `start` on, zero for active values."""
    fresh = gradients.copy()
    places, owners = table.places(rows)
    active = table.columns[places].astype(np.int64) - start
    here = np.flatnonzero((active >= 0) & (active < fresh.shape[1]))
    fresh[owners[here], active[here]] = 0
    return fresh


def _strongest(sums: tuple[Floats, Floats], columns: tuple[NDArray[Any], NDArray[Any]]) -> tuple[Floats, NDArray[Any]]:
    """Return the strongest (n, slots) of two sets of sums a row, (n, slots) and (n, k), with their columns.

    Zeros of the second set do not count.
    """
    both, slots = np.concatenate(sums, axis=1), sums[0].shape[1]
    sizes = np.abs(both)
    sizes[:, slots:][sums[1] == 0] = -1
    chosen = np.argpartition(sizes, -slots, axis=1)[:, -slots:]
    return np.take_along_axis(both, chosen, 1), np.take_along_axis(np.concatenate(columns, axis=1), chosen, 1)


def most(sizes: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Return (n,) bool: True at the `count` largest; of equal ones the first are taken. `count` is at most n."""
    if count == 0:
        return np.zeros(sizes.shape, np.bool_)
    least = np.partition(sizes, -count)[-count]
    chosen: NDArray[np.bool_] = sizes > least
    chosen[np.flatnonzero(sizes == least)[: count - np.count_nonzero(chosen)]] = True
    return chosen


def weakest(table: ActiveTable, start: int, stop: int, count: int) -> Ints:
    """Return the (k,) places of the at most `count` smallest values of the rows `start`..`stop` - 1.

    The largest value of each row is not among them.
    """
    first, last = table.pointers[start], table.pointers[stop]
    sizes = np.abs(table.values[first:last])
    starts = table.pointers[start:stop] - first
    largest = np.maximum.reduceat(sizes, starts)
    tops = np.flatnonzero(sizes == np.repeat(largest, np.diff(table.pointers[start : stop + 1])))
    # One of the largest values of each row is protected.
    sizes[tops[np.searchsorted(tops, starts)]] = np.inf
    count = min(count, sizes.size - starts.size)
    places: Ints = np.flatnonzero(most(-sizes, count)) + first
    return places


def at_random(
    table: ActiveTable, start: int, stop: int, count: int, rng: np.random.Generator
) -> tuple[Ints, NDArray[Any]]:
    """Draw rows and columns of `count` inactive values of the rows `start`..`stop` - 1, or of all if fewer."""
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


def _contains(ascending: Ints, values: Ints) -> NDArray[np.bool_]:
    at = np.minimum(np.searchsorted(ascending, values), ascending.size - 1)
    found: NDArray[np.bool_] = ascending[at] == values
    return found
