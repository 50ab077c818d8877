"""Tables as they ship: the arrays in the tables file, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables.paging import forget_pages
from edgerec_export.layouts import Bounds, Plan, Scales
from edgerec_export.values import chunks

ROWS_AT_ONCE = 1 << 16
SQUARES_VANISH = np.float32(1e-15)
"""Of rows shorter than this, the squares of smaller values are 0 or inexact in float32."""
LARGE = 1 << 26
"""Bytes of a table that may come into memory whole."""
RUNS_AT_ONCE = 8
"""Runs of neighbours that are read before their pages are given back: a page brings 600 KiB around it along (Linux
6.18, large folios), and a run of rows that lie by column takes one a dimension."""


@dataclass(frozen=True)
class PackedTable:
    """A table as it ships.

    Attributes:
        arrays: of the tables file, by suffix.
    """

    plan: Plan
    arrays: Mapping[str, NDArray[Any]]
    scales: Scales

    def values(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """(..., d) the rows in these places: float32, or int32 codes around 0."""
        flat = places.ravel()
        if sum(array.nbytes for array in self.arrays.values()) <= LARGE:
            found = self.plan.unpack(self.arrays, flat)
        else:
            runs = np.cumsum(np.diff(flat, prepend=flat[:1]) != 1)
            some = np.split(flat, np.flatnonzero(np.diff(runs // RUNS_AT_ONCE)) + 1)
            found = np.concatenate([self._unpacked(part) for part in some])
        return found.reshape(*places.shape, self.plan.d)

    def _unpacked(self, places: NDArray[np.int64]) -> NDArray[Any]:
        found = self.plan.unpack(self.arrays, places)
        for array in self.arrays.values():
            forget_pages(array)
        return found

    def row_scales(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(...) float32: what a step of the codes of each row is worth; ones for floats."""
        return self.plan.row_scales(self.arrays, self.scales, places.ravel()).reshape(places.shape)

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(..., d) float32: what the shipped rows mean."""
        return self.values(places).astype(np.float32) * self.row_scales(places)[..., None]

    def bounded(self, lengths: NDArray[np.float32], inverse_norms: NDArray[np.float16] | None) -> PackedTable:
        """The same with the bounds of its blocks, from the (n_rows,) `norms`; `inverse_norms` as they are stored."""
        firsts = [block.first for block in self.plan.blocks]
        if self.plan.has_one_scale and self.scales.blocks is not None:
            lengths = lengths / self.scales.blocks[0]
        products, cosines = np.maximum.reduceat(lengths, firsts), None
        if inverse_norms is not None:
            cosines = np.maximum.reduceat(lengths * inverse_norms.astype(np.float32), firsts)
        return replace(self, scales=replace(self.scales, bounds=Bounds(products, cosines)))

    def norms(self) -> NDArray[np.float32]:
        """(n_rows,) the length of each row."""
        found = np.empty(self.plan.n_rows, np.float32)
        for part in chunks(self.plan.n_rows, ROWS_AT_ONCE):
            found[part] = lengths_of(self.rows(np.arange(part.start, part.stop)))
        return found


def lengths_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) the length of each row (n, d), of those too whose squares are no float32."""
    found: NDArray[np.float32] = np.linalg.norm(rows, axis=1)
    short = np.flatnonzero(found < SQUARES_VANISH)
    found[short] = np.linalg.norm(rows[short].astype(np.float64), axis=1)
    return found
