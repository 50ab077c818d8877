"""Width-blocked tables: rows of equal width side by side, one flat vector in the tables file.

Both layouts of this release are made of blocks: `dense` is one block, `mixed` one a width. A block of w dimensions
and n rows is stored by column (w, n), so that scoring is one MatMul with a contiguous operand, or by row (n, w),
so that looking a row up touches few cache lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.graph import Graph, Name, Tensor

ZERO = 128
"""int8 values are stored as uint8 around 128: MatMulInteger(uint8, int8) saturates on x86 with AVX2 and no VNNI."""

STORED = {"fp32": "float32", "int8": "uint8"}
PRECISIONS = tuple(STORED)


@dataclass(frozen=True)
class Block:
    """Rows first..first + rows of a table, each of `width` values that start at `start` in the flat vector."""

    width: int
    rows: int
    first: int
    start: int


@dataclass(frozen=True)
class Plan:
    """Where every value of a table goes, before any value is moved.

    Attributes:
        order: (n_rows,) the table's row in each place of the bundle; ascending inside a block.
        by_column: blocks are (width, rows) where True, (rows, width) where False.
    """

    blocks: tuple[Block, ...]
    order: NDArray[np.int64]
    precision: str
    by_column: bool

    @property
    def n_rows(self) -> int:
        return self.order.size

    @property
    def d(self) -> int:
        """Dimensions of a decoded row: the widest block's."""
        return self.blocks[-1].width

    @property
    def n_values(self) -> int:
        return sum(block.width * block.rows for block in self.blocks)

    @property
    def dtype(self) -> str:
        return STORED[self.precision]

    @property
    def nbytes(self) -> int:
        return self.n_values * np.dtype(self.dtype).itemsize


def plan_blocks(
    sizes: NDArray[np.int64],
    widths: Sequence[int] | NDArray[np.int64],
    precision: str,
    *,
    by_column: bool,
    rows_by_id: NDArray[np.int64] | None = None,
) -> Plan:
    """Give each row the smallest of `widths` that holds its size; a row above the last width is cut to it.

    Args:
        sizes: (n_rows,) values of each row.
        widths: ascending.
        rows_by_id: (n_rows,) the rows in the order that they keep inside a width; as they are without it.
    """
    rows_in_order = np.arange(sizes.size) if rows_by_id is None else rows_by_id
    width_of = np.searchsorted(widths, np.minimum(sizes, widths[-1]))[rows_in_order]
    order = rows_in_order[np.argsort(width_of, kind="stable")]
    blocks, first, start = [], 0, 0
    for width, rows in zip(widths, np.bincount(width_of, minlength=len(widths)), strict=True):
        if rows:
            blocks.append(Block(int(width), int(rows), first, start))
            first += int(rows)
            start += int(width) * int(rows)
    return Plan(tuple(blocks), order.astype(np.int64), precision, by_column)


@dataclass(frozen=True)
class PackedTable:
    """A table as it ships.

    Attributes:
        values: (plan.n_values,) float32, or uint8 codes around 128.
        scales: (blocks,) float32, what one step of a code is worth; None for fp32.
    """

    plan: Plan
    values: NDArray[Any]
    scales: NDArray[np.float32] | None

    def _block(self, block: Block) -> NDArray[Any]:
        flat = self.values[block.start : block.start + block.rows * block.width]
        return flat.reshape(block.width, block.rows).T if self.plan.by_column else flat.reshape(block.rows, block.width)

    def codes(self) -> NDArray[np.int32]:
        """(n_rows, d) int32 codes around zero, in the bundle's order; integer precisions only."""
        full = np.zeros((self.plan.n_rows, self.plan.d), np.int32)
        for block in self.plan.blocks:
            rows = slice(block.first, block.first + block.rows)
            full[rows, : block.width] = self._block(block).astype(np.int32) - ZERO
        return full

    def row_scales(self) -> NDArray[np.float32]:
        """(n_rows,) float32: the scale of each row; ones for fp32."""
        if self.scales is None:
            return np.ones(self.plan.n_rows, np.float32)
        return np.repeat(self.scales, [block.rows for block in self.plan.blocks])

    def dense(self) -> NDArray[np.float32]:
        """(n_rows, d) float32: what the shipped rows mean, in the bundle's order."""
        if self.scales is not None:
            return self.codes().astype(np.float32) * self.row_scales()[:, None]
        full = np.zeros((self.plan.n_rows, self.plan.d), np.float32)
        for block in self.plan.blocks:
            full[block.first : block.first + block.rows, : block.width] = self._block(block)
        return full


