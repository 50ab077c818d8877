"""A table whose rows all have the same size."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import TableError
from edgerec.tables.checks import float_values, rows_in_range
from edgerec.tables.paging import take_rows


class DenseTable:
    """A read-only table of (n_rows, d) float32 values."""

    kind: ClassVar[str] = "dense"

    def __init__(self, values: ArrayLike) -> None:
        """Raise TableError if the values are not a finite matrix with at least one row and column."""
        self.values: NDArray[np.float32] = float_values(values, 2)
        if 0 in self.values.shape:
            raise TableError(f"a table needs at least one row and one dimension, got shape {self.values.shape}")

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.values)

    @property
    def d(self) -> int:
        """Number of dimensions of a full row."""
        return int(self.values.shape[1])

    @property
    def n_values(self) -> int:
        """Number of stored values."""
        return self.values.size

    @property
    def nbytes(self) -> int:
        """Bytes of all stored arrays."""
        return self.values.nbytes

    def sizes(self) -> NDArray[np.int64]:
        """Return (n_rows,) sizes of rows."""
        return np.full(self.n_rows, self.d, np.int64)

    def rows(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return rows as (len(rows), d) float32. Raises TableError for a row outside the table."""
        return take_rows(self.values, rows_in_range(rows, self.n_rows))

    def dense(self) -> NDArray[np.float32]:
        """Return all rows as (n_rows, d) float32."""
        return self.values

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the stored arrays by name."""
        return {"values": self.values}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], d: int) -> DenseTable:
        """Build a table from stored arrays. Raises TableError if they do not fit together."""
        table = cls(arrays["values"])
        if table.d != d:
            raise TableError(f"a dense table of {d} dimensions has values of {table.d}")
        return table
