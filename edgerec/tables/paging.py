"""Tables that lie in mapped files: pages that have been read or written need not stay in memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 1 << 12
"""Rows far from their neighbours bring pages around them along: at 64 KiB these take 256 MiB."""


def forget_pages(array: NDArray[Any]) -> None:
    """Let the system take back the pages of a mapped file that `array` views; what was written stays in the file.

    Nothing happens to an array in ordinary memory, or where the system has no such call.
    """
    mapped = _mapping(array)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def take_rows(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """array[rows]; of a mapped file some at a time, so that it does not come into memory whole."""
    if len(rows) <= ROWS_AT_ONCE or _mapping(array) is None:
        taken: NDArray[Any] = array[rows]
        return taken
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        found[start : start + ROWS_AT_ONCE] = array[rows[start : start + ROWS_AT_ONCE]]
        forget_pages(array)
    return found


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """The mapped file that `array` views, or None."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base
