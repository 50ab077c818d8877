"""Tables as they ship: the arrays in the tables file, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec_export.layouts.base import Plan, Scales
from edgerec_export.values import chunks

ROWS_AT_ONCE = 1 << 16


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
        flat = self.plan.unpack(self.arrays, places.ravel())
        return flat.reshape(*places.shape, self.plan.d)

    def row_scales(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(...) float32: what a step of the codes of each row is worth; ones for floats."""
        return self.plan.row_scales(self.arrays, self.scales, places.ravel()).reshape(places.shape)

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(..., d) float32: what the shipped rows mean."""
        return self.values(places).astype(np.float32) * self.row_scales(places)[..., None]

    def norms(self) -> NDArray[np.float32]:
        """(n_rows,) the length of each row."""
        found = np.empty(self.plan.n_rows, np.float32)
        for part in chunks(self.plan.n_rows, ROWS_AT_ONCE):
            found[part] = np.linalg.norm(self.rows(np.arange(part.start, part.stop)), axis=1)
        return found
