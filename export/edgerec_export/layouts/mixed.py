"""Dense and mixed layouts: the leading values of each row; rows of the same width form a block.

    width 2   [v v]  [v v]  [v v]  ...          scores = concat over widths w of
    width 8   [v v v v v v v v]  ...                     user[:w] @ block_w  (w, rows)
    width 64  [v v v v v v v v ... v v v]

`dense` has one block as wide as the widest row. Item blocks are stored by column (w, rows): scoring is one MatMul with
a contiguous operand, in half the time of storage by row. User blocks are stored by row, so that a row takes few cache
lines. The export renumbers rows by width, so that bundles need no permutation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec.tables.codes import LARGEST
from edgerec_export.layouts import variants
from edgerec_export.layouts.base import Arrays, BlockGroup, Placed, Scales, TablePlan
from edgerec_export.layouts.variants import (
    LayoutVariant,
    ReachEstimate,
    ScoringCost,
    TableRequest,
    block_groups_of,
    block_variants,
    group,
    least_group_rows,
)
from edgerec_export.onnx import DecodedRows, Flat, Graph, Name, Slots
from edgerec_export.values import BYTES, PER_BYTE, ZERO, ZERO4, Block, Coder, block_of, fetch, store

MOST_JOINED = 4096
"""Largest number of dimensions for which sums of products of bytes, times 32, are int32."""
BYTES_AT_ONCE = 1 << 18
"""Bytes of a block that are taken apart at once, through four times as many bytes of float32."""


@dataclass(frozen=True)
class BlockPlan(TablePlan):
    """A planned dense or mixed table."""

    by_column: bool = True

    @property
    def sums_type(self) -> str:
        return "int32" if self.has_one_scale else "float32"

    def block_groups(self) -> list[BlockGroup]:
        values = Counter[str]()
        for block in self.blocks:
            values[block.precision] += block.n_values
        return block_groups_of(self.blocks, _least_rows(self.scale_type, values, self.n_rows))

    def sampled(self, count: int) -> TablePlan:
        step, first, start = -(-self.n_rows // count), 0, 0
        blocks, places = list[Block](), list[NDArray[np.int64]]()
        for block in self.blocks:
            places.append(np.arange(block.first, block.first + block.rows, step))
            rows = len(places[-1])
            blocks.append(block_of(block.width, rows, first, start, block.precision, by_column=self.by_column))
            first, start = first + rows, start + blocks[-1].stored
        return replace(self, blocks=tuple(blocks), order=self.order[np.concatenate(places)])

    def pack(self, table: Table, out: Arrays, coder: Coder) -> Scales:
        def rows_of(rows: NDArray[np.int64], block: Block) -> Slots:
            return Slots(table.rows(rows)[:, : block.width], np.arange(block.width)[None])

        def put(block: Block, first: int, values: NDArray[Any], rows: Slots) -> None:
            if not self.by_column:
                store(out[""], values.ravel(), first * block.width, block)
                return
            for column in range(block.width):
                store(out[""], values[:, column], column * block.rows + first, block)
            if block.precision == "int4" and block.width % 2:  # zeros in the unused half of the last byte
                tail = block.start + (block.width // 2) * block.rows + first
                out[""][tail : tail + len(values)] = (out[""][tail : tail + len(values)] & 15) | (ZERO4 << 4)

        return self.pack_rows(out, coder, rows_of, put)

    def unpack(self, arrays: Arrays, places: NDArray[np.int64]) -> NDArray[Any]:
        full = np.zeros((len(places), self.d), np.int32 if self.is_integer else np.float32)
        which = self.block_of(places)
        for number in np.unique(which):
            block, mine = self.blocks[number], np.flatnonzero(which == number)
            row, column = (places[mine] - block.first)[:, None], np.arange(block.width)
            index = column * block.rows + row if self.by_column else row * block.width + column
            full[mine[:, None], column] = fetch(arrays[""], index, block)
        return full

    def add_rows(self, g: Graph, placed: Placed, rows: Name) -> DecodedRows:
        flat = self.flat(placed)
        row = flat.row(g, rows)
        block = flat.block_of(g, row)
        if block and self.precision in ("fp32", "int8") and {b.precision for b in self.blocks} == {self.precision}:
            return DecodedRows(flat.gather_at(g, self._entries(g, flat, row, block)), flat.scale_of(g, row, block))
        columns = flat.number(g, list(range(self.d)))
        widths = flat.per_block(g, [b.width for b in self.blocks], block)
        inside = flat.inside(g, row, block)
        if self.by_column:
            index = g.op("Add", inside, g.op("Mul", columns, flat.per_block(g, [b.rows for b in self.blocks], block)))
        else:
            index = g.op("Add", g.op("Mul", inside, widths), columns)
        used = g.op("Less", columns, widths) if {b.width for b in self.blocks} != {self.d} else None
        return DecodedRows(flat.gather(g, index, block, used), flat.scale_of(g, row, block))

    def _entries(self, g: Graph, flat: Flat, row: Name, block: Name) -> Name:
        """Add the index of each value of rows, [..., 1] -> [..., d]; the last entry stands for a missing value.

        The offset of a dimension depends on the block alone. onnxruntime computes the (blocks, d) offsets from
        constants at load, so they take no bytes. For 1,000 rows of 64 values this takes 255 us instead of 350.
        """

        def each(values: Sequence[int]) -> Name:
            return flat.number(g, [[value] for value in values])

        columns = flat.number(g, list(range(self.d)))
        widths = each([b.width for b in self.blocks])
        if self.by_column:
            steps = g.op("Mul", columns, each([b.rows for b in self.blocks]))
            added = g.op("Add", steps, each([b.start - b.first for b in self.blocks]))
        else:
            added = g.op("Add", columns, each([b.start - b.first * b.width for b in self.blocks]))
            row = g.op("Mul", row, flat.per_block(g, [b.width for b in self.blocks], block))
        added = g.op("Where", g.op("Less", columns, widths), added, flat.number(g, flat.size))
        at = g.op("Add", row, g.op("Gather", added, g.op("Squeeze", block, g.ints(-1))))
        return g.op("Min", at, flat.number(g, flat.size - 1))

    def add_scores(self, g: Graph, placed: Placed, user: DecodedRows, blocks: range | None = None) -> list[Name]:
        flat, numbers = self.flat(placed), blocks or range(len(self.blocks))
        if not self._sums_are_joined:
            return [flat.scaled(g, self._products(g, placed, user.values, number), number) for number in numbers]
        sums = [self._whole_sums(g, flat, user.values, number) for number in numbers]
        joined = g.op("Concat", *sums, axis=1) if len(sums) > 1 else sums[0]
        first, last = self.blocks[numbers[0]], self.blocks[numbers[-1]]
        return [flat.scaled_rows(g, g.cast(joined, "float32"), slice(first.first, last.first + last.rows))]

    @property
    def _sums_are_joined(self) -> bool:
        """True if the sums of all blocks are scaled at once; tables of version 1.0 keep the graphs that they had."""
        return self.is_integer and self.scaled == "row" and self.scale_type == "uint8" and self.d <= MOST_JOINED

    def _whole_sums(self, g: Graph, flat: Flat, user: Name, number: int) -> Name:
        """Add the [B, rows of the block] int32 products with the codes of a block."""
        block = self.blocks[number]
        if block.precision != "int8":
            return self._sums_of_parts(g, flat, user, number)
        head = _columns(g, user, 0, block.width, self.d)
        return self._integer_products(g, head, flat.part(g, number, (block.width, block.rows)), ZERO)

    def _sums_of_parts(self, g: Graph, flat: Flat, user: Name, number: int) -> Name:
        """Add the products with a block of int4 or int2, whose bytes hold the codes of several dimensions.

        With f_i what is left of a byte after the codes before code i, and f_0 the byte, code i is f_i - s f_(i+1), s
        being 16 for int4 and 4 for int2. So the products with the user's parts b_i are the sum of b_i . f_i less s
        times that of b_i . f_(i+1). MatMulInteger takes .07 ns a byte, and f_i by DequantizeLinear and Cast, which
        onnxruntime 1.32 vectorises, .22; BitwiseAnd and BitShift, which it does not, .45.
        """
        block = self.blocks[number]
        shared = PER_BYTE[block.precision]
        step, columns = 1 << 8 // shared, -(-block.width // shared)
        heads = [self._head(g, user, part * columns, columns, block) for part in range(-(-block.width // columns))]
        found, above = "", ""
        for part in range(shared):
            if part > len(heads):
                break
            rest = self._rest(g, flat, number, columns, step**part)
            zero = sum(_middle(block.precision) * step**n for n in range(shared - part))
            if part < len(heads):
                own = self._integer_products(g, heads[part], rest, zero)
                found = g.op("Add", found, own) if found else own
            if part:
                other = self._integer_products(g, heads[part - 1], rest, zero)
                above = g.op("Add", above, other) if above else other
        found = g.op("Sub", found, g.op("Mul", above, g.constant(step, "int32")))
        if block.precision == "int4":
            return found
        # Codes of int2 are twice the bits less 3, and so far the bits less 2 were multiplied.
        head = g.cast(_columns(g, user, 0, block.width, self.d), "int32")
        whole = g.op("ReduceSum", g.op("Sub", head, g.constant(ZERO, "int32")), g.ints(1), keepdims=1)
        return g.op("Add", g.op("Mul", found, g.constant(2, "int32")), whole)

    def _head(self, g: Graph, user: Name, first: int, columns: int, block: Block) -> Name:
        """Slice the user's values for one part of the bytes of a block, filled with zeros up to `columns`."""
        stop = min(first + columns, block.width)
        head = _columns(g, user, first, stop, self.d)
        if stop - first < columns:
            head = g.op("Pad", head, g.ints(0, 0, 0, columns - stop + first), g.constant(ZERO, "uint8"))
        return head

    @staticmethod
    def _rest(g: Graph, flat: Flat, number: int, columns: int, divisor: int) -> Name:
        """Add the (columns, rows) bytes of a block divided by a power of two, rounded down."""
        rows = flat.blocks[number].rows
        if divisor == 1:
            return flat.part(g, number, (columns, rows))
        at_once = max(BYTES_AT_ONCE // rows, 1)
        pieces = []
        for first in range(0, columns, at_once):
            many = min(at_once, columns - first)
            some = flat.part(g, number, (many, rows), None if many == columns else first * rows)
            pieces.append(g.cast(g.op("DequantizeLinear", some, g.scalar(1 / divisor)), "uint8"))
        return g.op("Concat", *pieces, axis=0) if len(pieces) > 1 else pieces[0]

    def _products(self, g: Graph, placed: Placed, user: Name, number: int) -> Name:
        """Add the [B, rows of the block] products with the values or codes of a block, of dtype `sums_type`."""
        block, flat = self.blocks[number], self.flat(placed)
        width = block.width
        if not self.by_column:
            raise ValueError("a table stored by row is looked up, not scored")
        if block.precision == "int4":
            half = -(-width // 2)
            table = flat.part(g, number, (half, block.rows))
            low = g.op("BitwiseAnd", table, g.mask(15))
            high = g.op("BitShift", table, g.mask(4), direction="RIGHT")
            columns = self.d
            if width % 2 and width == self.d:
                user, columns = g.op("Pad", user, g.ints(0, 0, 0, 1), g.constant(ZERO, "uint8")), self.d + 1
            halves = (
                self._integer_products(g, _columns(g, user, 0, half, columns), low, ZERO4),
                self._integer_products(g, _columns(g, user, half, 2 * half, columns), high, ZERO4),
            )
            return self._sums(g, g.op("Add", *halves))
        if block.precision == "int2":
            return self._sums(g, self._quarter_products(g, flat, user, number))
        table = flat.part(g, number, (width, block.rows))
        head = _columns(g, user, 0, width, self.d)
        if block.precision == "int8":
            return self._sums(g, self._integer_products(g, head, table, ZERO))
        return g.op("MatMul", head, g.cast(g.fresh(table), "float32") if block.precision == "fp16" else table)

    def _quarter_products(self, g: Graph, flat: Flat, user: Name, number: int) -> Name:
        """Add the products with a block of int2, whose bytes hold four dimensions each, or fewer in the last ones."""
        block = self.blocks[number]
        quarter, found = -(-block.width // 4), ""
        stored = flat.part(g, number, (quarter, block.rows))
        for part in range(4):
            first, stop = part * quarter, min((part + 1) * quarter, block.width)
            if first >= stop:
                break
            table = stored if stop - first == quarter else g.leading(stored, stop - first, 0)
            # Twice the code: its two bits, one place to the left.
            shift, direction = (1, "LEFT") if part == 0 else (2 * part - 1, "RIGHT")
            doubled = g.op("BitwiseAnd", g.op("BitShift", table, g.mask(shift), direction=direction), g.mask(6))
            head = _columns(g, user, first, stop, self.d)
            products = self._integer_products(g, head, doubled, LARGEST["int2"])
            found = g.op("Add", found, products) if found else products
        return found

    def _sums(self, g: Graph, products: Name) -> Name:
        # A top k of int32 sums needs no conversion and scaling of all scores, which takes 0.2 of 0.7 ms for 1M items.
        return products if self.has_one_scale else g.cast(products, "float32")

    @staticmethod
    def _integer_products(g: Graph, head: Name, table: Name, zero: int) -> Name:
        return g.op("MatMulInteger", head, table, g.constant(ZERO, "uint8"), g.constant(zero, "uint8"))


def _columns(g: Graph, user: Name, start: int, stop: int, of: int) -> Name:
    """Slice columns `start` to `stop` of user vectors with `of` columns."""
    return user if (start, stop) == (0, of) else g.op("Slice", user, g.ints(start), g.ints(stop), g.ints(-1))


def _middle(precision: str) -> int:
    """Return the bits of a code that count as zero in products of codes of int4 or int2."""
    return ZERO4 if precision == "int4" else 2


class Dense:
    """The layout with one block as wide as the widest row, the baseline of all layouts."""

    name = "dense"
    scores_rows = True

    def variants(self, request: TableRequest) -> list[LayoutVariant]:
        return [LayoutVariant(tuple((int(request.sizes.max()),) for _ in request.classes))]

    def plan(self, request: TableRequest, variant: LayoutVariant) -> TablePlan:
        return _block_plan(self.name, request, variant)


class Mixed:
    """The layout with blocks by the number of leading values."""

    name = "mixed"
    scores_rows = True

    def variants(self, request: TableRequest) -> list[LayoutVariant]:
        # Each block costs a Slice, a MatMul and a part of Concat; each byte costs memory bandwidth.
        return block_variants(request.sizes, request, ScoringCost(0.045 * BYTES[request.precision], 1300))

    def plan(self, request: TableRequest, variant: LayoutVariant) -> TablePlan:
        return _block_plan(self.name, request, variant)


def _least_rows(scale_type: str, n_values: Mapping[str, int], n_rows: int) -> int:
    """Return the minimum number of rows of a block group; tables of version 1.0 keep the blocks that they had."""
    return least_group_rows(n_values, n_rows) if scale_type == "uint8" else variants.GROUP_ROWS


def _reach_of(name: str, request: TableRequest) -> ReachEstimate | None:
    """Return the score estimates of a table whose blocks can be skipped, and for which that can save time."""
    values = {precision: int(request.sizes[rows].sum()) for precision, rows in request.classes}
    least = _least_rows(request.scale_type, values, request.table.n_rows)
    is_cut = name == Mixed.name or any(precision in PER_BYTE for precision, _ in request.classes)
    if not (request.scored and is_cut and request.table.n_rows >= 2 * least):
        return None
    return ReachEstimate(request.lengths, math.sqrt, least)


def _block_plan(name: str, request: TableRequest, variant: LayoutVariant) -> BlockPlan:
    blocks, order = group(
        request.sizes,
        request.classes,
        variant.widths,
        by_column=request.scored,
        rows_by_id=request.rows_by_id,
        reach=_reach_of(name, request),
    )
    return BlockPlan(
        name, blocks, order, request.d, request.scales, scale_type=request.scale_type, by_column=request.scored
    )
