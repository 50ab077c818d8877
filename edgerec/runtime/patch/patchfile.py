"""The file format of a patch: a fixed head, then a deflated stream of a JSON header and the parts that it lists.

    8 bytes "edgerecP" | major, minor uint16 | sha256 of all that follows | uint64 bytes of the inflated stream | zlib

docs/reference/patch.md specifies the format. Sizes are checked before memory is allocated.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import PatchError
from edgerec.files import storage_failure
from edgerec.runtime.manifest import LIMITS, json_object

FORMAT = "edgerec.patch"
MAGIC = b"edgerecP"
MAJOR, MINOR = LIMITS["patch_major"], 0
"""A newer minor version is readable, a newer major one is refused."""
_HEAD = struct.Struct("<8sHH32sQ")
_SIGNED_FROM = 44
"""Offset of the bytes that the sha256 covers."""
GROWTH, ROOM = LIMITS["growth"], LIMITS["growth_room"]
"""A new bundle has at most 8 times the bytes of its base and patch, plus 64 KiB, which limits damaged and hostile
patches. A larger bundle has to be copied whole."""
INFLATED = LIMITS["inflated"]
"""The inflated stream has at most 4 times the bytes of the base, plus 1 MiB."""
BYTES_A_RUN = LIMITS["bytes_a_run"]
"""Minimum mean number of bytes of a copy, except for one copy: a shorter one costs more than it saves."""
_PIECE = 1 << 16
_RUNS_AT_ONCE = 1 << 16


def most_result_bytes(base_bytes: int, patch_bytes: int) -> int:
    """Return the maximum size of a new bundle, for these bytes of base and inflated patch."""
    return GROWTH * (base_bytes + patch_bytes) + ROOM


def most_inflated(base_bytes: int) -> int:
    """Return the maximum size of an inflated patch for a base of this size."""
    return INFLATED * base_bytes + LIMITS["inflated_room"]


def patch_bytes(header: dict[str, Any], parts: list[bytes]) -> bytes:
    """Return the content of a patch file."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    stream = b"".join([text, *parts])
    content = struct.pack("<Q", len(stream)) + zlib.compress(stream, 9)
    return MAGIC + struct.pack("<HH", MAJOR, MINOR) + hashlib.sha256(content).digest() + content


class PatchFile:
    """A patch with a checked head, before it is inflated."""

    def __init__(self, content: bytes, name: str = "the patch") -> None:
        """Check the head of a patch, which messages call `name`.

        Raises PatchError: not a patch, a newer major version, or damaged.
        """
        self.name, self._content = name, content
        if len(content) < _HEAD.size or content[: len(MAGIC)] != MAGIC:
            raise PatchError(f"{name} is no patch; make one with 'edgerec diff OLD NEW --out PATCH'")
        _, major, minor, digest, self.inflated_bytes = _HEAD.unpack_from(content)
        self.version = f"{major}.{minor}"
        if major > MAJOR:
            raise PatchError(
                f"{name} has version {self.version}, this runtime reads up to {MAJOR}; upgrade: pip install -U edgerec"
            )
        if hashlib.sha256(memoryview(content)[_SIGNED_FROM:]).digest() != digest:
            raise PatchError(f"{name} is damaged (its sha256 differs); get it again")

    @classmethod
    def read(cls, path: Path, base_bytes: int) -> PatchFile:
        """Read a patch file for a bundle of `base_bytes`. Raises PatchError, StorageError."""
        most = most_inflated(base_bytes)
        most += most // 1000 + _PIECE  # data that cannot be deflated takes slightly more
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                content = b"" if size > most else stream.read(most + 1)
        except OSError as error:
            storage_failure(path, error, "read")
        if max(size, len(content)) > most:
            raise PatchError(
                f"{path} has {max(size, len(content))} bytes, and no patch for this bundle has; get it again"
            )
        return cls(content, str(path))

    def open(self, most: int) -> PatchStream:
        """Return the stream of at most `most` bytes, inflated as it is read. Raises PatchError."""
        if self.inflated_bytes > most:
            raise self.damaged(f"{self.inflated_bytes} bytes where {most} are the most for this bundle")
        return PatchStream(memoryview(self._content)[_HEAD.size :], self)

    def damaged(self, reason: str) -> PatchError:
        return PatchError(f"{self.name} is damaged ({reason}); get it again")