def pack(table: Table, plan: Plan) -> PackedTable:
    """Move a table's values to where the plan puts them, quantising on the way: one scale a block."""
    flat = np.empty(plan.n_values, plan.dtype)
    scales = np.empty(len(plan.blocks), np.float32)
    for number, block in enumerate(plan.blocks):
        rows: NDArray[Any] = table.rows(plan.order[block.first : block.first + block.rows])[:, : block.width]
        if plan.precision == "int8":
            rows, scales[number] = quantise(rows)
        place = flat[block.start : block.start + rows.size]
        place[:] = (rows.T if plan.by_column else rows).ravel()
    return PackedTable(plan, flat, scales if plan.precision == "int8" else None)


def quantise(values: NDArray[np.float32]) -> tuple[NDArray[np.uint8], np.float32]:
    """Symmetric 8-bit codes around 128 with one scale: values = (codes - 128) * scale, to half a step."""
    scale = np.float32(max(float(np.abs(values).max(initial=0)) / 127, float(np.finfo(np.float32).tiny)))
    return (np.rint(values / scale) + ZERO).astype(np.uint8), scale


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
        if self.scale is None:
            return self.values
        centred = g.op("Sub", g.cast(self.values, "float32"), g.constant(float(ZERO), "float32"))
        return g.op("Mul", centred, self.scale)


