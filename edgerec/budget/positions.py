"""Bytes of the positions of a sparse table's values, which the papers' parameter counts leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

POINTER_BYTES = 4
"""Bytes of a row pointer of CSR, for up to 2^32 values."""


@dataclass(frozen=True)
class Positions:
    """Bytes that an encoding of a table needs in addition to its values.

    Attributes:
        per_value: bytes for each stored value.
        fixed: bytes whatever is stored.
    """

    per_value: float = 0
    fixed: int = 0


PREFIX = Positions()
"""Positions of prefix tables: none, since a bundle sorts the rows by their size."""


def sparse_positions(rows: Sequence[int], d: int) -> tuple[Positions, ...]:
    """Return the encodings of tables of `rows` rows each with values anywhere in `d` columns: CSR and a bit mask.

    A column number takes the narrowest of 1, 2 and 4 bytes, a row one pointer, and a table one more at its end; the
    mask of a row fills whole bytes. With one byte a column and d = 64, CSR is smaller below 4 values a row.
    """
    column = next(width for width in (1, 2, 4) if d <= 1 << (8 * width))
    csr = Positions(column, sum(POINTER_BYTES * (n + 1) for n in rows))
    bitmask = Positions(0, sum(n * -(-d // 8) for n in rows))
    return csr, bitmask
