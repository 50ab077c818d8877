"""Plan of a stored table: where its rows go, how they are packed, and the graph nodes that read them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec.tables.codes import LARGEST, TINY, byte_top, to_bytes
from edgerec.tables.paging import forget_pages
from edgerec_export.onnx import DecodedRows, Flat, Graph, Name, Slots, Tensor
from edgerec_export.values import (
    FARTHEST,
    NO_VALUE,
    ONE,
    SAMPLE,
    STORED,
    Block,
    Coder,
    chunks,
    is_integer,
    read_row_scales,
)

Sections = dict[str, tuple[str, tuple[int, ...]]]
"""dtype and shape of each array of a table, by the suffix of its name in the tables file; the values have suffix ''."""
Arrays = Mapping[str, NDArray[Any]]
ROWS_AT_ONCE = 1 << 16
"""Rows that are packed at a time, which limits the memory of copies."""
HEADROOM = np.float32(2)
"""Factor by which the rows of later bundles may be larger before all scales in a byte change; the relative error of a
scale grows by its fourth root."""
SMALLEST_HALF = float(np.finfo(np.float16).smallest_normal)
"""Smallest stored row scale: the smallest normal float16."""


RowsOf = Callable[[NDArray[np.int64], Block], Slots]
"""A function of row numbers in the table and a block that returns the rows."""
Put = Callable[[Block, int, NDArray[Any], Slots], None]
"""A function that stores (m, width) values or signed codes of a block, from one of its rows on; the last argument has
the original rows."""


@dataclass(frozen=True)
class Bounds:
    """Upper bounds of the scores of each block, for a user vector of length 1.

    Attributes:
        products: (blocks,) float32, bounds of the scores that `add_scores` computes.
        cosines: (blocks,) float32, bounds of those scores times the stored inverse norms; None without inverse norms.
    """

    products: NDArray[np.float32]
    cosines: NDArray[np.float32] | None


@dataclass(frozen=True)
class Placed:
    """A planned table with its place in the tables file.

    Attributes:
        name: of its values in the tables file; other arrays add their suffix.
        tensors: its arrays, by suffix.
        scales: (blocks,) float32 for integers with one scale a block; None otherwise.
        top_scale: the factor of stored row scales.
        bounds: score bounds, as in `Scales`.
    """

    name: str
    tensors: Mapping[str, Tensor]
    scales: NDArray[np.float32] | None
    top_scale: np.float32 = ONE
    bounds: Bounds | None = None

    def table(self, g: Graph, suffix: str) -> Name:
        """Add a whole array of the table to a graph, and return its name."""
        return g.table(self.name + suffix, self.tensors[suffix])


@dataclass(frozen=True)
class Scales:
    """Scales and score bounds of a packed table.

    Attributes:
        blocks: (blocks,) float32 for integers with one scale a block; None otherwise.
        top: the factor by which stored float16 row scales are multiplied.
        bounds: score bounds of a table with several block groups, of which some can be skipped; None otherwise.
    """

    blocks: NDArray[np.float32] | None = None
    top: np.float32 = ONE
    bounds: Bounds | None = None


class BlockGroup(NamedTuple):
    """Neighbouring blocks that are scored together or skipped together: block numbers, and row numbers."""

    blocks: range
    rows: range


@dataclass(frozen=True)
class TablePlan(ABC):
    """The place of every value of a table, known before any value is packed.

    Attributes:
        layout: name of the layout.
        blocks: blocks of the flat vector of values, in row order; raw ids ascend inside each block.
        order: (n_rows,) the table's row number of each row of the bundle.
        d: dimensions of a decoded row.
        scaled: the unit that has one scale, for integers: 'table', 'block', or 'row' (in section 's').
        scale_type: dtype of row scales: float16, or uint8 as `values.to_bytes` writes them.
    """

    layout: str
    blocks: tuple[Block, ...]
    order: NDArray[np.int64]
    d: int
    scaled: str = "table"
    scale_type: str = field(default="float16", kw_only=True)

    leading: ClassVar[bool] = True
    """True if the stored values of a row are its first dimensions."""

    @property
    def n_rows(self) -> int:
        return self.order.size

    @property
    def precision(self) -> str:
        return self.blocks[0].precision

    @property
    def is_integer(self) -> bool:
        return is_integer(self.precision)

    @property
    def n_values(self) -> int:
        """Number of stored values, with padding."""
        return sum(block.n_values for block in self.blocks)

    def n_scales(self) -> int:
        """Return the number of scales that are constants of the graphs."""
        if not self.is_integer:
            return 0
        return {"table": 1, "block": len(self.blocks), "row": 0}[self.scaled]

    @property
    def has_one_scale(self) -> bool:
        """True if all scores are the same multiple of integer sums of products."""
        return self.n_scales() == 1

    @property
    def column_type(self) -> str:
        """dtype of dimension numbers."""
        return "uint8" if self.d <= 256 else "uint16"

    @property
    def sums_type(self) -> str:
        """dtype of the pieces that `add_scores` returns."""
        return "float32"

    def sections(self) -> Sections:
        """Return dtype and shape of every array of the table."""
        own: Sections = {"": (STORED[self.precision], (sum(block.stored for block in self.blocks) + 1,))}
        if self.scaled == "row" and self.is_integer:
            own["s"] = (self.scale_type, (self.n_rows,))
        return own

    def block_groups(self) -> list[BlockGroup]:
        """Return the groups of blocks that are scored or skipped together, the highest expected scores first.

        The first group is always scored; a plan with one group skips nothing.
        """
        return [BlockGroup(range(len(self.blocks)), range(self.n_rows))]

    def sampled(self, count: int) -> TablePlan:
        """Return the plan of every nth row of each block, about `count` in all; the plan itself if that is not at hand.

        Packing it shows at less cost how rows are rounded.
        """
        return self

    def flat(self, placed: Placed) -> Flat:
        """Return the flat vector of values, as graphs read it."""
        return Flat(
            placed.name,
            placed.tensors[""].offset,
            self.blocks,
            placed.scales,
            placed.tensors.get("s"),
            placed.top_scale,
        )

    @abstractmethod
    def pack(self, table: Table, out: Arrays, coder: Coder) -> Scales:
        """Quantise the values of a table and store them in `out`, which has an array for each section."""

    @abstractmethod
    def unpack(self, arrays: Arrays, places: NDArray[np.int64]) -> NDArray[Any]:
        """Return the (len(places), d) stored rows: float32, or signed int32 codes."""

    @abstractmethod
    def add_rows(self, g: Graph, placed: Placed, rows: Name) -> DecodedRows:
        """Add the nodes that look rows up: [...] int64 -> [..., d]. numpy: unpack(arrays, rows)."""

    @abstractmethod
    def add_scores(self, g: Graph, placed: Placed, user: DecodedRows, blocks: range | None = None) -> list[Name]:
        """Add the nodes that score every row for each user: [B, d] -> pieces [B, rows of the piece], in row order.

        Products of integers are exact. The pieces are sums of dtype `sums_type`: the caller applies the scale of the
        user, and that of a table with one scale, to the few scores of the answer.
        numpy: user @ unpack(arrays, all).T * scales

        Args:
            blocks: the blocks of one of `block_groups`, to score no others.
        """

    def row_scales(self, arrays: Arrays, scales: Scales, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (len(places),) float32 scale of each row; ones for floats."""
        if not self.is_integer:
            return np.ones(len(places), np.float32)
        if scales.blocks is None:
            return read_row_scales(arrays["s"][places], scales.top)
        return scales.blocks[self.block_of(places) if len(scales.blocks) > 1 else np.zeros(len(places), np.int64)]

    def value_starts(self) -> list[int]:
        """Return the index of each block's first value, counted in values, not in stored entries."""
        return [0, *itertools.accumulate(block.n_values for block in self.blocks)][:-1]

    def pack_rows(self, out: Arrays, coder: Coder, rows_of: RowsOf, put: Put) -> Scales:
        """Quantise and store the rows of every block, `ROWS_AT_ONCE` at a time."""
        out[""][-1] = NO_VALUE[self.precision]
        top = np.float32(1)
        if "s" in out:
            top = self._top_scale(rows_of, coder) if coder.trained is None else coder.trained.top
        scales = self._scales(coder, rows_of)
        for number, block in enumerate(self.blocks):
            places = self.order[block.first : block.first + block.rows]
            for part in chunks(block.rows, ROWS_AT_ONCE):
                rows = rows_of(places[part], block)
                values: NDArray[Any] = rows.values
                if "s" in out:
                    if coder.trained is None:
                        steps = self._stored_scales(coder.row_scales(values, block.precision), top)
                    else:
                        steps = coder.trained.steps[places[part]]
                    out["s"][block.first + part.start : block.first + part.stop] = steps
                    values = coder.codes(values, read_row_scales(steps, top), block.precision)
                elif self.is_integer:
                    values = coder.codes(values, scales[number % len(scales)], block.precision)
                put(block, part.start, values, rows)
                if self.n_rows > ROWS_AT_ONCE:
                    for array in out.values():
                        forget_pages(array)
        return Scales(scales if self.n_scales() else None, top)

    def _scales(self, coder: Coder, rows_of: RowsOf) -> NDArray[np.float32]:
        """Return the (n_scales,) scales of the table or of its blocks, each fitted to a sample of rows."""

        def some(blocks: Sequence[Block]) -> list[NDArray[np.float32]]:
            every = -(-sum(block.rows for block in blocks) // SAMPLE)
            return [
                rows_of(self.order[block.first : block.first + block.rows : every], block).values for block in blocks
            ]

        scaled_together = {0: [], 1: [self.blocks]}.get(self.n_scales(), [(block,) for block in self.blocks])
        found, met = [], Counter[tuple[int, str]]()
        for blocks in scaled_together:
            kind = blocks[0].width, blocks[0].precision
            previous = None if coder.previous is None else coder.previous.scale_of(blocks[0], met[kind])
            met[kind] += 1
            found.append(coder.scale(some(blocks), blocks[0].precision) if previous is None else previous)
        return np.array(found, np.float32)

    def _top_scale(self, rows_of: RowsOf, coder: Coder) -> np.float32:
        """Return the factor of row scales: the largest, or that of the older bundle unless the largest is far above.

        Scales in a byte get a larger one, so that bundles that follow keep it: `HEADROOM` times the scale of the
        largest row in the fewest bits, since any row may take the values of any other.
        """
        largest, in_fewest = TINY, TINY
        fewest = min(LARGEST[block.precision] for block in self.blocks)
        for block in self.blocks:
            places = self.order[block.first : block.first + block.rows]
            for part in chunks(block.rows, ROWS_AT_ONCE):
                value = np.abs(rows_of(places[part], block).values).max()
                largest = max(largest, np.float32(value / LARGEST[block.precision]))
                in_fewest = max(in_fewest, np.float32(value / fewest))
        previous = None if coder.previous is None else coder.previous.top
        if self.scale_type == "uint8":
            return byte_top(largest, previous, room=HEADROOM * in_fewest)
        return np.float32(largest) if previous is None or largest > previous * FARTHEST else previous

    def _stored_scales(self, scales: NDArray[np.float32], top: np.float32) -> NDArray[Any]:
        if self.scale_type == "uint8":
            return to_bytes(scales, top)
        stored: NDArray[np.float16] = np.maximum(scales / top, SMALLEST_HALF).astype(np.float16)
        return stored

    def block_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (len(places),) block number of each row."""
        firsts = [block.first for block in self.blocks[1:]]
        return np.searchsorted(firsts, places, side="right")
