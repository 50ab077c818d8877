"""Bitmask layout: one bit for each dimension of a row, and the values of the set bits.

    row  [1 0 0 1 0 0 0 1]  [v v v]                rows with similar numbers of values form a block, as in ELL

It is smaller than ELL if more than an eighth of the values is nonzero. Scoring decodes a few rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.layouts.base import Arrays, Placed, Scales, Sections, TablePlan
from edgerec_export.layouts.variants import ByCount, ScoringCost
from edgerec_export.onnx import DecodedRows, Graph, Name, Slots, add_scores_by_decoding, slots
from edgerec_export.values import Block, Coder, fetch, store


@dataclass(frozen=True)
class BitmaskPlan(TablePlan):
    """A planned bitmask table: sections '' (values) and 'm' (n_rows, ceil(d / 8)) uint8.

    Dimension j is bit j % 8, from the lowest, of byte j // 8.
    """

    def sections(self) -> Sections:
        return {**super().sections(), "m": ("uint8", (self.n_rows, -(-self.d // 8)))}

    def pack(self, table: Table, out: Arrays, coder: Coder) -> Scales:
        def rows_of(rows: NDArray[np.int64], block: Block) -> Slots:
            return slots(table.rows(rows), block.width)

        def put(block: Block, first: int, values: NDArray[Any], rows: Slots) -> None:
            store(out[""], values.ravel(), first * block.width, block)
            mask = np.zeros((len(values), self.d), np.bool_)
            np.put_along_axis(mask, rows.columns, rows.values != 0, axis=1)
            place = slice(block.first + first, block.first + first + len(values))
            out["m"][place] = np.packbits(mask, axis=1, bitorder="little")

        return self.pack_rows(out, coder.plain(), rows_of, put)

    def unpack(self, arrays: Arrays, places: NDArray[np.int64]) -> NDArray[Any]:
        full = np.zeros((len(places), self.d), np.int32 if self.is_integer else np.float32)
        which = self.block_of(places)
        mask = np.unpackbits(arrays["m"][places], axis=1, count=self.d, bitorder="little").astype(bool)
        for number, block in enumerate(self.blocks):
            mine = np.flatnonzero(which == number)
            row, column = np.nonzero(mask[mine])
            rank = (np.cumsum(mask[mine], axis=1) - 1)[row, column]
            index = (places[mine][row] - block.first) * block.width + rank
            full[mine[row], column] = fetch(arrays[""], index, block)
        return full

    def add_rows(self, g: Graph, placed: Placed, rows: Name) -> DecodedRows:
        flat = self.flat(placed)
        row = flat.row(g, rows)
        block = flat.block_of(g, row)
        bytes_ = g.op("Unsqueeze", g.op("Gather", placed.table(g, "m"), rows, axis=0), g.ints(-1))
        bits = g.cast(g.op("BitwiseAnd", bytes_, g.constant([1 << bit for bit in range(8)], "uint8")), "bool")
        lead = g.op("Shape", rows)
        bits = g.op("Reshape", bits, g.op("Concat", lead, g.ints(8 * -(-self.d // 8)), axis=0), allowzero=1)
        mask = g.leading(bits, self.d) if self.d % 8 else bits
        rank = g.op("CumSum", g.cast(mask, flat.index_type), g.constant(-1, "int32"), exclusive=1)
        widths = flat.per_block(g, [b.width for b in self.blocks], block)
        inside = flat.inside(g, row, block)
        index = g.op("Add", g.op("Mul", inside, widths), rank)
        return DecodedRows(flat.gather(g, index, block, mask), flat.scale_of(g, row, block))

    def add_scores(self, g: Graph, placed: Placed, user: DecodedRows, blocks: range | None = None) -> list[Name]:
        def decode(body: Graph, rows: Name) -> DecodedRows:
            return self.add_rows(body, placed, rows)

        return [add_scores_by_decoding(g, user, self.n_rows, self.d, decode, self.has_one_scale)]


BITMASK = ByCount("bitmask", ScoringCost(10.0, 2000), BitmaskPlan)
"""The layout with one bit for each dimension."""
