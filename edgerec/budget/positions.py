"""What it takes to say where the values of a sparse table stand, which no paper's parameter count includes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

POINTER_BYTES = 4
"""A row pointer of CSR, up to 2^32 values."""


@dataclass(frozen=True)
class Positions:
    """Bytes beside the values, in one way to write tables down.

    Attributes:
        per_value: for each stored value.
        fixed: whatever is stored.
    """

    per_value: float = 0
    fixed: int = 0


PREFIX = Positions()
"""Of tables whose rows keep their first values: nothing, since a bundle sorts the rows by their size."""


def sparse_positions(rows: Sequence[int], d: int) -> tuple[Positions, ...]:
    """The ways to write down tables of `rows` rows each with values anywhere in `d` columns: CSR, and a bit a place.

    A column takes the narrowest of 1, 2 and 4 bytes, and a row one pointer, with one more at a table's end; a row's
    bits fill whole bytes. With one byte a column and d = 64, CSR is the smaller one below 4 values a row.
    """
    column = next(width for width in (1, 2, 4) if d <= 1 << (8 * width))
    csr = Positions(column, sum(POINTER_BYTES * (n + 1) for n in rows))
    bitmask = Positions(0, sum(n * -(-d // 8) for n in rows))
    return csr, bitmask
