"""A table of mixed dimensions: row n has its first size[n] values (the prefix mask of CIESS, section 3)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import TableError
from edgerec.tables.checks import ROWS_AT_ONCE, float_values, narrowest, read_only, rows_in_range
from edgerec.tables.paging import forget_pages


class PrefixTable:
    """Rows of different sizes, stored consecutively; values past a row's size are zero.

    Attributes:
        values: (sum of sizes,) float32, row after row.
        row_sizes: (n_rows,) in the narrowest unsigned type that holds d; each in 1..d.
    """

    kind: ClassVar[str] = "prefix"

    def __init__(self, values: ArrayLike, sizes: ArrayLike, d: int) -> None:
        """Raise TableError if sizes are outside 1..d or do not sum to the number of values."""
        self.values: NDArray[np.float32] = float_values(values, 1)
        wide = np.asarray(sizes, np.int64)
        if wide.ndim != 1 or wide.size == 0:
            raise TableError(f"sizes must be one number a row for at least one row, got shape {wide.shape}")
        if wide.min() < 1 or wide.max() > d:
            raise TableError(f"sizes must be in 1..{d}, got {int(wide.min())}..{int(wide.max())}")
        if wide.sum() != self.values.size:
            raise TableError(f"the sizes sum to {int(wide.sum())} but there are {self.values.size} values")
        self.row_sizes: NDArray[Any] = read_only(wide.astype(narrowest(d)))
        self._d = d

    @classmethod
    def from_dense(cls, matrix: ArrayLike, sizes: ArrayLike) -> PrefixTable:
        """Build a table of the first sizes[n] values of each row of an (n_rows, d) matrix."""
        full = np.asarray(matrix, np.float32)
        if full.ndim != 2:
            raise TableError(f"a matrix is needed, got {full.ndim} dimension(s)")
        widths = np.asarray(sizes, np.int64)
        if widths.shape != full.shape[:1]:
            raise TableError(f"{full.shape[0]} rows need as many sizes, got shape {widths.shape}")
        parts = []
        for start in range(0, len(full), ROWS_AT_ONCE):
            some = full[start : start + ROWS_AT_ONCE]
            parts.append(some[np.arange(full.shape[1]) < widths[start : start + ROWS_AT_ONCE, None]])
            forget_pages(full)
        return cls(np.concatenate(parts) if parts else full[:0].ravel(), widths, full.shape[1])

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """(n_rows,) index of each row's first value."""
        sizes = self.sizes()
        starts: NDArray[np.int64] = np.cumsum(sizes) - sizes
        return starts

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.row_sizes.size

    @property
    def d(self) -> int:
        """Number of dimensions of a full row."""
        return self._d

    @property
    def n_values(self) -> int:
        """Number of stored values."""
        return self.values.size

    @property
    def nbytes(self) -> int:
        """Bytes of all stored arrays."""
        return self.values.nbytes + self.row_sizes.nbytes

    def sizes(self) -> NDArray[np.int64]:
        """Return (n_rows,) sizes of rows."""
        return self.row_sizes.astype(np.int64)

    def rows(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return rows as (len(rows), d) float32, zero past their sizes. Raises TableError for an unknown row."""
        chosen = rows_in_range(rows, self.n_rows)
        mask = np.arange(self.d) < self.row_sizes[chosen, None]
        at = self._starts[chosen, None] + np.arange(self.d)
        return np.where(mask, self.values[np.minimum(at, self.values.size - 1)], np.float32(0))

    def dense(self) -> NDArray[np.float32]:
        """Return all rows as (n_rows, d) float32, zero past their sizes."""
        full = np.zeros((self.n_rows, self.d), np.float32)
        full[np.arange(self.d) < self.sizes()[:, None]] = self.values
        return full

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the stored arrays by name."""
        return {"values": self.values, "sizes": self.row_sizes}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], d: int) -> PrefixTable:
        """Build a table from stored arrays. Raises TableError if they do not fit together."""
        return cls(arrays["values"], arrays["sizes"], d)
