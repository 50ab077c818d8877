"""Synthetic tables of any number of items, of which a tenth of the values is kept: leading ones, or any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import DenseTable, PrefixTable, SparseTable, Table

KEPT = 0.1
WIDTHS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
ROWS_AT_ONCE = 1 << 16
"""Tables are made a few rows at a time: a dense matrix of ten million items takes 2.5 GB."""
SAMPLE = 200_000
"""Rows on which the spread of the sizes is chosen: 0.1 % of the share that is kept."""


@dataclass(frozen=True)
class Pair:
    """An item table and the users that ask it, all float32."""

    items: Table
    users: Table

    def best(self, asked: Sequence[int], k: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, n_items) exact scores of some users, and (B,) the score that an item must reach to be among the best."""
        users = self.users.rows(list(asked))
        scores = np.empty((len(users), self.items.n_rows), np.float32)
        for part in _parts(self.items.n_rows):
            scores[:, part] = users @ self.items.rows(np.arange(part.start, part.stop)).T
        place = max(self.items.n_rows - k, 0)
        limit: NDArray[np.float32] = np.partition(scores, place, axis=1)[:, place]
        return scores, limit


def mixed_items(items: int, dimensions: int, seed: int = 0) -> PrefixTable:
    """Normal values, rows of up to 12 sizes: gamma(0.8) distributed, spread so that a tenth of the values is kept."""
    rng = np.random.default_rng(seed)
    widths = np.unique(np.minimum(WIDTHS, dimensions))
    drawn = rng.gamma(0.8, 1.0, items)
    sizes = _rounded_up(drawn * _spread(drawn[:SAMPLE], widths), widths)
    return PrefixTable(rng.standard_normal(int(sizes.sum()), np.float32), sizes, dimensions)


def _spread(drawn: NDArray[np.float64], widths: NDArray[np.int64]) -> float:
    """What to multiply the drawn sizes by, so that they keep a tenth of the values; found by halving."""
    low, high = 0.0, float(widths[-1])
    for _ in range(40):
        middle = (low + high) / 2
        too_many = _rounded_up(drawn * middle, widths).mean() > KEPT * widths[-1]
        low, high = (low, middle) if too_many else (middle, high)
    return low


def _rounded_up(sizes: NDArray[np.float64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    return widths[np.searchsorted(widths, np.clip(sizes, 1, widths[-1]))]


def unstructured_items(items: int, dimensions: int, seed: int = 0) -> SparseTable:
    """Normal values at any positions: each row's density is of its own, exponential with mean a tenth."""
    rng = np.random.default_rng(seed)
    values, columns, counts = [], [], []
    for part in _parts(items):
        shape = (part.stop - part.start, dimensions)
        kept = rng.random(shape, np.float32) < np.clip(rng.gamma(1.0, KEPT, (shape[0], 1)), 0.01, 1)
        kept[np.arange(shape[0]), rng.integers(0, dimensions, shape[0])] |= ~kept.any(1)
        counts.append(kept.sum(1))
        columns.append(np.nonzero(kept)[1].astype(np.uint16))
        values.append(rng.standard_normal(columns[-1].size, np.float32))
    pointers = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return SparseTable(np.concatenate(values), np.concatenate(columns), pointers, dimensions)


def dense_users(users: int, dimensions: int, seed: int = 1) -> DenseTable:
    """Normal values."""
    return DenseTable(np.random.default_rng(seed).standard_normal((users, dimensions), np.float32))


def sparse_users(users: int, dimensions: int, active: float = KEPT, seed: int = 1) -> SparseTable:
    """Normal values in random dimensions: of each user a share of them, rounded up or down at random, at least one."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, (active * dimensions + rng.random(users)).astype(np.int64))
    kept = rng.random((users, dimensions)).argsort(axis=1) < counts[:, None]
    return SparseTable.from_dense(rng.standard_normal((users, dimensions), np.float32), kept)


def _parts(rows: int) -> Iterator[slice]:
    for start in range(0, rows, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, rows))
