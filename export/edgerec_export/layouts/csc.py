"""Blocked CSC layout: the values of one dimension form blocks, each value with its row; for sparse users.

    dimension 3   [v r][v r][v r] ... 256 a block      scores[row] += value * user[dimension],
    dimension 7   [v r][v r][v r] ... 256 a block      for the blocks whose dimension is active in the user

Rows are numbered within stretches of 65,536, so that a row number takes two bytes; a block belongs to one dimension of
one stretch. Looking a row up searches its stretch, so a bundle can store a second copy of its rows in ELL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.layouts.base import Arrays, Placed, Scales, Sections, TablePlan
from edgerec_export.layouts.variants import LayoutVariant, TableRequest
from edgerec_export.onnx import DecodedRows, Graph, Name, Tensor, centred
from edgerec_export.values import SAMPLE, STORED, ZERO, ZERO4, Block, Coder, chunks

BLOCK = 256
"""Values of a block: a 1M x 64 table with 10 % nonzero values takes 7.8 % of dense with 256, 8.2 % with 1,024."""
STRETCH = 1 << 16
"""Rows of a stretch, whose row numbers take two bytes."""
MOST_PARTS = 16
"""Maximum number of groups of stretches that are scored one after the other."""


def list_lengths(table: Table, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (stretches, d) numbers of values of each dimension in each stretch."""
    found = [np.count_nonzero(table.rows(order[part]), axis=0) for part in chunks(len(order), STRETCH)]
    return np.array(found, np.int64)


