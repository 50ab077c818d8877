"""Values in a graph: looked up in the flat vector of a table, decoded, scaled, and put at their columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgerec_export.onnx.builder import Graph, Name, Tensor
from edgerec_export.values import ONE, STORED, ZERO, ZERO4, Block, is_integer


@dataclass(frozen=True)
class Rows:
    """Decoded rows in a graph.

    Attributes:
        values: [..., d] float32, or uint8 codes around 128.
        scale: [..., 1] float32 where `values` are codes.
    """

    values: Name
    scale: Name | None = None

    def as_float(self, g: Graph) -> Name:
        """[..., d] float32."""
        return self.values if self.scale is None else g.op("Mul", self.centred(g), self.scale)

    def centred(self, g: Graph) -> Name:
        """[..., d] float32: codes around 0, exact; values where there are no codes."""
        return self.values if self.scale is None else centred(g, self.values)


def centred(g: Graph, codes: Name, zero: int = ZERO) -> Name:
    """float32 codes around 0."""
    return g.op("DequantizeLinear", codes, g.constant(1.0, "float32"), g.constant(zero, "uint8"))


@dataclass(frozen=True)
class Flat:
    """The flat vector of a table in a graph.

    Attributes:
        name: of its tensors.
        offset: in the tables file, in bytes.
        scales: (blocks,) float32; one number a block, None where values are floats.
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
        """Entries of the vector; the last, after all blocks, is what stands where a row has no value."""
        return sum(block.stored for block in self.blocks) + 1

    @property
    def index_type(self) -> str:
        """Of numbers of values: with int32 a looked-up row costs three quarters of what it does with int64."""
        return "int32" if 2 * self.size < 1 << 31 else "int64"

    def row(self, g: Graph, rows: Name) -> Name:
        """[...] int64  ->  [..., 1] of the index type."""
        row = g.op("Unsqueeze", rows, g.ints(-1))
        return row if self.index_type == "int64" else g.cast(row, self.index_type)

    def number(self, g: Graph, value: Any) -> Name:
        """A constant of the index type."""
        return g.constant(value, self.index_type)

    def inside(self, g: Graph, row: Name, block: Name | None) -> Name:
        """[..., 1] the number of each row within its block."""
        return g.op("Sub", row, self.per_block(g, [b.first for b in self.blocks], block)) if block else row

    def per_block(
        self, g: Graph, values: Sequence[Any] | NDArray[Any], block: Name | None, dtype: str | None = None
    ) -> Name:
        """A number of each block, for the block of each row, of the index type where no other is given; one for all
        where they agree."""
        dtype = dtype or self.index_type
        if block is None or len(set(np.asarray(values).tolist())) == 1:
            return g.constant(values[0], dtype)
        return g.op("Gather", g.constant(values, dtype), block)

    def block_of(self, g: Graph, row: Name) -> Name | None:
        """The block of each row [..., 1]; None where there is one block."""
        starts = [block.first for block in self.blocks[1:]]
        if not starts:
            return None
        after = g.cast(g.op("GreaterOrEqual", row, self.number(g, starts)), self.index_type)
        return g.op("ReduceSum", after, g.ints(-1), keepdims=1)

    def nothing(self, g: Graph) -> Name:
        """What stands where a row has no value: 0, or its code."""
        return g.constant(ZERO, "uint8") if self.is_integer else g.constant(0.0, "float32")

    def gather(self, g: Graph, index: Name, block: Name | None, valid: Name | None = None) -> Name:
        """Values by their numbers inside their blocks; no value where these are not valid.

            index [...] of `index_type`, block [..., 1], valid [...] bool  ->  [...] float32, or uint8 codes around 128

        One GatherElements does it (a scalar Gather costs 11 times as much), on values as they are stored.
        """
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
            # onnxruntime 1.20 adds no uint8.
            shifted = g.op("Add", g.cast(nibbles, "int32"), g.constant(ZERO - ZERO4, "int32"))
            codes = g.cast(shifted, "uint8")
            if all(b.precision == "int4" for b in self.blocks):
                return codes
            narrow = g.constant([b.precision == "int4" for b in self.blocks], "bool")
            both = g.op("Where", g.op("Gather", narrow, block), codes, values)
            # No stored entry reads as zero in both.
            return g.op("Where", valid, both, self.nothing(g)) if valid else both
        return g.cast(values, "float32") if self.precision == "fp16" else values

    def gather_at(self, g: Graph, at: Name) -> Name:
        """Entries [...] of the vector, as they are stored."""
        flat = g.table(self.name, Tensor(self.offset, self.dtype, (self.size,)))
        values = g.op("GatherElements", flat, g.reshape(at, -1), axis=0)
        return g.op("Reshape", values, g.op("Shape", at), allowzero=1)  # no candidates at all is an answer too

    def scale_of(self, g: Graph, row: Name, block: Name | None) -> Name | None:
        """[..., 1] float32 the scale of each row [..., 1]; None for floats."""
        if self.row_scales is not None:
            table = g.table(self.name + "s", self.row_scales)
            halves = g.op(
                "Reshape", g.op("GatherElements", table, g.reshape(row, -1), axis=0), g.op("Shape", row), allowzero=1
            )
            return g.op("Mul", g.cast(halves, "float32"), g.constant(self.top_scale, "float32"))
        if self.scales is None:
            return None
        scale = self.per_block(g, self.scales, block, "float32")
        # One scale for all is given the rows' shape.
        return g.op("Expand", scale, g.op("Shape", row))

    def scaled(self, g: Graph, scores: Name, number: int, rows: slice | None = None) -> Name:
        """[..., rows] float32 sums of products of codes, of a block or some of its rows, times the block's scale or
        those of its rows; as they are where the whole table has one."""
        block = self.blocks[number]
        if self.row_scales is not None:
            some = slice(0, block.rows) if rows is None else rows
            at = self.row_scales.offset + 2 * (block.first + some.start)
            name = f"{self.name}s{number}_{some.start}" if some.start else f"{self.name}s{number}"
            part = Tensor(at, "float16", (some.stop - some.start,))
            halves = g.cast(g.fresh(g.table(name, part)), "float32")
            return g.op("Mul", scores, g.op("Mul", halves, g.constant(self.top_scale, "float32")))
        if self.scales is None or len(self.scales) == 1:
            return scores
        return g.op("Mul", scores, g.constant(self.scales[number], "float32"))

    def part(self, g: Graph, number: int, shape: tuple[int, ...], first: int = 0) -> Name:
        """A block's entries from its number `first` on, as a tensor of their own."""
        block = self.blocks[number]
        at = self.offset + (block.start + first) * np.dtype(self.dtype).itemsize
        return g.table(
            f"{self.name}{number}_{first}" if first else f"{self.name}{number}", Tensor(at, self.dtype, shape)
        )