@dataclass(frozen=True)
class TableInGraph:
    """A packed table as the graphs see it: the pieces from which recommend and score are made.

    Attributes:
        name: prefix of its tensors' names.
        offset: where its flat vector starts in the tables file, in bytes.
        scales: as in PackedTable.
    """

    name: str
    plan: Plan
    offset: int
    scales: NDArray[np.float32] | None

    def add_rows(self, g: Graph, rows: Name) -> Rows:
        """Look rows up: the table as one flat vector, each value's place computed from its row's number.

            rows [...] int64  ->  values [..., d]
            numpy: dense()[rows]

        One GatherElements does the work (a scalar Gather costs 11 times as much), int8 is gathered as it is stored.
        """
        plan = self.plan
        flat = g.table(self.name, Tensor(self.offset, plan.dtype, (plan.n_values,)))
        row = g.op("Unsqueeze", rows, g.ints(-1))
        block = self._block_of(g, row)
        base = [b.start - b.first * (1 if plan.by_column else b.width) for b in plan.blocks]
        columns = g.constant(list(range(plan.d)))
        widths = self._per_block(g, [b.width for b in plan.blocks], block)
        if plan.by_column:
            stride = self._per_block(g, [b.rows for b in plan.blocks], block)
            at = g.op("Add", row, g.op("Mul", columns, stride))
        else:
            at = g.op("Add", g.op("Mul", row, widths), columns)
        at = g.op("Add", at, self._per_block(g, base, block))
        mixed = len(plan.blocks) > 1
        kept = g.op("Less", columns, widths) if mixed else None
        if kept:
            at = g.op("Where", kept, at, g.constant(0))
        values = g.op("GatherElements", flat, g.reshape(at, -1), axis=0)
        values = g.op("Reshape", values, g.op("Shape", at), allowzero=1)  # no candidates at all is an answer too
        if kept:
            nothing = g.constant(ZERO, "uint8") if self.scales is not None else g.constant(0.0, "float32")
            values = g.op("Where", kept, values, nothing)
        scale = None
        if self.scales is not None:
            scale = self._per_block(g, self.scales, block, "float32")
            if not mixed:  # one scale for all: give it the rows' shape
                scale = g.op("Expand", scale, g.op("Shape", row))
        return Rows(values, scale)

    def _block_of(self, g: Graph, row: Name) -> Name | None:
        starts = [block.first for block in self.plan.blocks[1:]]
        if not starts:
            return None
        after = g.cast(g.op("GreaterOrEqual", row, g.constant(starts)), "int64")
        return g.op("ReduceSum", after, g.ints(-1), keepdims=1)

    def _per_block(self, g: Graph, values: Any, block: Name | None, dtype: str = "int64") -> Name:
        if block is None:
            return g.constant(values[0], dtype)
        return g.op("Gather", g.constant(values, dtype), block)

    def add_scores(self, g: Graph, user: Rows) -> list[Name]:
        """Score every row of the table for each user: one MatMul a block on the user's leading values.

            user [B, d]  ->  [B, rows of the block] float32 for each block
            numpy: user @ dense().T, in pieces

        In int8 the products are exact integers; the user's own scale, the same for the whole row, is applied by
        the caller to the few scores that are returned.
        """
        return [self._block_scores(g, user, number) for number in range(len(self.plan.blocks))]

    def _block_scores(self, g: Graph, user: Rows, number: int) -> Name:
        block = self.plan.blocks[number]
        item_size = np.dtype(self.plan.dtype).itemsize
        shape = (block.width, block.rows) if self.plan.by_column else (block.rows, block.width)
        tensor = Tensor(self.offset + block.start * item_size, self.plan.dtype, shape)
        values = g.table(f"{self.name}{number}", tensor)
        if not self.plan.by_column:
            values = g.op("Transpose", values, perm=[1, 0])
        head = user.values if block.width == self.plan.d else g.leading(user.values, block.width)
        if self.scales is None:
            return g.op("MatMul", head, values)
        zero = g.constant(ZERO, "uint8")
        products = g.cast(g.op("MatMulInteger", head, values, zero, zero), "float32")
        return g.op("Mul", products, g.constant(self.scales[number], "float32"))


def add_quantised(g: Graph, values: Name) -> Rows:
    """Quantise float rows in the graph, each with its own scale, so that an answer never depends on the batch.

    values [..., d] float32  ->  codes [..., d] uint8 around 128, scale [..., 1]
    numpy: scale = max(abs(values).max(-1) / 127, tiny); codes = rint(values / scale) + 128
    """
    largest = g.op("ReduceMax", g.op("Abs", values), g.ints(-1), keepdims=1)
    smallest = g.constant(np.finfo(np.float32).tiny, "float32")
    scale = g.op("Max", g.op("Div", largest, g.constant(127.0, "float32")), smallest)
    steps = g.op("Round", g.op("Div", values, scale))
    return Rows(g.cast(g.op("Add", steps, g.constant(float(ZERO), "float32")), "uint8"), scale)


def add_pair_scores(g: Graph, user: Rows, candidates: Rows) -> Name:
    """Score each user's own candidates.

    user [B, d], candidates [B, C, d]  ->  [B, C] float32
    numpy: (candidates * user[:, None]).sum(-1)
    """
    column = g.op("Unsqueeze", user.values, g.ints(2))
    if user.scale is None or candidates.scale is None:
        return g.op("Squeeze", g.op("MatMul", candidates.values, column), g.ints(2))
    zero = g.constant(ZERO, "uint8")
    products = g.cast(g.op("MatMulInteger", candidates.values, column, zero, zero), "float32")
    scores = g.op("Squeeze", g.op("Mul", products, candidates.scale), g.ints(2))
    return g.op("Mul", scores, user.scale)
