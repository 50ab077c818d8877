"""Tables that lie in mapped files: pages that have been read or written need not stay in memory."""

from __future__ import annotations

import mmap
from typing import Any

from numpy.typing import NDArray


def forget_pages(array: NDArray[Any]) -> None:
    """Let the system take back the pages of a mapped file that `array` views; what was written stays in the file.

    Nothing happens to an array in ordinary memory, or where the system has no such call.
    """
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
