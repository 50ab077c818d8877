"""How values are stored: precisions, the flat vector of a table in blocks, its scales, and their decoding.

| precision | stored as | a value is |
|---|---|---|
| fp32 | float32 | itself |
| fp16 | float16 | itself, computed with in float32 |
| int8 | uint8 | (code - 128) * scale |
| int4 | two to a uint8 | (code - 8) * scale; byte i of a block of m bytes holds values i, low, and m + i, high |

Integer codes are unsigned around a zero point: MatMulInteger(uint8, int8) saturates on x86 with AVX2 and no VNNI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BITS_PER_VALUE

ZERO = 128
"""The code of zero, of int8 and of decoded int4."""
ZERO4 = 8
ONE = np.float32(1)
LARGEST = {"int8": 127, "int4": 7}
BYTES = {name: bits / 8 for name, bits in BITS_PER_VALUE.items()}
STORED = {"fp32": "float32", "fp16": "float16", "int8": "uint8", "int4": "uint8"}
PRECISIONS = tuple(STORED)
"""What a table can be stored in."""
NO_VALUE = {"fp32": 0, "fp16": 0, "int8": ZERO, "int4": ZERO4 | (ZERO4 << 4)}
"""The stored entry that reads as zero."""
RUNS = 32
TINY = np.finfo(np.float32).tiny


def is_integer(precision: str) -> bool:
    return precision in LARGEST


@dataclass(frozen=True)
class Block:
    """Rows first..first + rows of a table, in `stored` entries of the flat vector from `start` on.

    Attributes:
        width: places of a row; of a layout with rows of any length, the dimensions.
        n_values: places of all its rows.
        stored: entries that they take; for int4 also the number of values in low halves.
    """

    width: int
    rows: int
    first: int
    start: int
    n_values: int
    stored: int
    precision: str


def block_of(width: int, rows: int, first: int, start: int, precision: str, *, by_column: bool = False) -> Block:
    """A block of rows of equal width. By column, int4 halves are whole dimensions, so that each half is a matrix."""
    stored = width * rows
    if precision == "int4":
        stored = -(-width // 2) * rows if by_column else -(-width * rows // 2)
    return Block(width, rows, first, start, width * rows, stored, precision)


def to_codes(values: NDArray[np.float32], scale: Any, precision: str) -> NDArray[np.int32]:
    """Codes around 0, rounded to nearest and cut to the largest."""
    most = LARGEST[precision]
    codes: NDArray[np.int32] = np.clip(np.rint(values / scale), -most, most).astype(np.int32)
    return codes


def store(flat: NDArray[Any], values: NDArray[Any], at: int, block: Block) -> None:
    """Write consecutive values of a block into its entries of the flat vector.

    Args:
        flat: the whole vector.
        values: (m,) floats, or codes around 0.
        at: the first one's number inside the block. int4 is written half by half, low before high.
    """
    if block.precision != "int4":
        shift = ZERO if block.precision == "int8" else 0
        flat[block.start + at : block.start + at + values.size] = values + shift
        return
    nibbles = (values + ZERO4).astype(np.uint8)
    low = nibbles[: max(block.stored - at, 0)]
    flat[block.start + at : block.start + at + low.size] = low | (ZERO4 << 4)
    high = nibbles[low.size :]
    place = slice(block.start + at + low.size - block.stored, block.start + at + values.size - block.stored)
    flat[place] = (flat[place] & 15) | (high << 4)


def fetch(flat: NDArray[Any], index: NDArray[np.int64], block: Block) -> NDArray[Any]:
    """Values of a block by their numbers inside it: float32, or int32 codes around 0."""
    if block.precision == "int4":
        above = index >= block.stored
        entry = flat[block.start + index - above * block.stored].astype(np.int32)
        return np.where(above, entry >> 4, entry & 15) - ZERO4
    entry = flat[block.start + index]
    return entry.astype(np.int32) - ZERO if block.precision == "int8" else entry.astype(np.float32)


def spread(n: int, count: int) -> NDArray[np.int64]:
    """At most `count` of the numbers below n, in 32 evenly spread runs of neighbours, which share pages of a file."""
    if n <= count:
        return np.arange(n)
    starts = np.linspace(0, n - count // RUNS, RUNS).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(count // RUNS))


def chunks(n: int, size: int) -> Iterator[slice]:
    """0..n in pieces of at most `size`."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
