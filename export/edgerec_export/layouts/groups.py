"""Rows of similar size side by side: the blocks of every layout whose rows have equal width inside a block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import width_choices as padding_choices
from edgerec_export.values import Block, block_of

MOST_WIDTHS = 16
PADDING_ALLOWED = 0.05
"""Without a limit in bytes, nodes are saved at the price of at most this share of padding."""


def group(
    sizes: NDArray[np.int64],
    classes: Sequence[tuple[str, NDArray[np.int64]]],
    widths: Sequence[Sequence[int]],
    *,
    by_column: bool,
    rows_by_id: NDArray[np.int64],
) -> tuple[tuple[Block, ...], NDArray[np.int64]]:
    """Give each row the smallest width of its class that holds its size; a row above the last is cut to it.

    Args:
        sizes: (n_rows,) values of each row.
        classes: precisions, and the rows of each.
        widths: of each class, ascending.
        rows_by_id: (n_rows,) the rows in the order that they keep inside a block.

    Returns:
        The blocks, and the table's row in each place.
    """
    block_of_row = np.empty(sizes.size, np.int64)
    kinds: list[tuple[int, str]] = []
    for (precision, rows), its_widths in zip(classes, widths, strict=True):
        wide = np.minimum(sizes[rows], its_widths[-1])
        block_of_row[rows] = len(kinds) + np.searchsorted(its_widths, wide)
        kinds += [(int(width), precision) for width in its_widths]
    order = rows_by_id[np.argsort(block_of_row[rows_by_id], kind="stable")]
    blocks: list[Block] = []
    first, start = 0, 0
    for (width, precision), n in zip(kinds, np.bincount(block_of_row, minlength=len(kinds)).tolist(), strict=True):
        if n:
            blocks.append(block_of(width, n, first, start, precision, by_column=by_column))
            first, start = first + n, start + blocks[-1].stored
    return tuple(blocks), order.astype(np.int64)


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
