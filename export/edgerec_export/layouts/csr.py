"""CSR layout: values and columns row after row, with a pointer to the start of each row.

    pointers [0, 2, 3, ...]   values [v v | v | ...]   columns [c c | c | ...]

Rows are in the order of their ids and have any number of values. Scoring decodes a few rows at a time: ELL stores the
same values without pointers and scores them ten times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.layouts.base import Arrays, Placed, Scales, Sections, TablePlan
from edgerec_export.layouts.variants import LayoutVariant, TableRequest
from edgerec_export.onnx import DecodedRows, Flat, Graph, Name, Slots, add_scattered, add_scores_by_decoding, slots
from edgerec_export.values import Block, Coder, fetch, store


@dataclass(frozen=True)
class CsrPlan(TablePlan):
    """A planned CSR table of one block: sections '' (values), 'c' (columns), 'p' (n_rows + 1 pointers, int32).

    Attributes:
        counts: (n_rows,) number of values of each row.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def sections(self) -> Sections:
        return {**super().sections(), "c": (self.column_type, (self.n_values,)), "p": ("int32", (self.n_rows + 1,))}

    def pack(self, table: Table, out: Arrays, coder: Coder) -> Scales:
        pointers = np.concatenate([[0], np.cumsum(self.counts)])
        out["p"][:] = pointers
        widest = int(self.counts.max())

        def rows_of(rows: NDArray[np.int64], block: Block) -> Slots:
            return slots(table.rows(rows), widest)

        def put(block: Block, first: int, values: NDArray[Any], rows: Slots) -> None:
            used = np.arange(widest) < self.counts[first : first + len(values), None]
            store(out[""], values[used], int(pointers[first]), block)
            out["c"][pointers[first] : pointers[first + len(values)]] = rows.columns[used]

        return self.pack_rows(out, coder.plain(), rows_of, put)

    def unpack(self, arrays: Arrays, places: NDArray[np.int64]) -> NDArray[Any]:
        full = np.zeros((len(places), self.d), np.int32 if self.is_integer else np.float32)
        starts, stops = arrays["p"][places].astype(np.int64), arrays["p"][places + 1].astype(np.int64)
        row = np.repeat(np.arange(len(places)), stops - starts)
        index = np.arange(row.size) + np.repeat(starts - (np.cumsum(stops - starts) - (stops - starts)), stops - starts)
        full[row, arrays["c"][index]] = fetch(arrays[""], index, self.blocks[0])
        return full

    def add_rows(self, g: Graph, placed: Placed, rows: Name) -> DecodedRows:
        flat = self.flat(placed)
        row = flat.row(g, rows)
        pointers = placed.table(g, "p")
        start = self._pointers(g, flat, pointers, row)
        stop = self._pointers(g, flat, pointers, g.op("Add", row, flat.number(g, 1)))
        index = g.op("Add", start, flat.number(g, list(range(int(self.counts.max())))))
        valid = g.op("Less", index, stop)
        index = g.op("Where", valid, index, flat.number(g, 0))
        values = flat.gather(g, index, None)
        columns = g.op("GatherElements", placed.table(g, "c"), g.reshape(index, -1), axis=0)
        columns = g.op("Reshape", g.cast(columns, "int64"), g.op("Shape", index), allowzero=1)
        return DecodedRows(add_scattered(g, flat, values, columns, valid, self.d), flat.scale_of(g, row, None))

    @staticmethod
    def _pointers(g: Graph, flat: Flat, pointers: Name, row: Name) -> Name:
        found = g.op("Gather", pointers, row)
        return found if flat.index_type == "int32" else g.cast(found, flat.index_type)

    def add_scores(self, g: Graph, placed: Placed, user: DecodedRows, blocks: range | None = None) -> list[Name]:
        def decode(body: Graph, rows: Name) -> DecodedRows:
            return self.add_rows(body, placed, rows)

        return [add_scores_by_decoding(g, user, self.n_rows, self.d, decode, self.has_one_scale)]


class Csr:
    """The layout with rows in the order of their ids, and pointers."""

    name = "csr"
    scores_rows = True

    def variants(self, request: TableRequest) -> list[LayoutVariant]:
        return [LayoutVariant()]

    def plan(self, request: TableRequest, variant: LayoutVariant) -> TablePlan:
        counts = request.counts[request.rows_by_id]
        block = _csr_block(len(counts), int(counts.sum()), request.d, request.precision)
        return CsrPlan(
            self.name, (block,), request.rows_by_id, request.d, request.scales, counts, scale_type=request.scale_type
        )


def _csr_block(rows: int, n_values: int, d: int, precision: str) -> Block:
    stored = -(-n_values // 2) if precision == "int4" else n_values
    return Block(d, rows, 0, 0, n_values, stored, precision)
