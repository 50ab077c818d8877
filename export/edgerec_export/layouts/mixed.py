"""The mixed-dimension layout: rows of the same width side by side, one MatMul a width.

    width 2   [v v]  [v v]  [v v]  ...          scores = concat over widths w of
    width 8   [v v v v v v v v]  ...                     user[:w] @ block_w  (w, rows)
    width 64  [v v v v v v v v ... v v v]

Rows are renumbered by width at export, so that no permutation is stored and none is looked up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import width_choices as padding_choices
from edgerec_export.blocks import STORED

KINDS = frozenset({"dense", "prefix"})
MOST_WIDTHS = 16
PADDING_ALLOWED = 0.05
"""Without a limit in bytes, nodes are saved at the price of at most this share of padding."""

# Measured with onnxruntime 1.32 on one x86-64 core: a block more costs a Slice, a MatMul and a share of Concat,
# a byte more costs the memory's bandwidth.
NANOSECONDS_PER_BLOCK = 1300.0
NANOSECONDS_PER_BYTE = 0.045


def width_choices(sizes: NDArray[np.int64], precision: str) -> list[NDArray[np.int64]]:
    """Sets of at most 16 widths, each with the least padding for its number, the fastest first.

    Sets that pad more than 5 % come last, by their padding: they serve where fewer bytes of graph must do.
    """
    choices = padding_choices(sizes, MOST_WIDTHS)
    values = [int(widths[np.searchsorted(widths, sizes)].sum()) for widths in choices]
    item_bytes = np.dtype(STORED[precision]).itemsize

    def price(number: int) -> tuple[bool, float]:
        if values[number] > (1 + PADDING_ALLOWED) * sizes.sum() and values[number] > values[-1]:
            return True, float(values[number])
        nanoseconds = values[number] * item_bytes * NANOSECONDS_PER_BYTE
        return False, nanoseconds + len(choices[number]) * NANOSECONDS_PER_BLOCK

    return [choices[number] for number in sorted(range(len(choices)), key=price)]