class PatchStream:
    """The stream of a patch: a header, and parts that are inflated one after the other as they are read.

    Nothing after a refused part is inflated.

    Attributes:
        header: the JSON object of the first line.
    """

    def __init__(self, deflated: memoryview, patch: PatchFile) -> None:
        self._deflated, self._patch, self._inflater = deflated, patch, zlib.decompressobj()
        self._fed, self._pending = 0, b""
        self._left: int = patch.inflated_bytes
        self._ahead = bytearray()
        """Bytes that were inflated with the header, and not read yet."""
        self.header = self._read_header()

    def _read_header(self) -> dict[str, Any]:
        found, end = bytearray(), -1
        most = min(self._left, LIMITS["header_bytes"] + 1)
        while end < 0 and len(found) < most:
            found += self._inflate(min(_PIECE, most - len(found)))
            end = found.find(b"\n")
        if end < 0:
            raise self._patch.damaged(f"it has no header of at most {LIMITS['header_bytes']} bytes")
        self._left -= end + 1
        self._ahead = found[end + 1 :]
        try:
            fields = json_object(bytes(found[:end]))
        except ValueError as error:
            raise self._patch.damaged(f"its header is refused: {error}") from error
        if fields.get("format") != FORMAT:
            raise self._patch.damaged("it has no header")
        if fields.get("version") != self._patch.version:
            raise self._patch.damaged("its header is of another version")
        return fields

    def _inflate(self, size: int) -> bytearray:
        """Inflate the next `size` bytes. Raises PatchError if there are fewer."""
        result = bytearray()
        while len(result) < size:
            part = self._inflate_some(size - len(result))
            if not part:
                raise self._patch.damaged("its stream has another length than promised")
            result += part
        return result

    def _inflate_some(self, most: int) -> bytes:
        """Inflate at most `most` of the next bytes; none at the end."""
        while True:
            fresh = not self._pending and self._fed < len(self._deflated)
            if fresh:
                self._pending = bytes(self._deflated[self._fed : self._fed + _PIECE])
                self._fed += len(self._pending)
            try:
                part = self._inflater.decompress(self._pending, most)
            except zlib.error as error:
                raise self._patch.damaged(str(error)) from error
            self._pending = self._inflater.unconsumed_tail
            if part or self._inflater.eof or not (self._pending or self._fed < len(self._deflated)):
                return part

    @property
    def left(self) -> int:
        """Number of bytes that are not read yet."""
        return self._left

    def take(self, size: int) -> memoryview:
        """Read the next `size` bytes. Raises PatchError if there are fewer."""
        if not 0 <= size <= self._left:
            raise self._patch.damaged(f"a part of {size} bytes where {self._left} are left")
        self._left -= size
        part, self._ahead = self._ahead[:size], self._ahead[size:]
        part += self._inflate(size - len(part))
        return memoryview(part)

    def values(self, count: int, dtype: str) -> NDArray[Any]:
        """Read (count,) unsigned integers, stored as byte planes: all lowest bytes, all second bytes, and so on."""
        kind = np.dtype(dtype).newbyteorder("<")
        planes = np.frombuffer(self.take(count * kind.itemsize), np.uint8).reshape(kind.itemsize, count)
        return np.ascontiguousarray(planes.T).reshape(-1).view(kind)

    def copies(self, count: int, base: int, result: int, least: int = 1) -> Copies:
        """Read the next copies. Raises PatchError.

        Args:
            count: number of copies.
            base: units of the base.
            result: units of the result.
            least: minimum mean number of units of a copy, except for one copy.
        """
        if count > result // least + 1:
            raise self._patch.damaged(f"{count} runs that make {result}")
        numbers = self.values(3 * count, "uint32").reshape(3, count).astype(np.int64)
        copies = Copies.of(*numbers)
        if not copies.fit(base, result):
            raise self._patch.damaged("it copies what is not there")
        return copies

    def end(self) -> None:
        """Raise PatchError if bytes are left."""
        if self._left:
            raise self._patch.damaged(f"{self._left} bytes belong to nothing")
        more = self._inflate_some(1)
        if more or not self._inflater.eof or self._inflater.unused_data or self._fed < len(self._deflated):
            raise self._patch.damaged("its stream has another length than promised")


