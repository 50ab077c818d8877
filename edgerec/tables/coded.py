"""A prefix table whose values are integer codes and a scale a row, as bundles store them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import TableError
from edgerec.tables.checks import read_only
from edgerec.tables.codes import from_bytes, to_codes
from edgerec.tables.prefix import PrefixTable

PRECISION_OF_BITS = {8: "int8", 4: "int4", 2: "int2"}
"""Integer precisions by the bits of a code."""


@dataclass(frozen=True)
class RowCodes:
    """Bits and scales of the rows of a coded table.

    Attributes:
        bits: (n_rows,) uint8, bits of a code: 2, 4 or 8.
        steps: (n_rows,) uint8, the scale of each row in a byte: `codes.from_bytes`.
        top: the factor of the scales.
    """

    bits: NDArray[np.uint8]
    steps: NDArray[np.uint8]
    top: np.float32

    def scales(self) -> NDArray[np.float32]:
        """Return the (n_rows,) scale of each row."""
        return from_bytes(self.steps, self.top)

    def precisions(self) -> tuple[tuple[str, ...], NDArray[np.int8]]:
        """Return the precisions of the rows, the largest first, and the (n_rows,) index of each row's among them."""
        found, which = np.unique(self.bits, return_inverse=True)
        names = tuple(PRECISION_OF_BITS[int(bits)] for bits in found[::-1])
        return names, (len(names) - 1 - which).astype(np.int8)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, as `from_arrays` takes them."""
        return {"bits": self.bits, "steps": self.steps, "top": np.array(self.top)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> RowCodes:
        """Return the codes of named arrays. Raises KeyError, TypeError, ValueError if they form none."""
        return cls(arrays["bits"], arrays["steps"], np.float32(arrays["top"]))


class CodedTable(PrefixTable):
    """Rows of different sizes whose values are codes times the scale of their row.

    Attributes:
        row_codes: bits and scales of the rows.
    """

    kind: ClassVar[str] = "coded"

    def __init__(self, values: ArrayLike, sizes: ArrayLike, d: int, row_codes: RowCodes) -> None:
        """Raise TableError if sizes or codes do not fit the values."""
        super().__init__(values, sizes, d)
        if not row_codes.bits.shape == row_codes.steps.shape == (self.n_rows,):
            raise TableError(f"{self.n_rows} rows need as many bits and scales, got {row_codes.bits.shape}")
        if not set(np.unique(row_codes.bits).tolist()) <= set(PRECISION_OF_BITS):
            raise TableError(f"codes have 2, 4 or 8 bits, got {np.unique(row_codes.bits).tolist()}")
        self.row_codes = RowCodes(read_only(row_codes.bits), read_only(row_codes.steps), row_codes.top)

    @classmethod
    def of_rows(cls, matrix: NDArray[np.float32], sizes: ArrayLike, row_codes: RowCodes) -> CodedTable:
        """Build a table of the first sizes[n] values of each row of an (n_rows, d) matrix."""
        plain = PrefixTable.from_dense(matrix, sizes)
        return cls(plain.values, plain.row_sizes, plain.d, row_codes)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and sizes, as they are stored: a byte a code."""
        return self.values.size + sum(array.nbytes for array in (*self.row_codes.arrays().values(), self.row_sizes))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the stored arrays by name."""
        codes = np.zeros(self.values.size, np.int8)
        for bits, precision in PRECISION_OF_BITS.items():
            mine = self._by_value(self.row_codes.bits) == bits
            codes[mine] = to_codes(self.values[mine], self._by_value(self.row_codes.scales())[mine], precision)
        return {"codes": codes, "sizes": self.row_sizes, **self.row_codes.arrays()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], d: int) -> CodedTable:
        """Build a table from stored arrays. Raises TableError if they do not fit together."""
        row_codes, sizes = RowCodes.from_arrays(arrays), arrays["sizes"].astype(np.int64)
        if arrays["codes"].dtype != np.int8 or sizes.sum() != arrays["codes"].size:
            raise TableError(f"the sizes sum to {int(sizes.sum())} but there are {arrays['codes'].size} codes")
        values = arrays["codes"].astype(np.float32) * np.repeat(row_codes.scales(), sizes)
        return cls(values, sizes, d, row_codes)

    def _by_value(self, of_rows: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(of_rows, self.sizes())
