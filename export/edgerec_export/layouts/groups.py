"""Rows of similar size side by side: the blocks of every layout whose rows have equal width inside a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import width_choices as padding_choices
from edgerec_export.layouts import choice
from edgerec_export.layouts.base import Run
from edgerec_export.values import Block, block_of, chunks

MOST_WIDTHS = 16
PADDING_ALLOWED = 0.05
"""Without a limit in bytes, nodes are saved at the price of at most this share of padding."""

MOST_BLOCKS = 24
MOST_PARTS = 4
DECODED_AT_ONCE = 1 << 23
"""Values of a block of int4 that is scored: they are decoded together, those of the next block in the same memory."""


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
    return max(choice.RUN_ROWS, n_rows // MOST_BLOCKS)


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