@dataclass(frozen=True)
class CscPlan(TablePlan):
    """A planned CSC table of n blocks: sections '' (n x 256 values), 'r' (n, 256) uint16 rows within the stretch,
    'c' (n,) dimension, 'k' (n,) uint16 stretch. int4 packs each block: byte i holds values i and i + 128.

    Attributes:
        lengths: (stretches, d) number of values of each list.
    """

    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    @property
    def _per_list(self) -> NDArray[np.int64]:
        return -(-self.lengths // BLOCK)

    @property
    def _n_blocks(self) -> int:
        return int(self._per_list.sum())

    @property
    def _entries(self) -> int:
        """Entries of the flat vector in a block."""
        return BLOCK // 2 if self.precision == "int4" else BLOCK

    def sections(self) -> Sections:
        n = self._n_blocks
        return {
            "": (STORED[self.precision], (n * self._entries,)),
            "r": ("uint16", (n, BLOCK)),
            "c": (self.column_type, (n,)),
            "k": ("uint16", (n,)),
        }

    def pack(self, table: Table, out: Arrays, coder: Coder) -> Scales:
        plain, scale = Coder(None), np.float32(1)
        if self.is_integer:
            some = table.rows(self.order[:: -(-self.n_rows // SAMPLE)])
            previous = None if coder.previous is None else coder.previous.scale_of(self.blocks[0], 0)
            scale = plain.scale([some[some != 0][:, None]], self.precision) if previous is None else previous
        entries = out[""].reshape(-1, self._entries)
        at = 0
        for number, part in enumerate(chunks(self.n_rows, STRETCH)):
            values = table.rows(self.order[part])
            for dimension in range(self.d):
                used = np.flatnonzero(values[:, dimension])
                n = int(self._per_list[number, dimension])
                if n == 0:
                    continue
                rows, padded = np.zeros(n * BLOCK, np.uint16), np.zeros(n * BLOCK, np.float32)
                rows[: used.size], padded[: used.size] = used, values[used, dimension]
                entries[at : at + n] = self._stored(padded.reshape(n, BLOCK), plain, scale)
                out["r"][at : at + n], out["c"][at : at + n] = rows.reshape(n, BLOCK), dimension
                out["k"][at : at + n] = number
                at += n
        return Scales(np.array([scale], np.float32) if self.is_integer else None)

    def _stored(self, values: NDArray[np.float32], coder: Coder, scale: np.float32) -> NDArray[Any]:
        if not self.is_integer:
            return values
        codes = coder.codes(values, scale, self.precision)
        if self.precision == "int8":
            return codes + ZERO
        low, high = np.split(codes + ZERO4, 2, axis=1)
        return low | (high << 4)

    def unpack(self, arrays: Arrays, places: NDArray[np.int64]) -> NDArray[Any]:
        full = np.zeros((len(places), self.d), np.int32 if self.is_integer else np.float32)
        firsts = np.concatenate([[0], np.cumsum(self._per_list.sum(1))])
        entries = arrays[""].reshape(-1, self._entries)
        for stretch in np.unique(places // STRETCH):
            mine = np.flatnonzero(places // STRETCH == stretch)
            part = slice(int(firsts[stretch]), int(firsts[stretch + 1]))
            dense = np.zeros((STRETCH, self.d), full.dtype)
            dimension = np.repeat(arrays["c"][part].astype(np.int64), BLOCK)
            np.add.at(
                dense, (arrays["r"][part].astype(np.int64).ravel(), dimension), self._decoded(entries[part]).ravel()
            )
            full[mine] = dense[places[mine] % STRETCH]
        return full

    def _decoded(self, entries: NDArray[Any]) -> NDArray[Any]:
        if self.precision == "int4":
            return np.concatenate([entries & 15, entries >> 4], axis=1).astype(np.int32) - ZERO4
        return entries.astype(np.int32) - ZERO if self.precision == "int8" else entries.astype(np.float32)

    def add_rows(self, g: Graph, placed: Placed, rows: Name) -> DecodedRows:
        """Add the nodes that search the stretch of each row: 0.3 ms a row in a stretch of 400,000 values."""
        kind = "uint8" if self.is_integer else "float32"
        scale = None
        if placed.scales is not None:
            row = g.op("Unsqueeze", rows, g.ints(-1))
            scale = g.op("Expand", g.constant(placed.scales[0], "float32"), g.op("Shape", row))

        def find(body: Graph, row: Name) -> Name:
            stretch = body.cast(body.op("Div", row, body.constant(STRETCH)), "int32")
            stretches = body.cast(body.fresh(placed.table(body, "k")), "int32")
            chosen = body.reshape(body.op("NonZero", body.op("Equal", stretches, stretch)), -1)
            inside = body.cast(body.op("Mod", row, body.constant(STRETCH)), "int32")
            there = body.cast(body.op("Gather", placed.table(body, "r"), chosen), "int32")
            hit = body.op("Equal", there, inside)
            none = body.constant(0.0, "float32")
            found = body.op("Where", hit, self._values(body, placed, chosen), none)
            sums = body.op("ReduceSum", found, body.ints(1), keepdims=0)
            empty = body.op("Expand", none, body.op("Add", body.ints(self.d), _zero(body)))
            dimension = body.cast(body.op("Gather", placed.table(body, "c"), chosen), "int64")
            result = body.op("ScatterElements", empty, dimension, sums, axis=0, reduction="add")
            if not self.is_integer:
                return result
            return body.cast(body.op("Add", result, body.constant(float(ZERO), "float32")), kind)

        found = g.each(g.reshape(rows, -1), "int64", [], find, (kind, [self.d]))
        shape = g.op("Concat", g.op("Shape", rows), g.ints(self.d), axis=0)
        return DecodedRows(g.op("Reshape", found, shape, allowzero=1), scale)

    def add_scores(self, g: Graph, placed: Placed, user: DecodedRows, blocks: range | None = None) -> list[Name]:
        def score(body: Graph, one: Name) -> Name:
            pieces = [self._scores(body, placed, one, part) for part in self._parts()]
            return body.op("Concat", *pieces, axis=0) if len(pieces) > 1 else pieces[0]

        return [g.each(user.centred(g), "float32", [self.d], score, ("float32", [self.n_rows]))]

    def _parts(self) -> Iterator[range]:
        """Return groups of stretches that are scored one after the other, which limits memory to a few stretches."""
        count = len(self.lengths)
        return (range(part.start, part.stop) for part in chunks(count, -(-count // MOST_PARTS)))

    def _scores(self, g: Graph, placed: Placed, user: Name, part: range) -> Name:
        """Add the scores of some stretches for one user: (d,) -> (rows,)."""
        firsts = np.concatenate([[0], np.cumsum(self._per_list.sum(1))])
        some = slice(int(firsts[part.start]), int(firsts[part.stop]))
        rows = min(part.stop * STRETCH, self.n_rows) - part.start * STRETCH
        dimension = g.cast(g.fresh(self._some(g, placed, "c", some)), "int32")
        weights = g.op("GatherElements", user, dimension, axis=0)
        active = g.reshape(g.op("NonZero", weights), -1)
        weight = g.op("Unsqueeze", g.op("Gather", weights, active), g.ints(1))
        products = g.op("Mul", self._values(g, placed, active, some), weight)
        target = g.cast(g.op("Gather", self._some(g, placed, "r", some), active), "int32")
        if len(part) > 1:
            stretch = g.cast(g.op("Gather", self._some(g, placed, "k", some), active), "int32")
            if part.start:
                stretch = g.op("Sub", stretch, g.constant(part.start, "int32"))
            first = g.op("Mul", stretch, g.constant(STRETCH, "int32"))
            target = g.op("Add", target, g.op("Unsqueeze", first, g.ints(1)))
        size = g.op("Add", g.ints(rows), _zero(g))
        empty = g.shaped(g.op("Expand", g.constant(0.0, "float32"), size), "float32", [rows])
        return g.op("ScatterElements", empty, g.reshape(target, -1), g.reshape(products, -1), axis=0, reduction="add")

    def _some(self, g: Graph, placed: Placed, suffix: str, some: slice) -> Name:
        """Add the entries of some blocks of one of the table's arrays."""
        whole, n = placed.tensors[suffix], some.stop - some.start
        shape = (n, *whole.shape[1:]) if suffix else (n, self._entries)
        each = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(whole.dtype).itemsize
        name = placed.name + suffix
        if n < self._n_blocks:
            name += f"_{some.start}"
        return g.table(name, Tensor(whole.offset + some.start * each, whole.dtype, shape))

    def _values(self, g: Graph, placed: Placed, chosen: Name, some: slice | None = None) -> Name:
        """Add [chosen, 256] float32 values of some blocks; signed codes for integers."""
        entries = g.op("Gather", self._some(g, placed, "", some or slice(0, self._n_blocks)), chosen)
        if self.precision == "int4":
            low = g.op("BitwiseAnd", entries, g.constant(15, "uint8"))
            high = g.op("BitShift", entries, g.constant(4, "uint8"), direction="RIGHT")
            return centred(g, g.op("Concat", low, high, axis=1), ZERO4)
        if self.precision == "int8":
            return centred(g, entries, ZERO)
        return g.cast(entries, "float32") if self.precision == "fp16" else entries


def _zero(g: Graph) -> Name:
    """Return a zero [1] that depends on an input, so that onnxruntime cannot fold it."""
    if g.zero is None:
        raise ValueError("name an input with depend_on first")
    return g.zero


class Csc:
    """The layout with values by dimension, and rows in the order of their ids."""

    name = "csc"
    scores_rows = False

    def variants(self, request: TableRequest) -> list[LayoutVariant]:
        return [LayoutVariant()]

    def plan(self, request: TableRequest, variant: LayoutVariant) -> TablePlan:
        lengths = list_lengths(request.table, request.rows_by_id)
        block = Block(request.d, request.table.n_rows, 0, 0, int(lengths.sum()), 0, request.precision)
        return CscPlan(self.name, (block,), request.rows_by_id, request.d, "table", lengths)