class Slots(NamedTuple):
    """Rows of a table as a block holds them.

    Attributes:
        values: (m, width) float32.
        columns: (m, width) int64, the values' dimensions; (1, width) where all rows have the same.
    """

    values: NDArray[np.float32]
    columns: NDArray[np.int64]


AddRows = Callable[[Graph, Name], Rows]
ROWS_A_STEP = 4096
"""Rows that are decoded at once where a whole catalogue is scored by decoding, at most."""
VALUES_A_STEP = 1 << 20
"""Values that are decoded at once, at most: of wide rows fewer are decoded together, as csr takes 64 bytes a value."""


def rows_a_step(n_rows: int, d: int) -> int:
    """Rows of `d` dimensions that are decoded at once."""
    return min(ROWS_A_STEP, max(1, VALUES_A_STEP // d), n_rows)


def slots(rows: NDArray[np.float32], width: int) -> Slots:
    """(m, d) rows that have at most `width` values.

    Columns with a value come first, ascending; those that fill a shorter row are columns of its zeros, so that the
    columns of a row are all different.
    """
    columns = np.argsort(rows == 0, axis=1, kind="stable")[:, :width]
    return Slots(np.take_along_axis(rows, columns, 1), columns)


def add_scattered(g: Graph, flat: Flat, values: Name, columns: Name, valid: Name | None, d: int) -> Name:
    """Rows from their values and columns.

    values, columns int64 [..., K], valid bool [..., K] or None  ->  [..., d]

    Slots that are not valid are written to a column past the last, which is cut off again.
    """
    room = d if valid is None else d + 1
    if valid is not None:
        columns = g.op("Where", valid, columns, g.constant(d))
    lead = g.op("Shape", columns, start=0, end=-1)
    empty = g.op("Expand", flat.nothing(g), g.op("Concat", lead, g.ints(room), axis=0))
    full = g.op("ScatterElements", empty, columns, values, axis=-1)
    return full if valid is None else g.leading(full, d)


def add_scores_by_decoding(g: Graph, user: Rows, n_rows: int, d: int, decode: AddRows, one_scale: bool) -> Name:
    """Score every row by decoding it.

    user [B, d]  ->  [B, n_rows] float32, without the user's scale, or that of a table with one
    """

    def score(body: Graph, rows: Name) -> Name:
        found = decode(body, rows)
        products = body.op("MatMul", user.centred(body), body.op("Transpose", found.centred(body), perm=[1, 0]))
        if found.scale is None or one_scale:
            return products
        return body.op("Mul", products, body.op("Transpose", found.scale, perm=[1, 0]))

    return add_by_decoding(g, n_rows, d, score)


def add_by_decoding(g: Graph, n_rows: int, d: int, score: Callable[[Graph, Name], Name]) -> Name:
    """Score rows (some,) -> [B, some], for all rows of `d` dimensions a few thousand at a time: memory stays bounded,
    time is that of decoding. -> [B, n_rows] float32"""
    at_once = rows_a_step(n_rows, d)
    steps = -(-n_rows // at_once)

    def step(body: Graph, number: Name) -> Name:
        first = body.op("Mul", number, body.constant(at_once))
        rows = body.op("Range", first, body.op("Add", first, body.constant(at_once)), body.constant(1))
        return score(body, body.op("Min", rows, body.constant(n_rows - 1)))

    pieces = g.repeated(steps, step, ["B", at_once])
    flat = g.op("Reshape", g.op("Transpose", pieces, perm=[1, 0, 2]), g.ints(0, -1))
    return flat if n_rows % at_once == 0 else g.leading(flat, n_rows)
