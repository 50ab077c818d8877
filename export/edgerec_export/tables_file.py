"""The one file that holds every array of a bundle, each at an aligned offset."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""A cache line, and the widest vector register. Pages would cost up to 4 KiB a section: too much for small bundles."""


class TablesFile:
    """Places arrays one after the other; what they hold is written into the created file."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}
        self._end = 0

    def add(self, name: str, dtype: Any, shape: tuple[int, ...]) -> int:
        """Reserve room for an array and return its offset in bytes."""
        offset = -(-self._end // ALIGNMENT) * ALIGNMENT
        kind = np.dtype(dtype).newbyteorder("<")
        self._places[name] = (offset, kind, shape)
        self._end = offset + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        return offset

    @property
    def nbytes(self) -> int:
        return max(self._end, 1)  # an empty file cannot be mapped

    def describe(self) -> dict[str, list[Any]]:
        """For the manifest: [offset, dtype, shape] of each array by name."""
        return {name: [offset, kind.name, list(shape)] for name, (offset, kind, shape) in self._places.items()}

    def parts(self) -> dict[str, int]:
        """Bytes of each array by name, for people who ask what takes the space."""
        return {
            name: int(np.prod(shape, dtype=np.int64)) * kind.itemsize for name, (_, kind, shape) in self._places.items()
        }

    def create(self, path: Path) -> dict[str, NDArray[Any]]:
        """Make the file, of its whole size and all zeros, and map its arrays for writing.

        Its room is taken at once, since a mapped file that outgrows its disk kills the process that writes to it.

        Raises OSError where the disk is full or cannot be written to.
        """
        with path.open("w+b") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, self.nbytes)
            else:
                for start in range(0, self.nbytes, 1 << 20):
                    stream.write(bytes(min(1 << 20, self.nbytes - start)))
                stream.flush()
            mapped = mmap.mmap(stream.fileno(), self.nbytes)
        return {
            name: np.frombuffer(mapped, kind, int(np.prod(shape, dtype=np.int64)), offset).reshape(shape)
            for name, (offset, kind, shape) in self._places.items()
        }
