"""Memory of tables in mapped files: pages that were read or written need not stay in memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 1 << 12
"""Rows taken at once: scattered rows load the pages around them, 256 MiB at 64 KiB a row."""


def forget_pages(array: NDArray[Any]) -> None:
    """Release the pages of a mapped file that `array` views; written values stay in the file.

    Does nothing for an array in ordinary memory, or on systems without such a call.
    """
    mapped = _mapping(array)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def take_rows(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return array[rows]; rows of a mapped file are read in parts, so that the file is never in memory as a whole."""
    if len(rows) <= ROWS_AT_ONCE or _mapping(array) is None:
        taken: NDArray[Any] = array[rows]
        return taken
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        found[start : start + ROWS_AT_ONCE] = array[rows[start : start + ROWS_AT_ONCE]]
        forget_pages(array)
    return found


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the mapped file that `array` views, or None."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base
