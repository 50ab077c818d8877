"""What a layout is: where the rows of a table go, how they are packed, and the graph pieces that read them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec.tables.paging import forget_pages
from edgerec_export.onnx import Flat, Graph, Name, Rows, Slots, Tensor
from edgerec_export.values import (
    FARTHEST,
    LARGEST,
    NO_VALUE,
    ONE,
    SAMPLE,
    STORED,
    TINY,
    Block,
    Coder,
    chunks,
    is_integer,
)

Sections = dict[str, tuple[str, tuple[int, ...]]]
"""dtype and shape of each array of a table, by the suffix of its name in the tables file; '' is its values."""
Arrays = Mapping[str, NDArray[Any]]
ROWS_AT_ONCE = 1 << 16
"""Bounds the memory of copies while a table is packed."""
SMALLEST_HALF = float(np.finfo(np.float16).smallest_normal)


RowsOf = Callable[[NDArray[np.int64], Block], Slots]
"""Rows of the table, by their numbers there, for a block."""
Put = Callable[[Block, int, NDArray[Any], Slots], None]
"""Place (m, width) values or codes around 0, from a row of a block on; and what they were made of."""


@dataclass(frozen=True)
class Bounds:
    """What no score of a block is above, for a user of length 1.

    Attributes:
        products: (blocks,) float32, of what `add_scores` makes.
        cosines: (blocks,) float32, of that times the inverse lengths as they are stored; None where none ship.
    """

    products: NDArray[np.float32]
    cosines: NDArray[np.float32] | None


@dataclass(frozen=True)
class Placed:
    """A planned table that has its place in the tables file.

    Attributes:
        name: of its values there; other arrays add their suffix.
        tensors: by suffix.
        scales: (blocks,) float32 for integers with one scale a block.
        top_scale: what stored row scales are multiplied by.
        bounds: see `Scales`.
    """

    name: str
    tensors: Mapping[str, Tensor]
    scales: NDArray[np.float32] | None
    top_scale: np.float32 = ONE
    bounds: Bounds | None = None

    def table(self, g: Graph, suffix: str) -> Name:
        """An array of the table, whole."""
        return g.table(self.name + suffix, self.tensors[suffix])


@dataclass(frozen=True)
class Scales:
    """What packing found out.

    Attributes:
        blocks: (blocks,) float32 for integers with one scale a block; None otherwise.
        top: what stored row scales are multiplied by.
        bounds: of a table with several runs, which need not all be scored; else None.
    """

    blocks: NDArray[np.float32] | None = None
    top: np.float32 = ONE
    bounds: Bounds | None = None


class Run(NamedTuple):
    """Neighbouring blocks, by their numbers, and their rows."""

    blocks: range
    rows: range


@dataclass(frozen=True)
class Plan(ABC):
    """Where every value of a table goes, before any value is moved.

    Attributes:
        layout: its name.
        blocks: of the flat vector of values, in row order; raw ids ascend inside each.
        order: (n_rows,) the table's row in each place of the bundle.
        d: dimensions of a decoded row.
        scaled: what of integers has a scale of its own: the 'table', a 'block', or a 'row', as float16 in section 's'.
    """

    layout: str
    blocks: tuple[Block, ...]
    order: NDArray[np.int64]
    d: int
    scaled: str = "table"

    leading: ClassVar[bool] = True
    """Whether a row's values are its first dimensions."""

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
        """Values that have a place, padding included."""
        return sum(block.n_values for block in self.blocks)

    def n_scales(self) -> int:
        """Scales that the graphs hold."""
        if not self.is_integer:
            return 0
        return {"table": 1, "block": len(self.blocks), "row": 0}[self.scaled]

    @property
    def has_one_scale(self) -> bool:
        """Whether all scores are the same multiple of sums of products of codes."""
        return self.n_scales() == 1

    @property
    def column_type(self) -> str:
        """Of numbers of dimensions."""
        return "uint8" if self.d <= 256 else "uint16"

    @property
    def sums_type(self) -> str:
        """Of the pieces that `add_scores` makes."""
        return "float32"

    def sections(self) -> Sections:
        """The arrays of the table."""
        own: Sections = {"": (STORED[self.precision], (sum(block.stored for block in self.blocks) + 1,))}
        if self.scaled == "row" and self.is_integer:
            own["s"] = ("float16", (self.n_rows,))
        return own

    def runs(self) -> list[Run]:
        """Blocks that are scored together or not at all, that of the longest rows first; one where all always are."""
        return [Run(range(len(self.blocks)), range(self.n_rows))]

    def flat(self, placed: Placed) -> Flat:
        """The values as the graphs see them."""
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
        """Move a table's values to their places in `out`, an array for each section, quantising on the way."""

    @abstractmethod
    def unpack(self, arrays: Arrays, places: NDArray[np.int64]) -> NDArray[Any]:
        """(len(places), d) the shipped rows in these places: float32, or int32 codes around 0."""

    @abstractmethod
    def add_rows(self, g: Graph, placed: Placed, rows: Name) -> Rows:
        """Look rows up: [...] int64 -> [..., d]. numpy: unpack(arrays, rows)."""

    @abstractmethod
    def add_scores(self, g: Graph, placed: Placed, user: Rows, blocks: range | None = None) -> list[Name]:
        """Score every row of the table for each user: [B, d] -> pieces [B, rows of the piece], in row order.

        Where there are several `runs`, `blocks` may name one of them.

        In integers the products are exact. What is the same for a whole answer, the user's own scale and that of a
        table with one, is applied by the caller to the few scores that are returned: the pieces are then `sums`, of
        type `sums_type`. numpy: user @ unpack(arrays, all).T * scales
        """

    def row_scales(self, arrays: Arrays, scales: Scales, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(places),) float32; ones for floats."""
        if not self.is_integer:
            return np.ones(len(places), np.float32)
        if scales.blocks is None:
            return arrays["s"][places].astype(np.float32) * scales.top
        return scales.blocks[self.block_of(places) if len(scales.blocks) > 1 else np.zeros(len(places), np.int64)]

    def value_starts(self) -> list[int]:
        """The number of each block's first value among all values."""
        return [0, *itertools.accumulate(block.n_values for block in self.blocks)][:-1]

    def pack_rows(self, out: Arrays, coder: Coder, rows_of: RowsOf, put: Put) -> Scales:
        """Quantise and place the rows of every block, some at a time."""
        out[""][-1] = NO_VALUE[self.precision]
        top = self._top_scale(rows_of, coder) if "s" in out else np.float32(1)
        scales = self._scales(coder, rows_of)
        for number, block in enumerate(self.blocks):
            places = self.order[block.first : block.first + block.rows]
            for part in chunks(block.rows, ROWS_AT_ONCE):
                rows = rows_of(places[part], block)
                values: NDArray[Any] = rows.values
                if "s" in out:
                    steps = np.maximum(coder.row_scales(values, block.precision) / top, SMALLEST_HALF).astype(
                        np.float16
                    )
                    out["s"][block.first + part.start : block.first + part.stop] = steps
                    values = coder.codes(values, steps.astype(np.float32) * top, block.precision)
                elif self.is_integer:
                    values = coder.codes(values, scales[number % len(scales)], block.precision)
                put(block, part.start, values, rows)
                if self.n_rows > ROWS_AT_ONCE:
                    for array in out.values():
                        forget_pages(array)
        return Scales(scales if self.n_scales() else None, top)

    def _scales(self, coder: Coder, rows_of: RowsOf) -> NDArray[np.float32]:
        """(n_scales,) of the table or of its blocks, each chosen on some of its rows."""

        def some(blocks: Sequence[Block]) -> list[NDArray[np.float32]]:
            every = -(-sum(block.rows for block in blocks) // SAMPLE)
            return [
                rows_of(self.order[block.first : block.first + block.rows : every], block).values for block in blocks
            ]

        asked = {0: [], 1: [self.blocks]}.get(self.n_scales(), [(block,) for block in self.blocks])
        found, met = [], Counter[tuple[int, str]]()
        for blocks in asked:
            kind = blocks[0].width, blocks[0].precision
            kept = None if coder.shipped is None else coder.shipped.scale_of(blocks[0], met[kind])
            met[kind] += 1
            found.append(coder.scale(some(blocks), blocks[0].precision) if kept is None else kept)
        return np.array(found, np.float32)

    def _top_scale(self, rows_of: RowsOf, coder: Coder) -> np.float32:
        """What no row's scale exceeds; that of an older bundle to follow, where the rows' are not far above it."""
        largest = TINY
        for block in self.blocks:
            places = self.order[block.first : block.first + block.rows]
            for part in chunks(block.rows, ROWS_AT_ONCE):
                values = rows_of(places[part], block).values
                largest = max(largest, np.float32(np.abs(values).max() / LARGEST[block.precision]))
        kept = None if coder.shipped is None else coder.shipped.top
        return np.float32(largest) if kept is None or largest > kept * FARTHEST else kept

    def block_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """(len(places),) the number of the block that each row is in."""
        firsts = [block.first for block in self.blocks[1:]]
        return np.searchsorted(firsts, places, side="right")
