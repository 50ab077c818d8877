"""What is asked of a layout, and the choices that it offers.

Layouts whose rows have equal width inside a block put rows of similar size side by side: `group` makes their blocks,
`block_choices` the widths worth trying."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import NormalDist
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import width_choices as padding_choices
from edgerec.tables import Table
from edgerec_export.layouts.base import Plan, Run
from edgerec_export.values import BYTES, Block, block_of, chunks

ROWS_AT_ONCE = 1 << 16
RUN_ROWS = 1 << 15
"""Rows that are scored together or not at all, at least."""
MOST_WIDTHS = 16
PADDING_ALLOWED = 0.05
"""Without a limit in bytes, nodes are saved at the price of at most this share of padding."""
MOST_BLOCKS = 24
MOST_PARTS = 4
DECODED_AT_ONCE = 1 << 23
"""Values of a block of int4 that is scored: they are decoded together, those of the next block in the same memory."""
GRAPH_BYTES_PER_BLOCK = 80
"""About what one more block of a looked-up table adds to graphs and manifest: a guess, before bytes are counted."""


@dataclass(frozen=True)
class Share:
    """What a budget buys of one table.

    Attributes:
        sizes: (n_rows,) leading dimensions of each row.
        precisions: that rows may have, and
        which: (n_rows,) the number of each row's.
        distortion: mean squared error of a score, as far as this table causes it.
        nbytes: of the values.
    """

    sizes: NDArray[np.int64]
    precisions: tuple[str, ...]
    which: NDArray[np.int8]
    distortion: float
    nbytes: float


@dataclass(frozen=True)
class Wish:
    """A table that is to be stored.

    Attributes:
        table: (n_rows, d).
        precision: of its values.
        rows_by_id: (n_rows,) its rows in the order of their ids, which they keep inside a block.
        scales: what of integers has a scale of its own: the 'table', a 'block' or a 'row'.
        scored: all rows are scored for each user; otherwise rows are only looked up.
        d: dimensions of a decoded row.
        share: what a byte budget buys of the table, where one was allocated; a row may get more where its block is
            wider.
        widths: of the blocks, ascending, of an older bundle to follow; a wider one is added where rows need it.
    """

    table: Table
    precision: str
    rows_by_id: NDArray[np.int64]
    scales: str = "table"
    scored: bool = True
    d: int = 1 << 30
    share: Share | None = None
    widths: tuple[int, ...] = ()

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(n_rows,) dimensions of each row up to its last value, at least 1 and at most `d`."""
        if self.share is not None:
            return np.clip(self.share.sizes, 1, self.d)
        found = self.table.sizes()
        if self.table.kind == "sparse":
            for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
                used = self.table.rows(np.arange(part.start, part.stop)) != 0
                found[part] = np.where(used.any(1), self.table.d - used[:, ::-1].argmax(1), 1)
        return np.clip(found, 1, self.d)

    @cached_property
    def classes(self) -> list[tuple[str, NDArray[np.int64]]]:
        """The rows by the precision that they are given, ascending."""
        everyone = np.arange(self.table.n_rows)
        if self.share is None:
            return [(self.precision, everyone)]
        pairs = [(name, np.flatnonzero(self.share.which == n)) for n, name in enumerate(self.share.precisions)]
        return [(name, rows) for name, rows in pairs if rows.size]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(n_rows,) values of each row that are not zero; 1 for a row without any, which stores a zero."""
        found = np.empty(self.table.n_rows, np.int64)
        for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
            found[part] = np.count_nonzero(self.table.rows(np.arange(part.start, part.stop)), axis=1)
        return np.maximum(found, 1)

    @property
    def is_large(self) -> bool:
        """Whether it is worth asking which rows a search needs."""
        return self.scored and self.table.n_rows >= 2 * RUN_ROWS

    @cached_property
    def lengths(self) -> NDArray[np.float32]:
        """(n_rows,) the length of each row."""
        found = np.empty(self.table.n_rows, np.float32)
        for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
            found[part] = np.linalg.norm(self.table.rows(np.arange(part.start, part.stop)), axis=1)
        return found


@dataclass(frozen=True)
class Choice:
    """One way to lay a table out.

    Attributes:
        widths: of the blocks, ascending, for each of the wish's classes; of layouts that have some.
    """

    widths: tuple[tuple[int, ...], ...] = ()


class Layout(Protocol):
    """A way to lay tables out."""

    @property
    def name(self) -> str:
        """What the command line calls it."""
        ...

    @property
    def scores_rows(self) -> bool:
        """Whether scoring some rows is cheaper by looking them up than by scoring all."""
        ...

    def choices(self, wish: Wish) -> list[Choice]:
        """The ways worth trying, the fastest first."""
        ...

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        """Where every value goes."""
        ...


class Search(NamedTuple):
    """What is known of a table's scores.

    Attributes:
        lengths: (n_rows,) of its rows.
        reach: of a row's number of values, the length of what it meets of a typical user.
    """

    lengths: NDArray[np.float32]
    reach: Callable[[int], float]


def group(
    sizes: NDArray[np.int64],
    classes: Sequence[tuple[str, NDArray[np.int64]]],
    widths: Sequence[Sequence[int]],
    *,
    by_column: bool,
    rows_by_id: NDArray[np.int64],
    search: Search | None = None,
) -> tuple[tuple[Block, ...], NDArray[np.int64]]:
    """Give each row the smallest width of its class that holds its size; a row above the last is cut to it.

    Args:
        sizes: (n_rows,) values of each row.
        classes: precisions, and the rows of each.
        widths: of each class, ascending.
        rows_by_id: (n_rows,) the rows in the order that they keep inside a block.
        search: of a large table, whose best rows are searched for without reading all: those that can score highest
            are put last.

    Returns:
        The blocks, and the table's row in each place.
    """
    block_of_row = np.empty(sizes.size, np.int64)
    kinds: list[tuple[int, str]] = []
    for (precision, rows), its_widths in zip(classes, widths, strict=True):
        wide = np.minimum(sizes[rows], its_widths[-1])
        block_of_row[rows] = len(kinds) + np.searchsorted(its_widths, wide)
        kinds += [(int(width), precision) for width in its_widths]
    if search is not None:
        kinds, block_of_row = _ordered_by_reach(kinds, block_of_row, search)
    order = rows_by_id[np.argsort(block_of_row[rows_by_id], kind="stable")]
    blocks: list[Block] = []
    first, start = 0, 0
    for (width, precision), n in zip(kinds, np.bincount(block_of_row, minlength=len(kinds)).tolist(), strict=True):
        most = DECODED_AT_ONCE // width if precision == "int4" and by_column else n
        for part in chunks(n, max(most, 1)):
            rows = part.stop - part.start
            blocks.append(block_of(width, rows, first, start, precision, by_column=by_column))
            first, start = first + rows, start + blocks[-1].stored
    return tuple(blocks), order.astype(np.int64)


def _ordered_by_reach(
    kinds: Sequence[tuple[int, str]], block_of_row: NDArray[np.int64], search: Search
) -> tuple[list[tuple[int, str]], NDArray[np.int64]]:
    """Blocks in the order of the highest scores that their rows can have; those with many rows in parts by length."""
    least = run_rows(block_of_row.size)
    parts: list[tuple[float, tuple[int, str], NDArray[np.int64]]] = []
    for number, kind in enumerate(kinds):
        mine = np.flatnonzero(block_of_row == number)
        count = max(1, min(MOST_PARTS, mine.size // least))
        if count > 1:
            mine = mine[np.argsort(search.lengths[mine], kind="stable")]
        reach = search.reach(kind[0])
        parts += [
            (reach * float(search.lengths[part].max()), kind, part) for part in np.array_split(mine, count) if part.size
        ]
    parts.sort(key=lambda part: part[0])
    found = np.empty_like(block_of_row)
    for number, (_, _, rows) in enumerate(parts):
        found[rows] = number
    return [kind for _, kind, _ in parts], found


def run_rows(n_rows: int) -> int:
    """Rows of a run at least: to ask whether one is needed takes about as long as to score 5,000 rows, and each takes
    bytes of graph and time to load."""
    return max(RUN_ROWS, n_rows // MOST_BLOCKS)


def runs_of(blocks: Sequence[Block]) -> list[Run]:
    """Neighbouring blocks that are scored together or not at all, from the last on, each run as large as those before:
    then a user who needs some of the rows scores at most twice as many. None is above a quarter: their memory."""
    n_rows = blocks[-1].first + blocks[-1].rows
    least, runs = run_rows(n_rows), list[Run]()
    stop, end = len(blocks), n_rows
    for number in reversed(range(len(blocks))):
        first = blocks[number].first
        if number == 0 or (end - first >= max(least, min(n_rows - end, n_rows // 4)) and first >= least):
            runs.append(Run(range(number, stop), range(first, end)))
            stop, end = number, first
    return runs


def width_choices(sizes: NDArray[np.int64], per_value: float, per_block: float, fast: bool) -> list[NDArray[np.int64]]:
    """Sets of at most 16 widths, each with the least padding for its number, the cheapest first.

    Args:
        per_value, per_block: what one more costs.
        fast: cost is time: sets that pad more than 5 % come last, by their padding, and serve where fewer bytes of
            graph must do. Otherwise cost is bytes.
    """
    choices = padding_choices(sizes, MOST_WIDTHS)
    values = [int(widths[np.searchsorted(widths, sizes)].sum()) for widths in choices]

    def price(number: int) -> tuple[bool, float]:
        if fast and values[number] > (1 + PADDING_ALLOWED) * sizes.sum() and values[number] > values[-1]:
            return True, float(values[number])
        return False, values[number] * per_value + len(choices[number]) * per_block

    return [choices[number] for number in sorted(range(len(choices)), key=price)]


@dataclass(frozen=True)
class Price:
    """What scoring costs, measured with onnxruntime 1.32 on one x86-64 core.

    Attributes:
        ns_per_value: of reading a value and what belongs to it.
        ns_per_block: of the nodes that a block takes.
    """

    ns_per_value: float
    ns_per_block: float


def block_choices(sizes: NDArray[np.int64], wish: Wish, price: Price) -> list[Choice]:
    """Sets of widths with the least padding: the fastest first, or the smallest of a table that is only looked up. Or
    those to follow."""
    if wish.widths:
        most = int(sizes.max())
        return [Choice(tuple((*(width for width in wish.widths if width < most), most) for _ in wish.classes))]
    per_class = []
    for precision, rows in wish.classes:
        per_value, per_block = price.ns_per_value, price.ns_per_block
        if not wish.scored:
            per_value, per_block = BYTES[precision], GRAPH_BYTES_PER_BLOCK
        found = width_choices(sizes[rows], per_value, per_block, wish.scored)
        per_class.append([tuple(map(int, widths)) for widths in found])
    longest = max(map(len, per_class))
    # Classes are cut alike: their first choices together, their second ones, and so on.
    return [Choice(tuple(own[min(number, len(own) - 1)] for own in per_class)) for number in range(longest)]


@dataclass(frozen=True)
class ByCount:
    """Rows by their number of values, wherever they stand."""

    name: str
    price: Price
    planned: type[Plan]
    in_runs: bool = False
    scores_rows: bool = True

    def choices(self, wish: Wish) -> list[Choice]:
        return block_choices(wish.counts, wish, self.price)

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        blocks, order = group(
            wish.counts,
            wish.classes,
            choice.widths,
            by_column=False,
            rows_by_id=wish.rows_by_id,
            search=Search(wish.lengths, partial(_largest, of=wish.d)) if wish.is_large and self.in_runs else None,
        )
        return self.planned(self.name, blocks, order, wish.d, wish.scales)


def _largest(count: int, of: int) -> float:
    """The length of the `count` largest of some normal values, about."""
    quantiles = (NormalDist().inv_cdf(1 - (number + 0.5) / (2 * of)) for number in range(min(count, of)))
    return math.sqrt(sum(quantile**2 for quantile in quantiles))
