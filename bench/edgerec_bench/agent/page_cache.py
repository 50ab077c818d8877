"""The kernel's cache of files: put files out of it, and see what stayed."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

NO_MAPPING = ctypes.c_void_p(-1).value
PROT_READ = MAP_SHARED = 1
"""Of every system that has mincore(2)."""


def put_out(files: Sequence[Path]) -> str | None:
    """Put files out of the page cache. Why they are not all out of it, or None where nothing stayed."""
    if not hasattr(os, "posix_fadvise"):
        return "this system has no posix_fadvise"
    try:
        for path in files:
            _drop(path)
        stayed = sum(resident_pages(path) for path in files)
    except (OSError, AttributeError) as error:
        return f"what stays in the page cache cannot be told here ({error})"
    return f"{stayed} pages stayed in the page cache; another program may use them" if stayed else None


def _drop(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())  # pages that are not yet on the disk would stay
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident_pages(path: Path) -> int:
    """How many of a file's pages are in the page cache: mincore(2) over a mapping that reads nothing.

    For a file that this user may not write, Linux says that all of them are. Raises OSError, or AttributeError where
    there is no such call.
    """
    size = path.stat().st_size
    if not size:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    with path.open("rb") as stream:
        place = libc.mmap(None, size, PROT_READ, MAP_SHARED, stream.fileno(), 0)
    if place == NO_MAPPING:
        raise OSError(ctypes.get_errno(), "mmap failed")
    try:
        if libc.mincore(place, size, pages):
            raise OSError(ctypes.get_errno(), "mincore failed")
    finally:
        libc.munmap(place, size)
    return sum(page & 1 for page in pages.raw)
