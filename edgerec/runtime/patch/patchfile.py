"""The file of a patch: a fixed head, then one deflated stream of a JSON header and the parts that it announces.

    8 bytes "edgerecP" | major, minor uint16 | sha256 of all that follows | uint64 bytes of the inflated stream | zlib

Specified in docs/reference/patch.md. Everything is checked before room is made for it.
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
MAJOR, MINOR = LIMITS["major"], 0
"""A newer minor version is readable, a newer major one is refused."""
_HEAD = struct.Struct("<8sHH32sQ")
_SIGNED_FROM = 44
"""The sha256 is of the bytes from here on."""
GROWTH, ROOM = LIMITS["growth"], LIMITS["growth_room"]
"""What a patch makes is at most 8 times what it is made of, and 64 KiB more: so much may a damaged or hostile one ask
for, and so much is enough for an honest one. A bundle that outgrows it ships whole."""
INFLATED = LIMITS["inflated"]
"""The inflated stream has at most 4 times the bytes of the base, and 1 MiB more."""
BYTES_A_RUN = LIMITS["bytes_a_run"]
"""Of bytes a run makes so many on average, but for one: a copy of fewer costs more than it saves."""
_PIECE = 1 << 16
_RUNS_AT_ONCE = 1 << 16


def most_made(base_bytes: int, patch_bytes: int) -> int:
    """The bytes that a bundle may have which a patch of so many inflated bytes makes of a base."""
    return GROWTH * (base_bytes + patch_bytes) + ROOM


def most_inflated(base_bytes: int) -> int:
    """The bytes that the inflated stream of a patch for a base may have."""
    return INFLATED * base_bytes + LIMITS["inflated_room"]


def patch_bytes(header: dict[str, Any], parts: list[bytes]) -> bytes:
    """The file of a patch."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    stream = b"".join([text, *parts])
    content = struct.pack("<Q", len(stream)) + zlib.compress(stream, 9)
    return MAGIC + struct.pack("<HH", MAJOR, MINOR) + hashlib.sha256(content).digest() + content