class Copies:
    """The copies of units from a base, with new units inserted after each.

    Attributes:
        starts: (n,) first unit of each copy.
        counts: (n,) number of copied units.
        inserted: (n,) number of new units after the copy.
    """

    def __init__(self, starts: NDArray[np.int64], counts: NDArray[np.int64], inserted: NDArray[np.int64]) -> None:
        self.starts, self.counts, self.inserted = starts, counts, inserted

    @classmethod
    def of(cls, skips: NDArray[np.int64], counts: NDArray[np.int64], inserted: NDArray[np.int64]) -> Copies:
        """Return copies from stored numbers.

        Args:
            skips: distances of each start from the end of the copy before, with 0, -1, 1, -2, 2, ... stored as 0, 1, 2,
                3, 4, ...
        """
        moved = (skips >> 1) ^ -(skips & 1)
        return cls(np.cumsum(moved) + np.cumsum(counts) - counts, counts, inserted)

    def __len__(self) -> int:
        return len(self.starts)

    def stored(self) -> bytes:
        """Return the bytes that a patch stores."""
        ends = np.concatenate([[0], self.starts + self.counts])[:-1]
        moved = self.starts - ends
        skips = (moved << 1) ^ (moved >> 63)
        return planes(np.concatenate([skips, self.counts, self.inserted]).astype(np.uint32))

    def fit(self, base: int, result: int) -> bool:
        """Return True if they read only the `base` units, and give `result` units."""
        if not len(self):
            return result == 0
        inside = self.starts.min() >= 0 and (self.starts + self.counts).max() <= base
        return bool(inside) and int(self.counts.sum() + self.inserted.sum()) == result

    def sources(self) -> NDArray[np.int64]:
        """Return the (result units,) unit of the base from which each is copied; -1 for inserted units."""
        lengths = np.stack([self.counts, self.inserted], axis=1).ravel()
        firsts = np.stack([self.starts, np.full(len(self), -1)], axis=1).ravel()
        found = np.repeat(firsts, lengths)
        steps = np.arange(found.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.where(found < 0, -1, found + steps)

    def joined(self, base: memoryview, literals: memoryview) -> bytearray:
        """Return the bytes that they give from a base and inserted literals."""
        result, at, used = bytearray(int(self.counts.sum() + self.inserted.sum())), 0, 0
        for first in range(0, len(self), _RUNS_AT_ONCE):
            part = slice(first, first + _RUNS_AT_ONCE)
            runs = (numbers[part].tolist() for numbers in (self.starts, self.counts, self.inserted))
            for start, count, new in zip(*runs, strict=True):
                result[at : at + count] = base[start : start + count]
                at += count
                result[at : at + new] = literals[used : used + new]
                at, used = at + new, used + new
        return result


def planes(values: NDArray[Any]) -> bytes:
    """Return integers as byte planes, as `PatchStream.values` reads them.

    The high bytes of small numbers are zeros, which deflate to almost nothing.
    """
    kind = values.dtype.newbyteorder("<")
    return np.ascontiguousarray(values.astype(kind).reshape(-1, 1).view(np.uint8).T).tobytes()
