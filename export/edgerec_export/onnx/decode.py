"""Decoding in a graph: look-ups in the flat vector of a table, codes, scales, and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgerec.tables.codes import BYTE_POWER, LARGEST
from edgerec_export.onnx.builder import Graph, Name, Tensor
from edgerec_export.values import ONE, PER_BYTE, STORED, ZERO, ZERO4, Block, is_integer


@dataclass(frozen=True)
class DecodedRows:
    """Rows of a table in a graph.

    Attributes:
        values: [..., d] float32, or uint8 codes around 128.
        scale: [..., 1] float32 for codes; None for floats.
    """

    values: Name
    scale: Name | None = None

    def as_float(self, g: Graph) -> Name:
        """Add [..., d] float32 values."""
        return self.values if self.scale is None else g.op("Mul", self.centred(g), self.scale)

    def centred(self, g: Graph) -> Name:
        """Add [..., d] float32 signed codes, or the values of floats."""
        return self.values if self.scale is None else centred(g, self.values)


def centred(g: Graph, codes: Name, zero: int = ZERO) -> Name:
    """Add signed codes as float32."""
    return g.op("DequantizeLinear", codes, g.constant(1.0, "float32"), g.constant(zero, "uint8"))


def row_numbers(g: Graph, stored: Name, dtype: str, top: np.float32) -> Name:
    """Add stored numbers of rows as float32: shares of `top` in float16, or the bytes of `values.to_bytes`."""
    numbers = g.cast(stored, "float32")
    if dtype == "uint8":
        for _ in range(2):
            numbers = g.op("Mul", numbers, numbers)
        top = top / BYTE_POWER
    return g.op("Mul", numbers, g.constant(top, "float32"))


@dataclass(frozen=True)
class Flat:
    """The flat vector of a table in a graph.

    Attributes:
        name: stem of the names of its tensors.
        offset: offset in the tables file in bytes.
        blocks: blocks of the vector.
        scales: (blocks,) float32 scales; None for floats.
        row_scales: (rows,) float16 or uint8 scales of rows; None without them.
        top_scale: the factor of row scales.
    """

    name: str
    offset: int
    blocks: tuple[Block, ...]
    scales: NDArray[np.float32] | None
    row_scales: Tensor | None = None
    top_scale: np.float32 = ONE

    @property
    def precision(self) -> str:
        return self.blocks[0].precision

    @property
    def dtype(self) -> str:
        return STORED[self.precision]

    @property
    def is_integer(self) -> bool:
        return is_integer(self.precision)

    @property
    def size(self) -> int:
        """Number of entries; the last one, after all blocks, stands for missing values."""
        return sum(block.stored for block in self.blocks) + 1

    @property
    def index_type(self) -> str:
        """dtype of indices: looking up rows with int32 takes three quarters of the time of int64."""
        return "int32" if 2 * self.size < 1 << 31 else "int64"

    def row(self, g: Graph, rows: Name) -> Name:
        """Add row numbers of the index type: [...] int64 -> [..., 1]."""
        row = g.op("Unsqueeze", rows, g.ints(-1))
        return row if self.index_type == "int64" else g.cast(row, self.index_type)

    def number(self, g: Graph, value: Any) -> Name:
        """Add a constant of the index type."""
        return g.constant(value, self.index_type)

    def inside(self, g: Graph, row: Name, block: Name | None) -> Name:
        """Add the [..., 1] number of each row within its block."""
        return g.op("Sub", row, self.per_block(g, [b.first for b in self.blocks], block)) if block else row

    def per_block(
        self, g: Graph, values: Sequence[Any] | NDArray[Any], block: Name | None, dtype: str | None = None
    ) -> Name:
        """Add the value of each row's block, or one constant if the values of all blocks are equal.

        Args:
            values: one number for each block.
            dtype: dtype of the values; None for the index type.
        """
        dtype = dtype or self.index_type
        if block is None or len(set(np.asarray(values).tolist())) == 1:
            return g.constant(values[0], dtype)
        return g.op("Gather", g.constant(values, dtype), block)

    def block_of(self, g: Graph, row: Name) -> Name | None:
        """Add the block number of each row [..., 1]; None if there is one block."""
        starts = [block.first for block in self.blocks[1:]]
        if not starts:
            return None
        after = g.cast(g.op("GreaterOrEqual", row, self.number(g, starts)), self.index_type)
        return g.op("ReduceSum", after, g.ints(-1), keepdims=1)

    def nothing(self, g: Graph) -> Name:
        """Add the constant of a missing value: 0, or its code."""
        return g.constant(ZERO, "uint8") if self.is_integer else g.constant(0.0, "float32")

    def gather(self, g: Graph, index: Name, block: Name | None, valid: Name | None = None) -> Name:
        """Add values by their index inside their blocks; missing values if indices are not valid.

            index [...] of `index_type`, block [..., 1], valid [...] bool  ->  [...] float32, or uint8 codes around 128

        One GatherElements reads the stored entries; a scalar Gather takes 11 times as long.
        """
        if any(b.precision == "int2" for b in self.blocks):
            return self._gather_parts(g, index, block, valid)
        starts = [b.start for b in self.blocks]
        above = None
        at = index
        if any(b.precision == "int4" for b in self.blocks):
            half = self.per_block(g, [b.stored for b in self.blocks], block)
            above = g.op("GreaterOrEqual", index, half)
            at = g.op("Sub", index, g.op("Where", above, half, self.number(g, 0)))
        if any(starts):
            at = g.op("Add", at, self.per_block(g, starts, block))
        if valid:
            at = g.op("Where", valid, at, self.number(g, self.size - 1))
        values = self.gather_at(g, at)
        if above is not None:
            low = g.op("BitwiseAnd", values, g.constant(15, "uint8"))
            high = g.op("BitShift", values, g.constant(4, "uint8"), direction="RIGHT")
            nibbles = g.op("Where", above, high, low)
            # onnxruntime 1.20 has no Add of uint8.
            shifted = g.op("Add", g.cast(nibbles, "int32"), g.constant(ZERO - ZERO4, "int32"))
            codes = g.cast(shifted, "uint8")
            if all(b.precision == "int4" for b in self.blocks):
                return codes
            narrow = g.constant([b.precision == "int4" for b in self.blocks], "bool")
            both = g.op("Where", g.op("Gather", narrow, block), codes, values)
            # There is no entry that decodes to zero in both precisions.
            return g.op("Where", valid, both, self.nothing(g)) if valid else both
        return g.cast(values, "float32") if self.precision == "fp16" else values

    def _gather_parts(self, g: Graph, index: Name, block: Name | None, valid: Name | None) -> Name:
        """Add codes as `gather` does, of blocks of which some or all are int2."""
        shared = [PER_BYTE.get(b.precision, 1) for b in self.blocks]
        stored = self.per_block(g, [b.stored for b in self.blocks], block)
        part, bound = self.number(g, 0), stored
        for _ in range(max(shared) - 1):
            part = g.op("Add", part, g.cast(g.op("GreaterOrEqual", index, bound), self.index_type))
            bound = g.op("Add", bound, stored)
        at = g.op("Sub", index, g.op("Mul", part, stored))
        at = g.op("Add", at, self.per_block(g, [b.start for b in self.blocks], block))
        if valid:
            at = g.op("Where", valid, at, self.number(g, self.size - 1))
        shift = g.cast(g.op("Mul", part, self.per_block(g, [8 // n for n in shared], block)), "uint8")
        bits = g.op("BitShift", self.gather_at(g, at), shift, direction="RIGHT")
        codes = g.op("BitwiseAnd", bits, self.per_block(g, [(1 << 8 // n) - 1 for n in shared], block, "uint8"))
        # int2 is twice its bits, less 3, around 128; int4 its bits less 8.
        doubled = g.op("Mul", g.cast(codes, "int32"), self.per_block(g, [n // 4 + 1 for n in shared], block, "int32"))
        zeros = {1: 0, 2: ZERO - ZERO4, 4: ZERO - LARGEST["int2"]}
        found = g.cast(g.op("Add", doubled, self.per_block(g, [zeros[n] for n in shared], block, "int32")), "uint8")
        return g.op("Where", valid, found, self.nothing(g)) if valid else found

    def gather_at(self, g: Graph, at: Name) -> Name:
        """Add stored entries [...] of the vector."""
        flat = g.table(self.name, Tensor(self.offset, self.dtype, (self.size,)))
        values = g.op("GatherElements", flat, g.reshape(at, -1), axis=0)
        return g.op("Reshape", values, g.op("Shape", at), allowzero=1)  # there may be no candidates

    def scale_of(self, g: Graph, row: Name, block: Name | None) -> Name | None:
        """Add the [..., 1] float32 scale of each row [..., 1]; None for floats."""
        if self.row_scales is not None:
            table = g.table(self.name + "s", self.row_scales)
            stored = g.op(
                "Reshape", g.op("GatherElements", table, g.reshape(row, -1), axis=0), g.op("Shape", row), allowzero=1
            )
            return row_numbers(g, stored, self.row_scales.dtype, self.top_scale)
        if self.scales is None:
            return None
        scale = self.per_block(g, self.scales, block, "float32")
        # A common scale is expanded to the shape of the rows.
        return g.op("Expand", scale, g.op("Shape", row))

    def scaled(self, g: Graph, scores: Name, number: int, rows: slice | None = None) -> Name:
        """Multiply [..., rows] float32 sums of integer products of a block, or some of its rows, by their scales.

        Sums are returned unchanged if the whole table has one scale.
        """
        block = self.blocks[number]
        if self.row_scales is not None:
            some = slice(0, block.rows) if rows is None else rows
            dtype = self.row_scales.dtype
            at = self.row_scales.offset + np.dtype(dtype).itemsize * (block.first + some.start)
            name = f"{self.name}s{number}_{some.start}" if some.start else f"{self.name}s{number}"
            part = Tensor(at, dtype, (some.stop - some.start,))
            scales = row_numbers(g, g.fresh(g.table(name, part)), dtype, self.top_scale)
            return g.op("Mul", scores, scales)
        if self.scales is None or len(self.scales) == 1:
            return scores
        return g.op("Mul", scores, g.constant(self.scales[number], "float32"))

    def scaled_rows(self, g: Graph, sums: Name, rows: slice) -> Name:
        """Multiply [..., rows] float32 sums of products of some rows by their row scales."""
        if self.row_scales is None:
            raise ValueError("the table has no row scales")
        dtype = self.row_scales.dtype
        at = self.row_scales.offset + np.dtype(dtype).itemsize * rows.start
        part = Tensor(at, dtype, (rows.stop - rows.start,))
        name = self.name + "s" if part == self.row_scales else f"{self.name}s{rows.start}"
        scales = row_numbers(g, g.fresh(g.table(name, part)), dtype, self.top_scale)
        return g.op("Mul", sums, scales)

    def part(self, g: Graph, number: int, shape: tuple[int, ...], first: int | None = None) -> Name:
        """Add the entries of a block, as a tensor; those from index `first` on if only some of them are meant."""
        block = self.blocks[number]
        at = self.offset + (block.start + (first or 0)) * np.dtype(self.dtype).itemsize
        name = f"{self.name}{number}" if first is None else f"{self.name}{number}_{first}"
        return g.table(name, Tensor(at, self.dtype, shape))


class Slots(NamedTuple):
    """Rows of a table, as a block stores them.

    Attributes:
        values: (m, width) float32.
        columns: (m, width) int64, the values' dimensions; (1, width) if all rows have the same.
    """

    values: NDArray[np.float32]
    columns: NDArray[np.int64]


AddRows = Callable[[Graph, Name], DecodedRows]
ROWS_A_STEP = 4096
"""Maximum number of rows decoded at a time when a whole catalogue is scored by decoding."""
VALUES_A_STEP = 1 << 20
"""Maximum number of values decoded at a time, since csr takes 64 bytes for each."""


def rows_a_step(n_rows: int, d: int) -> int:
    """Return the number of rows of `d` dimensions that are decoded at a time."""
    return min(ROWS_A_STEP, max(1, VALUES_A_STEP // d), n_rows)


def slots(rows: NDArray[np.float32], width: int) -> Slots:
    """Return the values and columns of (m, d) rows with at most `width` nonzero values.

    Columns of nonzero values come first, ascending. A shorter row is filled with columns of its zeros, so that all
    columns of a row differ.
    """
    columns = np.argsort(rows == 0, axis=1, kind="stable")[:, :width]
    return Slots(np.take_along_axis(rows, columns, 1), columns)


def add_scattered(g: Graph, flat: Flat, values: Name, columns: Name, valid: Name | None, d: int) -> Name:
    """Add dense rows from their values and columns.

    values, columns int64 [..., K], valid bool [..., K] or None  ->  [..., d]

    Invalid slots are written to an extra column, which is removed afterwards.
    """
    width = d if valid is None else d + 1
    if valid is not None:
        columns = g.op("Where", valid, columns, g.constant(d))
    lead = g.op("Shape", columns, start=0, end=-1)
    empty = g.op("Expand", flat.nothing(g), g.op("Concat", lead, g.ints(width), axis=0))
    full = g.op("ScatterElements", empty, columns, values, axis=-1)
    return full if valid is None else g.leading(full, d)


def add_scores_by_decoding(g: Graph, user: DecodedRows, n_rows: int, d: int, decode: AddRows, one_scale: bool) -> Name:
    """Add the nodes that score every row by decoding it.

    user [B, d]  ->  [B, n_rows] float32, without the user's scale and that of a table with one scale
    """

    def score(body: Graph, rows: Name) -> Name:
        found = decode(body, rows)
        products = body.op("MatMul", user.centred(body), body.op("Transpose", found.centred(body), perm=[1, 0]))
        if found.scale is None or one_scale:
            return products
        return body.op("Mul", products, body.op("Transpose", found.scale, perm=[1, 0]))

    return add_by_decoding(g, n_rows, d, score)


def add_by_decoding(g: Graph, n_rows: int, d: int, score: Callable[[Graph, Name], Name]) -> Name:
    """Add a loop of `score` over all rows, a few thousand at a time, which limits memory: -> [B, n_rows] float32.

    Args:
        score: adds the scores of rows: (some,) -> [B, some].
    """
    at_once = rows_a_step(n_rows, d)
    steps = -(-n_rows // at_once)

    def step(body: Graph, number: Name) -> Name:
        first = body.op("Mul", number, body.constant(at_once))
        rows = body.op("Range", first, body.op("Add", first, body.constant(at_once)), body.constant(1))
        return score(body, body.op("Min", rows, body.constant(n_rows - 1)))

    pieces = g.repeated(steps, step, ["B", at_once])
    flat = g.op("Reshape", g.op("Transpose", pieces, perm=[1, 0, 2]), g.ints(0, -1))
    return flat if n_rows % at_once == 0 else g.leading(flat, n_rows)
