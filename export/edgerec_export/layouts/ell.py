"""ELL layout: rows with similar numbers of values form a block, and each value has its column.

    2 values   [v c][v c]   [v c][v c]  ...         score = sum over a row's slots of value * user[column]
    5 values   [v c][v c][v c][v c][v c]  ...

The place of a row follows from its number, so no pointers are stored. Scoring takes one GatherElements on the user's
vector for each block and no scatter. It serves sparse tables with any pattern, and dense users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import SparseTable, Table
from edgerec_export.layouts import variants
from edgerec_export.layouts.base import Arrays, BlockGroup, Placed, Scales, Sections, TablePlan
from edgerec_export.layouts.variants import ByCount, ScoringCost, block_groups_of
from edgerec_export.onnx import DecodedRows, Flat, Graph, Name, Slots, Tensor, add_scattered, centred, slots
from edgerec_export.thin import slots_of_rows
from edgerec_export.values import ZERO, ZERO4, Block, Coder, chunks, fetch, store

VALUES_AT_ONCE = 1 << 17
"""Number of values scored at a time: their products stay in the cache, which takes two thirds of the time."""


@dataclass(frozen=True)
class EllPlan(TablePlan):
    """A planned ELL table: sections '' (values), 'c' (columns, by value)."""

    leading = False

    def sections(self) -> Sections:
        return {**super().sections(), "c": (self.column_type, (self.n_values,))}

    def block_groups(self) -> list[BlockGroup]:
        return block_groups_of(self.blocks, variants.GROUP_ROWS)

    def pack(self, table: Table, out: Arrays, coder: Coder) -> Scales:
        firsts = dict(zip(self.blocks, self.value_starts(), strict=True))

        def rows_of(rows: NDArray[np.int64], block: Block) -> Slots:
            if isinstance(table, SparseTable):
                return Slots(*slots_of_rows(table, rows, block.width))
            return slots(table.rows(rows), block.width)

        def put(block: Block, first: int, values: NDArray[Any], rows: Slots) -> None:
            store(out[""], values.ravel(), first * block.width, block)
            at = firsts[block] + first * block.width
            out["c"][at : at + values.size] = rows.columns.ravel()

        return self.pack_rows(out, coder.plain(), rows_of, put)

    def unpack(self, arrays: Arrays, places: NDArray[np.int64]) -> NDArray[Any]:
        full = np.zeros((len(places), self.d), np.int32 if self.is_integer else np.float32)
        for mine, columns, values in self.stored(arrays, places):
            full[mine[:, None], columns] = values
        return full

    @property
    def widest(self) -> int:
        """Number of values of the widest block."""
        return max(block.width for block in self.blocks)

    def stored(
        self, arrays: Arrays, places: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]:
        """Yield of each block the m rows among `places`, as indices of these, with (m, width) columns and values."""
        which = self.block_of(places)
        for number, first in enumerate(self.value_starts()):
            block, mine = self.blocks[number], np.flatnonzero(which == number)
            index = (places[mine] - block.first)[:, None] * block.width + np.arange(block.width)
            yield mine, arrays["c"][first + index], fetch(arrays[""], index, block)

    def add_rows(self, g: Graph, placed: Placed, rows: Name) -> DecodedRows:
        flat = self.flat(placed)
        row = flat.row(g, rows)
        block = flat.block_of(g, row)
        widths = flat.per_block(g, [b.width for b in self.blocks], block)
        inside = flat.inside(g, row, block)
        slot = flat.number(g, list(range(max(b.width for b in self.blocks))))
        index = g.op("Add", g.op("Mul", inside, widths), slot)
        valid = g.op("Less", slot, widths) if len({b.width for b in self.blocks}) > 1 else None
        if valid:
            index = g.op("Where", valid, index, flat.number(g, 0))
        values = flat.gather(g, index, block)
        at = g.op("Add", index, flat.per_block(g, self.value_starts(), block))
        columns = g.op("GatherElements", placed.table(g, "c"), g.reshape(at, -1), axis=0)
        columns = g.op("Reshape", g.cast(columns, "int64"), g.op("Shape", at), allowzero=1)
        return DecodedRows(add_scattered(g, flat, values, columns, valid, self.d), flat.scale_of(g, row, block))

    def add_scores(self, g: Graph, placed: Placed, user: DecodedRows, blocks: range | None = None) -> list[Name]:
        numbers = blocks or range(len(self.blocks))

        def score(body: Graph, one: Name) -> Name:
            pieces = [
                self._scores(body, placed, one, number, rows)
                for number in numbers
                for rows in self._parts(self.blocks[number])
            ]
            return body.op("Concat", *pieces, axis=0) if len(pieces) > 1 else pieces[0]

        rows = sum(self.blocks[number].rows for number in numbers)
        return [g.each(user.centred(g), "float32", [self.d], score, ("float32", [rows]))]

    @staticmethod
    def _parts(block: Block) -> Iterator[slice]:
        """Yield the rows of a block in parts; a block of int4 is one part, since its halves share bytes."""
        return chunks(block.rows, block.rows if block.precision == "int4" else max(1, VALUES_AT_ONCE // block.width))

    def _scores(self, g: Graph, placed: Placed, user: Name, number: int, rows: slice) -> Name:
        """Add the scores of some rows of a block for one user: (d,) -> (rows,)."""
        block, flat = self.blocks[number], self.flat(placed)
        first, n = rows.start * block.width, (rows.stop - rows.start) * block.width
        whole = placed.tensors["c"]
        at = whole.offset + (self.value_starts()[number] + first) * np.dtype(whole.dtype).itemsize
        name = f"{placed.name}c{number}_{first}" if first else f"{placed.name}c{number}"
        columns = g.cast(g.fresh(g.table(name, Tensor(at, whole.dtype, (n,)))), "int32")
        weights = g.op("GatherElements", user, columns, axis=0)
        products = g.reshape(g.op("Mul", weights, self._values(g, flat, number, first, n)), -1, block.width)
        # A product with a column of ones takes half the time of ReduceSum; with a vector, ten times that.
        ones = g.op("Expand", g.constant(1.0, "float32"), g.ints(block.width, 1))
        return flat.scaled(g, g.reshape(g.op("MatMul", products, ones), -1), number, rows)

    @staticmethod
    def _values(g: Graph, flat: Flat, number: int, first: int, n: int) -> Name:
        """Add (n,) float32 values of a block from index `first` on; signed codes for integers."""
        block = flat.blocks[number]
        if block.precision == "int4":
            table = flat.part(g, number, (block.stored,))
            high = g.op("BitShift", table, g.mask(4), direction="RIGHT")
            both = g.op("Concat", g.op("BitwiseAnd", table, g.mask(15)), high, axis=0)
            return centred(g, g.leading(both, block.n_values, 0) if block.n_values % 2 else both, ZERO4)
        table = flat.part(g, number, (n,), first or None)
        if block.precision == "int8":
            return g.op("DequantizeLinear", table, g.one(), g.constant(ZERO, "uint8"))
        return g.cast(g.fresh(table), "float32") if block.precision == "fp16" else table


ELL = ByCount("ell", ScoringCost(1.4, 8000), EllPlan, skips_blocks=True)
"""The layout with a column for each value."""
