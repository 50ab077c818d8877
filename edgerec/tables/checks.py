"""Checks of the parts of tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import TableError
from edgerec.tables.paging import forget_pages

ROWS_AT_ONCE = 1 << 16


def float_values(values: ArrayLike, ndim: int) -> NDArray[np.float32]:
    """Return finite `values` as a read-only float32 array, without a copy if possible. Raises TableError."""
    given = np.asarray(values)
    if given.dtype.kind not in "fiub":
        raise TableError(f"table values must be real numbers, got {given.dtype}")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(given, np.float32)
    if array.ndim != ndim:
        raise TableError(f"table values must have {ndim} dimension(s), got {array.ndim}")
    if not all_finite(array):
        raise TableError("table values must be finite float32: a NaN or an infinity was found; did training diverge?")
    return read_only(array)


def all_finite(array: NDArray[np.float32]) -> bool:
    """Return True if all values are finite; a mapped file is read in parts, which do not stay in memory."""
    for start in range(0, len(array), ROWS_AT_ONCE):
        if not np.isfinite(array[start : start + ROWS_AT_ONCE]).all():
            return False
        if len(array) > ROWS_AT_ONCE:
            forget_pages(array)
    return True


def rows_in_range(rows: ArrayLike, n_rows: int) -> NDArray[np.int64]:
    """Return row numbers as a flat int64 array. Raises TableError if one is outside 0..n_rows-1."""
    array = np.atleast_1d(np.asarray(rows, np.int64))
    if array.size and (array.min() < 0 or array.max() >= n_rows):
        raise TableError(f"row numbers run from 0 to {n_rows - 1}, got {int(array.min())} to {int(array.max())}")
    return array


def narrowest(largest: int) -> type[np.unsignedinteger[Any]]:
    """Return the narrowest unsigned type that holds 0 to `largest`."""
    return next(kind for kind in (np.uint8, np.uint16, np.uint32, np.uint64) if largest <= np.iinfo(kind).max)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view
