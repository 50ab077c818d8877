"""Dense and mixed-dimension tables: each row's first values, rows of the same width side by side.

    width 2   [v v]  [v v]  [v v]  ...          scores = concat over widths w of
    width 8   [v v v v v v v v]  ...                     user[:w] @ block_w  (w, rows)
    width 64  [v v v v v v v v ... v v v]

`dense` is one block as wide as the widest row. Item blocks lie by column (w, rows), so that scoring is one MatMul
with a contiguous operand (by row it takes twice as long); user rows lie by row, so that a row is one cache line or
a few. Rows are renumbered by width at export: no permutation is stored and none is looked up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.layouts.base import Arrays, Placed, Plan, Run, Scales
from edgerec_export.layouts.choice import Choice, Price, Search, Wish, block_choices, group, runs_of
from edgerec_export.onnx import Flat, Graph, Name, Rows, Slots
from edgerec_export.values import BYTES, ZERO, ZERO4, Block, Coder, fetch, store


@dataclass(frozen=True)
class BlockPlan(Plan):
    """A planned dense or mixed table."""

    by_column: bool = True

    @property
    def sums_type(self) -> str:
        return "int32" if self.has_one_scale else "float32"

    def runs(self) -> list[Run]:
        return runs_of(self.blocks)

    def pack(self, table: Table, out: Arrays, coder: Coder) -> Scales:
        def rows_of(rows: NDArray[np.int64], block: Block) -> Slots:
            return Slots(table.rows(rows)[:, : block.width], np.arange(block.width)[None])

        def put(block: Block, first: int, values: NDArray[Any], rows: Slots) -> None:
            if not self.by_column:
                store(out[""], values.ravel(), first * block.width, block)
                return
            for column in range(block.width):
                store(out[""], values[:, column], column * block.rows + first, block)
            if block.precision == "int4" and block.width % 2:  # the half dimension that fills the last byte
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

    def add_rows(self, g: Graph, placed: Placed, rows: Name) -> Rows:
        flat = self.flat(placed)
        row = flat.row(g, rows)
        block = flat.block_of(g, row)
        if block and self.precision in ("fp32", "int8") and {b.precision for b in self.blocks} == {self.precision}:
            return Rows(flat.gather_at(g, self._entries(g, flat, row, block)), flat.scale_of(g, row, block))
        columns = flat.number(g, list(range(self.d)))
        widths = flat.per_block(g, [b.width for b in self.blocks], block)
        inside = flat.inside(g, row, block)
        if self.by_column:
            index = g.op("Add", inside, g.op("Mul", columns, flat.per_block(g, [b.rows for b in self.blocks], block)))
        else:
            index = g.op("Add", g.op("Mul", inside, widths), columns)
        kept = g.op("Less", columns, widths) if {b.width for b in self.blocks} != {self.d} else None
        return Rows(flat.gather(g, index, block, kept), flat.scale_of(g, row, block))

    def _entries(self, g: Graph, flat: Flat, row: Name, block: Name) -> Name:
        """The entry of each value of rows [..., 1]  ->  [..., d], the last entry where a row has none.

        What a dimension adds to the row's number is a table of blocks by dimensions that follows from constants: it is
        made at load, and takes no bytes. 1,000 rows of 64: 95 us of 350 less.
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

    def add_scores(self, g: Graph, placed: Placed, user: Rows, blocks: range | None = None) -> list[Name]:
        flat, numbers = self.flat(placed), blocks or range(len(self.blocks))
        return [flat.scaled(g, self._products(g, placed, user.values, number), number) for number in numbers]

    def _products(self, g: Graph, placed: Placed, user: Name, number: int) -> Name:
        """[B, rows of the block] `sums_type` sums of products with values, or with codes."""
        block, flat = self.blocks[number], self.flat(placed)
        width = block.width
        if not self.by_column:
            raise ValueError("rows that lie by row are looked up, not scored")
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
        table = flat.part(g, number, (width, block.rows))
        head = _columns(g, user, 0, width, self.d)
        if block.precision == "int8":
            return self._sums(g, self._integer_products(g, head, table, ZERO))
        return g.op("MatMul", head, g.cast(g.fresh(table), "float32") if block.precision == "fp16" else table)

    def _sums(self, g: Graph, products: Name) -> Name:
        # To look for the best among integers spares two passes over all scores: 1M items, 0.2 of 0.7 ms.
        return products if self.has_one_scale else g.cast(products, "float32")

    @staticmethod
    def _integer_products(g: Graph, head: Name, table: Name, zero: int) -> Name:
        return g.op("MatMulInteger", head, table, g.constant(ZERO, "uint8"), g.constant(zero, "uint8"))


def _columns(g: Graph, user: Name, start: int, stop: int, of: int) -> Name:
    """Some of the `of` columns of user vectors."""
    return user if (start, stop) == (0, of) else g.op("Slice", user, g.ints(start), g.ints(stop), g.ints(-1))


class Dense:
    """One block as wide as the widest row. What every other layout has to beat."""

    name = "dense"
    scores_rows = True

    def choices(self, wish: Wish) -> list[Choice]:
        return [Choice(tuple((int(wish.sizes.max()),) for _ in wish.classes))]

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        return _block_plan(self.name, wish, choice)


class Mixed:
    """Rows by their number of leading values."""

    name = "mixed"
    scores_rows = True

    def choices(self, wish: Wish) -> list[Choice]:
        # A block more costs a Slice, a MatMul and a share of Concat, a byte more the memory's bandwidth.
        return block_choices(wish.sizes, wish, Price(0.045 * BYTES[wish.precision], 1300))

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        return _block_plan(self.name, wish, choice)


def _block_plan(name: str, wish: Wish, choice: Choice) -> BlockPlan:
    blocks, order = group(
        wish.sizes,
        wish.classes,
        choice.widths,
        by_column=wish.scored,
        rows_by_id=wish.rows_by_id,
        search=Search(wish.lengths, math.sqrt) if wish.is_large and name == Mixed.name else None,
    )
    return BlockPlan(name, blocks, order, wish.d, wish.scales, by_column=wish.scored)
