"""Prefix masks: row n of a table uses its first size[n] dimensions, and the rest is exactly zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import TableError


def check_sizes(sizes: NDArray[np.int64] | None, n: int, d: int, side: str) -> None:
    """Raise TableError unless `sizes` is None or (n,) values in 1..d; `side` is for the message."""
    if sizes is None:
        return
    if sizes.shape != (n,):
        raise TableError(f"{side} sizes have shape {sizes.shape}; the table's {n} rows need ({n},)")
    if n and (sizes.min() < 1 or sizes.max() > d):
        raise TableError(f"{side} sizes run from {sizes.min()} to {sizes.max()}; they must lie in 1..{d}")


def prefix_mask(sizes: NDArray[np.int64], d: int) -> NDArray[np.bool_]:
    """Return (n, d) bool: True if dimension j of row n is one of its first sizes[n]."""
    mask: NDArray[np.bool_] = np.arange(d) < sizes[:, None]
    return mask


def cut(table: NDArray[np.float32], sizes: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Return a copy of `table` (n, d) with the values past each row's size set to zero."""
    if sizes is None:
        return table.copy()
    return np.where(prefix_mask(sizes, table.shape[1]), table, np.float32(0))
