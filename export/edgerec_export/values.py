"""Storage of values: precisions, blocks of the flat vector of a table, and integer codes with their scales.

| precision | stored as | a value is |
|---|---|---|
| fp32 | float32 | itself |
| fp16 | float16 | itself, converted to float32 for computation |
| int8 | uint8 | (code - 128) * scale |
| int4 | two to a uint8 | (code - 8) * scale; byte i of a block of m bytes holds values i, low, and m + i, high |
| int2 | four to a uint8 | (2 code - 3) * scale: -3, -1, 1, 3; byte i holds values i, m + i, 2 m + i, 3 m + i |

int2 has no zero, so that only `dense` and `mixed` store it, with a scale a row.

Integer codes are unsigned with a zero point: MatMulInteger(uint8, int8) saturates on x86 with AVX2 and without VNNI.

`Coder` chooses scales and rounding so that scores, and with them rankings, change least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BITS_PER_VALUE
from edgerec.tables import RowCodes, Table
from edgerec.tables.codes import LARGEST, TINY, codes_with_feedback, damped, from_bytes, rounded, to_codes

if TYPE_CHECKING:
    from edgerec.runtime.patch.rows import Block as StoredBlock

ZERO = 128
"""The stored code of zero in int8 and in decoded int4; `ZERO4` is that of packed int4."""
ZERO4 = 8
ONE = np.float32(1)
PER_BYTE = {"int4": 2, "int2": 4}
"""Values that share a byte."""
BYTES = {name: bits / 8 for name, bits in BITS_PER_VALUE.items()}
STORED = {"fp32": "float32", "fp16": "float16", "int8": "uint8", "int4": "uint8", "int2": "uint8"}
PRECISIONS = tuple(STORED)
"""Precisions of a stored table."""
NO_VALUE = {"fp32": 0, "fp16": 0, "int8": ZERO, "int4": ZERO4 | (ZERO4 << 4), "int2": 0}
"""The stored entry that reads as zero; of int2, which has none, an entry that is not read."""
RUNS = 32
"""Number of ranges of a sample of rows; see `spread`."""
FARTHEST = np.float32(1 << 12)
"""Largest ratio of a row scale to the top scale of an older bundle: float16 ends at 65,504."""
SAMPLE = 16_384
"""Number of rows to which the scale of a block is fitted."""
CUTS = {"int8": np.linspace(0.7, 1.0, 7), "int4": np.linspace(0.3, 1.0, 15), "int2": np.linspace(0.2, 1.0, 17)}
"""Clipping thresholds that are tried for a scale, as shares of the largest value."""
FAR = 30
"""Largest binary exponent of values that are squared without scaling."""
DAMPING = 0.01
"""Share of the mean of the Gram matrix's diagonal that is added to the diagonal, as in GPTQ."""
GRAM_ROWS = 1 << 17
"""Largest number of rows from which a Gram matrix is computed."""
DESCENTS = 3
"""Rounds of coordinate descent after int2 was rounded with error feedback."""
MOST_AT_ONCE = 1 << 25
"""Values of dense rows that are in memory at once, at most."""
ROWS_AT_ONCE = 1 << 12
"""Rows whose scales are fitted together: they stay in the cache, which takes a third of the time."""


