"""An unstructured table with values at any positions of a row (SparseRec, pruning), stored as CSR."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import TableError
from edgerec.tables.checks import float_values, narrowest, read_only, rows_in_range


class SparseTable:
    """A table in CSR form; positions that are not stored are zero.

    Attributes:
        values: (nnz,) float32.
        columns: (nnz,) in the narrowest unsigned type that holds d - 1; ascending inside a row.
        pointers: (n_rows + 1,) uint32, or uint64 from 2^32 values on; row n owns pointers[n]:pointers[n + 1].
    """

    kind: ClassVar[str] = "sparse"

    def __init__(self, values: ArrayLike, columns: ArrayLike, pointers: ArrayLike, d: int) -> None:
        """Raise TableError if the three arrays are no valid CSR matrix of d columns."""
        self.values: NDArray[np.float32] = float_values(values, 1)
        wide, starts = np.asarray(columns, np.int64), np.asarray(pointers, np.int64)
        if wide.shape != self.values.shape:
            raise TableError(f"{self.values.size} values need as many columns, got shape {wide.shape}")
        if starts.ndim != 1 or starts.size < 2 or starts[0] != 0 or starts[-1] != wide.size:
            raise TableError(f"pointers must run from 0 to {wide.size} over at least one row")
        if (np.diff(starts) < 0).any():
            raise TableError("pointers must not descend")
        if wide.size and (wide.min() < 0 or wide.max() >= d):
            raise TableError(f"columns must be in 0..{d - 1}, got {int(wide.min())}..{int(wide.max())}")
        first = np.zeros(wide.size + 1, bool)
        first[starts] = True
        if (np.diff(wide) <= 0)[~first[1:-1]].any():
            raise TableError("columns must ascend inside a row, without repeats")
        self.columns: NDArray[Any] = read_only(wide.astype(narrowest(d - 1)))
        self.pointers: NDArray[Any] = read_only(starts.astype(np.uint32 if wide.size < 2**32 else np.uint64))
        self._d = d

    @classmethod
    def from_dense(cls, matrix: ArrayLike, mask: ArrayLike | None = None) -> SparseTable:
        """Build a table of the values of an (n_rows, d) matrix where `mask` is True, by default of non-zero ones."""
        full = np.asarray(matrix, np.float32)
        if full.ndim != 2:
            raise TableError(f"a matrix is needed, got {full.ndim} dimension(s)")
        chosen = full != 0 if mask is None else np.asarray(mask, bool)
        if chosen.shape != full.shape:
            raise TableError(f"the mask's shape {chosen.shape} is not the matrix's {full.shape}")
        pointers = np.concatenate([[0], np.cumsum(chosen.sum(1))])
        return cls(full[chosen], np.nonzero(chosen)[1], pointers, full.shape[1])

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.pointers.size - 1

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
        return self.values.nbytes + self.columns.nbytes + self.pointers.nbytes

    def sizes(self) -> NDArray[np.int64]:
        """Return (n_rows,) numbers of stored values of rows."""
        pointers = self.pointers.astype(np.int64)
        return pointers[1:] - pointers[:-1]

    def rows(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return rows as (len(rows), d) float32. Raises TableError for a row outside the table."""
        chosen = rows_in_range(rows, self.n_rows)
        starts, sizes = self.pointers.astype(np.int64)[chosen], self.sizes()[chosen]
        target = np.repeat(np.arange(chosen.size), sizes)
        within = np.arange(target.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        source = np.repeat(starts, sizes) + within
        full = np.zeros((chosen.size, self.d), np.float32)
        full[target, self.columns[source]] = self.values[source]
        return full

    def dense(self) -> NDArray[np.float32]:
        """Return all rows as (n_rows, d) float32."""
        return self.rows(np.arange(self.n_rows))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the stored arrays by name."""
        return {"values": self.values, "columns": self.columns, "pointers": self.pointers}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], d: int) -> SparseTable:
        """Build a table from stored arrays. Raises TableError if they do not fit together."""
        return cls(arrays["values"], arrays["columns"], arrays["pointers"], d)
