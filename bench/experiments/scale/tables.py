"""Synthetic tables of any number of items with a density of 10 %: leading values, or values at any positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import PrefixTable, SparseTable, Table

DENSITY = 0.1
WIDTHS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
ROWS_AT_ONCE = 1 << 16
"""Tables are generated in blocks of this many rows: a dense matrix of ten million items takes 2.5 GB."""
SAMPLE = 200_000
"""Number of rows on which the scale of the sizes is chosen; it meets the density within 0.1 %."""


@dataclass(frozen=True)
class TablePair:
    """An item table and a user table, both float32."""

    items: Table
    users: Table

    def best(self, user_rows: Sequence[int], k: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the exact scores (B, n_items) of some users, and the k-th best score (B,) of each."""
        users = self.users.rows(list(user_rows))
        scores = np.empty((len(users), self.items.n_rows), np.float32)
        for part in _parts(self.items.n_rows):
            scores[:, part] = users @ self.items.rows(np.arange(part.start, part.stop)).T
        place = max(self.items.n_rows - k, 0)
        limit: NDArray[np.float32] = np.partition(scores, place, axis=1)[:, place]
        return scores, limit


def mixed_items(items: int, dimensions: int, seed: int = 0) -> PrefixTable:
    """Generate normal values in rows of up to 12 sizes, gamma(0.8) distributed and scaled to the density."""
    rng = np.random.default_rng(seed)
    widths = np.unique(np.minimum(WIDTHS, dimensions))
    drawn = rng.gamma(0.8, 1.0, items)
    sizes = _rounded_up(drawn * _spread(drawn[:SAMPLE], widths), widths)
    return PrefixTable(rng.standard_normal(int(sizes.sum()), np.float32), sizes, dimensions)


def _spread(drawn: NDArray[np.float64], widths: NDArray[np.int64]) -> float:
    """Find, by bisection, the factor that scales the drawn sizes to the density."""
    low, high = 0.0, float(widths[-1])
    for _ in range(40):
        middle = (low + high) / 2
        too_many = _rounded_up(drawn * middle, widths).mean() > DENSITY * widths[-1]
        low, high = (low, middle) if too_many else (middle, high)
    return low


def _rounded_up(sizes: NDArray[np.float64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    return widths[np.searchsorted(widths, np.clip(sizes, 1, widths[-1]))]


def unstructured_items(items: int, dimensions: int, seed: int = 0) -> SparseTable:
    """Generate normal values at random positions; the density of each row is exponential with mean 10 %."""
    rng = np.random.default_rng(seed)
    values, columns, counts = [], [], []
    for part in _parts(items):
        shape = (part.stop - part.start, dimensions)
        mask = rng.random(shape, np.float32) < np.clip(rng.gamma(1.0, DENSITY, (shape[0], 1)), 0.01, 1)
        mask[np.arange(shape[0]), rng.integers(0, dimensions, shape[0])] |= ~mask.any(1)
        counts.append(mask.sum(1))
        columns.append(np.nonzero(mask)[1].astype(np.uint16))
        values.append(rng.standard_normal(columns[-1].size, np.float32))
    pointers = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return SparseTable(np.concatenate(values), np.concatenate(columns), pointers, dimensions)


def _parts(rows: int) -> Iterator[slice]:
    for start in range(0, rows, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, rows))
