"""A trainable table that stores active values alone: CSR, with Adam's moments of each value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.models import State
from edgerec.tables import narrowest

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
GradientBlocks = Iterator[tuple[int, Floats]]
"""The gradient (n, d) of n rows in ascending blocks of dimensions: an iterator over (first dimension, (n, k))."""

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
"""Adam's default constants."""
_BLOCK = 4096
"""Rows that a change of the mask rearranges at once."""


def spans(pointers: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Return the (m,) places of `rows` (n,) in the arrays of a CSR, and the (m,) indices of their rows in 0..n - 1."""
    starts, sizes = pointers[rows], pointers[rows + 1] - pointers[rows]
    owners = np.repeat(np.arange(rows.size), sizes)
    return np.arange(owners.size) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes), owners


def whole(gradients: GradientBlocks) -> Floats:
    """Return (n, d) gradients of all dimensions."""
    return np.concatenate([part for _, part in gradients], axis=1)


def active_at(columns: NDArray[Any], pointers: Ints, d: int, rows: Ints) -> NDArray[np.bool_]:
    """Return (n, d) bool: the active positions of `rows` (n,) of a CSR without values."""
    places, owners = spans(pointers, rows)
    active = np.zeros((rows.size, d), np.bool_)
    active[owners, columns[places]] = True
    return active


class ActiveTable:
    """A table (n_rows, d) with B active values; the others are zero, and take no memory.

    Attributes:
        values, first, second: (B,) float32 values and Adam's moments.
        columns: (B,) in the narrowest unsigned type that holds d - 1, ascending inside a row.
        pointers: (n_rows + 1,) int64; row n owns pointers[n]:pointers[n + 1].
        d: dimensions of a full row.
        steps: number of Adam's steps.
    """

    def __init__(self, values: Floats, columns: NDArray[Any], pointers: Ints, d: int) -> None:
        """Create a table without moments; `columns` must ascend inside a row."""
        self.values, self.pointers, self.d = values, pointers, d
        self.columns = columns.astype(narrowest(d - 1))
        self.first, self.second = np.zeros_like(values), np.zeros_like(values)
        self.steps = 0

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.pointers.size - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays().values())

    @property
    def count(self) -> int:
        """Number of active values."""
        return self.values.size

    def places(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return the (m,) places of the active values of `rows` (n,), and the (m,) indices of their rows."""
        return spans(self.pointers, rows)

    def rows(self, rows: Ints) -> Floats:
        """Return rows as (n, d) dense values."""
        places, owners = self.places(rows)
        full = np.zeros((rows.size, self.d), np.float32)
        full[owners, self.columns[places]] = self.values[places]
        return full

    def dots(self, vectors: Floats, rows: Ints) -> Floats:
        """Return the (n,) inner products of `vectors` (n, d) and rows (n,), pair by pair, over active values."""
        places, owners = self.places(rows)
        parts = vectors[owners, self.columns[places]] * self.values[places]
        return np.bincount(owners, parts, rows.size).astype(np.float32)

    def dimensions(self, start: int, stop: int) -> Floats:
        """Return (n_rows, stop - start) dimensions of all rows as dense values."""
        places = np.flatnonzero((self.columns >= start) & (self.columns < stop))
        full = np.zeros((self.n_rows, stop - start), np.float32)
        full[self._owners(places), self.columns[places] - self.columns.dtype.type(start)] = self.values[places]
        return full

    def _owners(self, places: Ints) -> Ints:
        """Return the (m,) rows of the values at places."""
        owners: Ints = np.searchsorted(self.pointers, places, side="right") - 1
        return owners

    def step(self, rows: Ints, gradients: GradientBlocks, lr: float, *, lazy: bool) -> None:
        """Make one step of Adam with the gradients of distinct ascending rows; the others' are zero.

        A `lazy` step leaves the values and moments of other rows unchanged.
        """
        places: Any = slice(None)
        if rows.size < self.n_rows:
            places, owners = self.places(rows)
        columns = self.columns[places]
        own = np.empty(columns.size, np.float32)
        for start, part in gradients:
            if rows.size < self.n_rows and part.shape[1] == self.d:
                own = part[owners, columns]
                continue
            here = np.flatnonzero((columns >= start) & (columns < start + part.shape[1]))
            of = owners[here] if rows.size < self.n_rows else self._owners(here)
            own[here] = part[of, columns[here] - columns.dtype.type(start)]
        self.steps += 1
        if lazy:
            first, second, values = self.first[places], self.second[places], self.values[places]
            self._adam(first, second, values, own, slice(None), lr)
            self.first[places], self.second[places], self.values[places] = first, second, values
        else:
            self._adam(self.first, self.second, self.values, own, places, lr)

    def _adam(self, first: Floats, second: Floats, values: Floats, gradient: Floats, places: Any, lr: float) -> None:
        first *= np.float32(_BETA1)
        first[places] += np.float32(1 - _BETA1) * gradient
        second *= np.float32(_BETA2)
        second[places] += np.float32(1 - _BETA2) * np.square(gradient)
        root = np.sqrt(second)
        root *= np.float32((1 - _BETA2**self.steps) ** -0.5)
        root += np.float32(_EPSILON)
        np.divide(first, root, out=root)
        root *= np.float32(lr / (1 - _BETA1**self.steps))
        values -= root

    def replace(self, dropped: NDArray[Any], rows: Ints, columns: NDArray[Any]) -> None:
        """Remove the values at the places `dropped` (k,), and insert zeros without moments at `rows`, `columns` (k,).

        Inserted positions must be inactive, and every row must have a value left.
        """
        order = np.lexsort((columns, rows))
        rows, columns = rows[order], columns[order]
        staying = np.ones(self.values.size, np.bool_)
        staying[dropped] = False
        sizes = np.add.reduceat(staying, self.pointers[:-1], dtype=np.int64)
        pointers = np.concatenate([[0], np.cumsum(sizes + np.bincount(rows, minlength=self.n_rows))])
        come_from = np.empty(self.values.size, np.int32 if self.values.size < 1 << 31 else np.int64)
        wide = np.empty_like(self.columns)
        for start, stop in self._blocks():
            old = np.flatnonzero(staying[self.pointers[start] : self.pointers[stop]]) + self.pointers[start]
            new = slice(*np.searchsorted(rows, (start, stop)))
            owners = np.concatenate([np.searchsorted(self.pointers, old, side="right") - 1, rows[new]])
            here = np.concatenate([self.columns[old], columns[new].astype(self.columns.dtype)])
            places = np.lexsort((here, owners))
            block = slice(pointers[start], pointers[stop])
            wide[block] = here[places]
            come_from[block] = np.concatenate([old, np.full(rows[new].size, -1)])[places]
        self.columns, self.pointers = wide, pointers
        fresh = np.less(come_from, 0)
        for name in ("values", "first", "second"):
            moved = getattr(self, name)[come_from]
            moved[fresh] = 0
            setattr(self, name, moved)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        return ((start, min(start + _BLOCK, self.n_rows)) for start in range(0, self.n_rows, _BLOCK))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        names = ("values", "columns", "pointers", "first", "second")
        return {name: getattr(self, name) for name in names}

    def state(self) -> State:
        """Return copies of all arrays, the dimensions and the step count."""
        counts = {"d": np.array(self.d), "steps": np.array(self.steps)}
        return {**{name: array.copy() for name, array in self._arrays().items()}, **counts}

    @classmethod
    def restored(cls, state: State) -> ActiveTable:
        """Return the table of a `state()`."""
        table = cls(state["values"].copy(), state["columns"].copy(), state["pointers"].copy(), int(state["d"]))
        table.first, table.second, table.steps = state["first"].copy(), state["second"].copy(), int(state["steps"])
        return table