def rows_at_once(d: int, most: int) -> int:
    """Return the number of dense rows of `d` values, at most `most`, that are in memory at once."""
    return max(1, min(most, MOST_AT_ONCE // d))


def is_integer(precision: str) -> bool:
    """Return True if values of this precision are stored as codes."""
    return precision in LARGEST


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of a stored table that have the same width and precision.

    They are the rows first..first + rows - 1, in `stored` entries from `start` on of the flat vector, the array of all
    values of the table.

    Attributes:
        width: number of values of a row; d in a layout with rows of any length.
        n_values: values of all rows.
        stored: entries of the flat vector; for int4 this is also the number of values in low halves.
    """

    width: int
    rows: int
    first: int
    start: int
    n_values: int
    stored: int
    precision: str


def block_of(width: int, rows: int, first: int, start: int, precision: str, *, by_column: bool = False) -> Block:
    """Return a block of rows of equal width.

    By column, the parts of bytes that several values share have whole dimensions, so that each is a matrix.
    """
    shared = PER_BYTE.get(precision, 1)
    stored = -(-width // shared) * rows if by_column else -(-width * rows // shared)
    return Block(width, rows, first, start, width * rows, stored, precision)


def read_row_scales(stored: NDArray[Any], top: np.float32) -> NDArray[np.float32]:
    """Return (n,) float32 row scales from shares of `top` in float16, or from the bytes of `to_bytes`."""
    return from_bytes(stored, top) if stored.dtype == np.uint8 else stored.astype(np.float32) * top


def unit_of(precision: str) -> tuple[int, int]:
    """Return the bits of a stored value, and those that read as zero; 0 for int2, which has none."""
    return BITS_PER_VALUE[precision], ZERO4 if precision == "int4" else NO_VALUE[precision]


def store(flat: NDArray[Any], values: NDArray[Any], at: int, block: Block) -> None:
    """Write consecutive values of a block into its entries of the flat vector.

    Args:
        flat: the whole vector.
        values: (m,) floats, or signed codes.
        at: index of the first value inside the block. int4 is written half by half, low before high; int2 in its four
            parts, in this order.
    """
    if block.precision == "int2":
        _store_quarters(flat, ((values + LARGEST["int2"]) // 2).astype(np.uint8), at, block)
        return
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


def _store_quarters(flat: NDArray[Any], codes: NDArray[np.uint8], at: int, block: Block) -> None:
    for part in range(4):
        first, stop = max(at, part * block.stored), min(at + codes.size, (part + 1) * block.stored)
        if first < stop:
            shift = block.start - part * block.stored
            flat[first + shift : stop + shift] |= codes[first - at : stop - at] << 2 * part


def fetch(flat: NDArray[Any], index: NDArray[np.int64], block: Block) -> NDArray[Any]:
    """Return values of a block by their index inside it: float32, or signed int32 codes."""
    if block.precision == "int4":
        above = index >= block.stored
        entry = flat[block.start + index - above * block.stored].astype(np.int32)
        return np.where(above, entry >> 4, entry & 15) - ZERO4
    if block.precision == "int2":
        part = index // block.stored
        entry = flat[block.start + index - part * block.stored].astype(np.int32)
        return np.asarray(2 * (entry >> 2 * part & 3) - LARGEST["int2"])
    entry = flat[block.start + index]
    return entry.astype(np.int32) - ZERO if block.precision == "int8" else entry.astype(np.float32)


def spread(n: int, count: int) -> NDArray[np.int64]:
    """Return at most `count` numbers below n, in `RUNS` evenly spaced ranges, so that neighbours share file pages."""
    if n <= count:
        return np.arange(n)
    starts = np.linspace(0, n - count // RUNS, RUNS).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(count // RUNS))


def chunks(n: int, size: int) -> Iterator[slice]:
    """Split range(n) into slices of at most `size`."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


@dataclass(frozen=True)
class PreviousScales:
    """Scales of a table of integers, read from an older bundle or copied from another table.

    Attributes:
        blocks: the blocks of the table, in row order.
        scales: (1,) or (blocks,) float32; None with one scale a row.
        top: the factor of stored row scales; None without row scales.
    """

    blocks: tuple[StoredBlock, ...]
    scales: NDArray[np.float32] | None
    top: np.float32 | None

    def scale_of(self, block: Block, number: int) -> np.float32 | None:
        """Return the older scale of the `number`th block with the width and precision of `block`.

        For a new width this is the scale of the nearest width. None if no block has this precision, or each row has its
        own scale.
        """
        if self.scales is None:
            return None
        if len(self.scales) == 1:
            return np.float32(self.scales[0])
        bits = 8 // PER_BYTE.get(block.precision, 1)
        alike = [n for n, one in enumerate(self.blocks) if one.bits == bits]
        if not alike:
            return None
        nearest = min(alike, key=lambda n: abs(self.blocks[n].width - block.width))
        same = [n for n in alike if self.blocks[n].width == self.blocks[nearest].width]
        return np.float32(self.scales[same[min(number, len(same) - 1)]])


def gram(users: Table) -> NDArray[np.float64]:
    """Return the (d, d) mean of u u' over the rows of a user table; of a large table, over an even sample."""
    rows = np.arange(0, users.n_rows, -(-users.n_rows // GRAM_ROWS))
    vectors = users.rows(rows).astype(np.float64)
    mean: NDArray[np.float64] = vectors.T @ vectors / len(rows)
    return mean


class Coder:
    """A quantiser of values to integer codes.

    With G the mean of u u' over the training users and e the error of a row, the mean squared error of the row's scores
    is e G e'. Scales minimise this error rather than e e', and int4 and int2 round with error feedback (the solver of
    GPTQ, Frantar et al. 2022, arXiv 2210.17323, with G as the Hessian). Without a user table there is none: the same
    rows make the users, where least squares amplify errors that were moved to weak dimensions
    (docs/research/quality.md).
    """

    def __init__(
        self,
        gram: NDArray[np.float64] | None,
        previous: PreviousScales | None = None,
        trained: RowCodes | None = None,
    ) -> None:
        """Create the quantiser of one table.

        Args:
            gram: (d, d) mean of u u' over users; None to weight all directions equally.
            previous: scales of an older bundle to use again; None to fit scales.
            trained: scales of rows that are codes already, which are stored as they are; None to fit scales.
        """
        self._gram, self.previous, self.trained = None if gram is None else _near_one(gram), previous, trained

    def plain(self) -> Coder:
        """Return the quantiser without the Gram matrix, for rows whose values are not their leading dimensions."""
        return Coder(None, self.previous)

    def scale(self, rows: Sequence[NDArray[np.float32]], precision: str) -> np.float32:
        """Return the best common scale of rows, given as (m, w) leading dimensions for each width w."""
        most, largest = LARGEST[precision], max(float(np.abs(values).max(initial=0)) for values in rows)
        if largest <= TINY * most:
            return np.float32(TINY)
        if power := int(_far(np.float32(largest))):
            near = self.scale([np.ldexp(values, -power) for values in rows], precision)
            return np.float32(np.ldexp(near, power))
        tried = [np.float32(largest * cut / most) for cut in CUTS[precision]]
        errors = np.zeros(len(tried))
        for values in rows:
            root = self._root(values.shape[1])
            difference = (to_codes(values, scale, precision) * scale - values for scale in tried)
            errors += [float(np.square(one @ root).sum()) for one in difference]
        return tried[int(np.argmin(errors))]

    def row_scales(self, values: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
        """Return the (m,) best scale of each row."""
        root = self._root(values.shape[1])
        best = np.empty(len(values), np.float32)
        for part in chunks(len(values), ROWS_AT_ONCE):
            powers = _far(np.abs(values[part]).max(1, initial=0))
            near = np.ldexp(values[part], -powers[:, None]) if powers.any() else values[part]
            best[part] = _best_row_scales(near, root, precision)
            if powers.any():
                best[part] = np.maximum(np.ldexp(best[part], powers), TINY)
        return best

    def codes(self, values: NDArray[np.float32], scale: Any, precision: str) -> NDArray[np.int32]:
        """Return (m, w) signed codes of leading dimensions; int4 and int2 are rounded with error feedback.

        Args:
            scale: one number, or (m,).
        """
        scale = np.asarray(scale, np.float32).reshape(-1)
        if self._gram is None or precision == "int8":
            return to_codes(values, scale[:, None], precision)
        codes = codes_with_feedback(values.T, scale, self._damped(values.shape[1]), precision)
        return self._descended(values, codes, scale).T if precision == "int2" else codes.T

    def _descended(
        self, values: NDArray[np.float32], codes: NDArray[np.int32], scale: NDArray[np.float32]
    ) -> NDArray[np.int32]:
        """Return (w, m) codes of int2 after rounds of coordinate descent on e G e'.

        NDCG@20 of dense int2 on ML-1M, iALS with users: .3306 instead of .3296.
        """
        gram = self._damped(values.shape[1]).astype(np.float32)
        error = values.T - codes * scale
        for _ in range(DESCENTS):
            for at, row in enumerate(gram):
                wanted = codes[at] + (row @ error) / (row[at] * scale)
                better = to_codes(wanted, np.float32(1), "int2")
                error[at] += (codes[at] - better) * scale
                codes[at] = better
        return codes

    def _damped(self, width: int) -> NDArray[np.float64]:
        if self._gram is None:
            return np.eye(width)
        return damped(self._gram[:width, :width], DAMPING)

    def _root(self, width: int) -> NDArray[np.float32]:
        """Return the (w, w) Cholesky factor L of G = L L'."""
        return np.linalg.cholesky(self._damped(width)).astype(np.float32)


def _far(largest: Any) -> NDArray[np.int32]:
    """Return the binary exponent of values whose squares may leave float32's range; 0 for other values."""
    exponent: NDArray[np.int32] = np.frexp(largest)[1]
    return np.where(np.abs(exponent) > FAR, exponent, 0).astype(np.int32)


def _near_one(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a matrix with a trace near 1, by a power of four; no scale or rounding depends on this factor."""
    trace = float(np.trace(gram))
    exponent = math.frexp(trace)[1]
    return np.ldexp(gram, -2 * (exponent // 2)) if trace and abs(exponent) > 2 * FAR else gram


def _best_row_scales(values: NDArray[np.float32], root: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    most, largest = np.float32(LARGEST[precision]), np.abs(values).max(1, initial=0)
    best, lowest = np.full(len(values), TINY, np.float32), np.full(len(values), np.inf, np.float32)
    for cut in CUTS[precision]:
        scale = np.maximum(largest * np.float32(cut) / most, TINY)[:, None]
        difference = rounded(values / scale, precision)
        np.clip(difference, -most, most, out=difference)
        difference *= scale
        difference -= values
        error = np.square(difference @ root).sum(1)
        best, lowest = np.where(error < lowest, scale[:, 0], best), np.minimum(error, lowest)
    return best