class PatchFile:
    """A patch whose head is checked, and which is not inflated yet."""

    def __init__(self, content: bytes, name: str = "the patch") -> None:
        """Check the head of a patch, which messages call `name`.

        Raises PatchError: no patch, of a newer major version, or damaged.
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
        """The patch in a file, for a bundle of so many bytes. Raises PatchError, StorageError."""
        most = most_inflated(base_bytes)
        most += most // 1000 + _PIECE  # what cannot be deflated takes a little more
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

    def open(self, most: int) -> Parts:
        """The stream, inflated as it is read, of at most `most` bytes. Raises PatchError."""
        if self.inflated_bytes > most:
            raise self.damaged(f"{self.inflated_bytes} bytes where {most} are the most for this bundle")
        return Parts(memoryview(self._content)[_HEAD.size :], self)

    def damaged(self, reason: str) -> PatchError:
        return PatchError(f"{self.name} is damaged ({reason}); get it again")


class Parts:
    """The stream of a patch: its header, and the parts behind it, taken one after the other and inflated only then:
    nothing is made of what stands behind a part that is refused.

    Attributes:
        header: the JSON object of the first line.
    """

    def __init__(self, deflated: memoryview, patch: PatchFile) -> None:
        self._deflated, self._patch, self._inflater = deflated, patch, zlib.decompressobj()
        self._fed, self._pending = 0, b""
        self._left: int = patch.inflated_bytes
        self._ahead = bytearray()
        """Inflated with the header, and not taken yet."""
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
        """The next `size` bytes of the stream. Raises PatchError where there are fewer."""
        made = bytearray()
        while len(made) < size:
            part = self._inflate_some(size - len(made))
            if not part:
                raise self._patch.damaged("its stream has another length than promised")
            made += part
        return made

    def _inflate_some(self, most: int) -> bytes:
        """At most so many of the next bytes; none at the end."""
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
        """Bytes that are not taken yet."""
        return self._left

    def take(self, size: int) -> memoryview:
        """The next `size` bytes. Raises PatchError where there are fewer."""
        if not 0 <= size <= self._left:
            raise self._patch.damaged(f"a part of {size} bytes where {self._left} are left")
        self._left -= size
        part, self._ahead = self._ahead[:size], self._ahead[size:]
        part += self._inflate(size - len(part))
        return memoryview(part)

    def values(self, count: int, dtype: str) -> NDArray[Any]:
        """(count,) unsigned integers, which lie byte by byte: all lowest bytes, then all second ones, and so on."""
        kind = np.dtype(dtype).newbyteorder("<")
        planes = np.frombuffer(self.take(count * kind.itemsize), np.uint8).reshape(kind.itemsize, count)
        return np.ascontiguousarray(planes.T).reshape(-1).view(kind)

    def copies(self, count: int, base: int, made: int, least: int = 1) -> Copies:
        """The next copies: of a base of that many units, to make that many. Raises PatchError.

        Args:
            least: units that a run makes on average, but for one.
        """
        if count > made // least + 1:
            raise self._patch.damaged(f"{count} runs that make {made}")
        numbers = self.values(3 * count, "uint32").reshape(3, count).astype(np.int64)
        copies = Copies.of(*numbers)
        if not copies.fit(base, made):
            raise self._patch.damaged("it copies what is not there")
        return copies

    def end(self) -> None:
        """Raises PatchError where something is left."""
        if self._left:
            raise self._patch.damaged(f"{self._left} bytes belong to nothing")
        more = self._inflate_some(1)
        if more or not self._inflater.eof or self._inflater.unused_data or self._fed < len(self._deflated):
            raise self._patch.damaged("its stream has another length than promised")


class Copies:
    """How something is made of something like it: unit by unit copied from the base, others inserted between.

    Attributes:
        starts: (n,) the first unit of each run that is copied.
        counts: (n,) its units.
        inserted: (n,) units that follow it and are new.
    """

    def __init__(self, starts: NDArray[np.int64], counts: NDArray[np.int64], inserted: NDArray[np.int64]) -> None:
        self.starts, self.counts, self.inserted = starts, counts, inserted

    @classmethod
    def of(cls, skips: NDArray[np.int64], counts: NDArray[np.int64], inserted: NDArray[np.int64]) -> Copies:
        """From what is stored: `skips` are how far a run starts from the end of the one before, 0, -1, 1, -2, 2, ...
        as 0, 1, 2, 3, 4, ..."""
        moved = (skips >> 1) ^ -(skips & 1)
        return cls(np.cumsum(moved) + np.cumsum(counts) - counts, counts, inserted)

    def __len__(self) -> int:
        return len(self.starts)

    def stored(self) -> bytes:
        """As a patch holds them."""
        ends = np.concatenate([[0], self.starts + self.counts])[:-1]
        moved = self.starts - ends
        skips = (moved << 1) ^ (moved >> 63)
        return planes(np.concatenate([skips, self.counts, self.inserted]).astype(np.uint32))

    def fit(self, base: int, made: int) -> bool:
        """Whether they copy from `base` units only, and make `made`."""
        if not len(self):
            return made == 0
        inside = self.starts.min() >= 0 and (self.starts + self.counts).max() <= base
        return bool(inside) and int(self.counts.sum() + self.inserted.sum()) == made

    def sources(self) -> NDArray[np.int64]:
        """(made,) the unit of the base that each is copied from, -1 of what is inserted."""
        lengths = np.stack([self.counts, self.inserted], axis=1).ravel()
        firsts = np.stack([self.starts, np.full(len(self), -1)], axis=1).ravel()
        found = np.repeat(firsts, lengths)
        steps = np.arange(found.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.where(found < 0, -1, found + steps)

    def joined(self, base: memoryview, literals: memoryview) -> bytearray:
        """What they make of bytes."""
        made, at, used = bytearray(int(self.counts.sum() + self.inserted.sum())), 0, 0
        for first in range(0, len(self), _RUNS_AT_ONCE):
            part = slice(first, first + _RUNS_AT_ONCE)
            runs = (numbers[part].tolist() for numbers in (self.starts, self.counts, self.inserted))
            for start, count, new in zip(*runs, strict=True):
                made[at : at + count] = base[start : start + count]
                at += count
                made[at : at + new] = literals[used : used + new]
                at, used = at + new, used + new
        return made


def planes(values: NDArray[Any]) -> bytes:
    """Integers byte by byte, as `Parts.values` reads them: the high bytes of small numbers are all zero, and deflate
    makes nothing of them."""
    kind = values.dtype.newbyteorder("<")
    return np.ascontiguousarray(values.astype(kind).reshape(-1, 1).view(np.uint8).T).tobytes()
