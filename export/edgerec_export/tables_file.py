"""The one file that holds every array of a bundle, each at an aligned offset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""A cache line, and the widest vector register. Pages would cost up to 4 KiB a section: too much for small bundles."""


class TablesFile:
    """Places arrays one after the other; what they hold is given when the file is written."""

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
        return {name: int(np.prod(shape)) * kind.itemsize for name, (_, kind, shape) in self._places.items()}

    def write(self, stream: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> str:
        """Write the file and return its sha256."""
        digest, at = hashlib.sha256(), 0

        def put(piece: Any) -> None:
            nonlocal at
            digest.update(piece)
            stream.write(piece)
            at += len(piece)

        for name, (offset, kind, _) in self._places.items():
            put(b"\0" * (offset - at))
            put(np.ascontiguousarray(arrays[name], kind).reshape(-1).view(np.uint8))
        put(b"\0" * (self.nbytes - at))
        return digest.hexdigest()
