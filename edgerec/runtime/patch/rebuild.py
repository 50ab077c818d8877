"""A tables file made of another one and a patch: rows copied by where they were, changed ones by differences."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.runtime.manifest import LIMITS, Manifest, Section
from edgerec.runtime.patch.patchfile import BYTES_A_RUN, Parts
from edgerec.runtime.patch.rows import Form, Rows, packed, room_for, unpacked

ReadSection = Callable[[str], NDArray[Any]]
"""The array of a section of the base, by its name."""


@dataclass(frozen=True)
class Side:
    """How the rows of one side, items or users, come from those of the base.

    Attributes:
        sources: (rows,) the base's row of each, -1 of a new one.
        touched: (rows,) bool: new, or in some section not what it was.
    """

    sources: NDArray[np.int64]
    touched: NDArray[np.bool_]

    @classmethod
    def read(cls, fields: Mapping[str, Any], parts: Parts, base_rows: int, rows: int, most: int) -> Side:
        """The next of a patch's parts. Raises PatchError, or ValueError for what cannot be, more than `most` rows among
        it."""
        if rows > most:
            raise ValueError(f"{rows} rows in tables that have no room for them")
        copies = parts.copies(int(fields["copies"]), base_rows, rows)
        if int(copies.inserted.sum()) > max(parts.left, base_rows) + LIMITS["new_rows_room"]:
            raise ValueError("more new rows than it can tell of")
        sources = copies.sources()
        kept = sources[sources >= 0]
        if np.unique(kept).size != kept.size:
            raise ValueError("a row is copied twice")
        changed = np.cumsum(parts.values(int(fields["changed"]), "uint32"), dtype=np.int64)
        if changed.size and changed[-1] >= rows:
            raise ValueError("a row is changed that is not there")
        touched = sources < 0
        touched[changed] = True
        return cls(sources, touched)


class Rebuilding:
    """The sections of a new tables file, made one after the other as a patch lists them."""

    def __init__(self, read: ReadSection, base: Manifest, result: Manifest, sides: Mapping[str, Side]) -> None:
        self._read, self._base, self._result, self._sides = read, base, result, sides
        self._lengths: tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]] = ({}, {})

    def made(self, fields: Mapping[str, Any], parts: Parts) -> NDArray[Any]:
        """The section that an entry of the header describes.

        Raises PatchError, or ValueError or KeyError for what cannot be.
        """
        section = self._result.sections[fields["name"]]
        source = fields["from"]
        if "side" not in fields:
            return self._copied(section, source, int(fields["copies"]), parts)
        side, old, new = self._sides[fields["side"]], Form.parse(fields["old"]), Form.parse(fields["new"])
        lengths = None if new.lengths is None else self._lengths[1][new.lengths]
        before = unpacked(self._flat(source), old, None if old.lengths is None else self._lengths[0][old.lengths])
        dtype, entries = np.dtype(section.dtype), section.nbytes // np.dtype(section.dtype).itemsize
        after = room_for(new, dtype.itemsize, entries, lengths)
        if len(after) != len(side.sources) or (len(before) <= side.sources.max(initial=-1)):
            raise ValueError(f"section {fields['name']!r} has other rows than its side")
        fill(after, before, side, parts)
        found = packed(after, new, section.dtype, entries, lengths)
        if new.pointers:
            self._lengths[0][fields["name"]] = np.diff(self._flat(source)).astype(np.int64)
            self._lengths[1][fields["name"]] = np.diff(found).astype(np.int64)
        return found

    def _flat(self, name: str) -> NDArray[Any]:
        return self._read(name).reshape(-1)

    def _copied(self, section: Section, source: str | None, count: int, parts: Parts) -> NDArray[Any]:
        """A section without rows, of its bytes."""
        base = memoryview(b"") if source is None else self._flat(source).view(np.uint8).data
        copies = parts.copies(count, len(base), section.nbytes, BYTES_A_RUN)
        content = copies.joined(base, parts.take(int(copies.inserted.sum())))
        return np.frombuffer(content, np.uint8)


def fill(after: Rows, before: Rows, side: Side, parts: Parts) -> None:
    """Copy the rows of a section, and add what those that are touched differ by, modulo the units' bits."""
    total = int(after.width[side.touched].sum())
    differences, at = parts.values(total, after.units.dtype.name), 0
    for part in after.parts():
        units = before.like(after, part, side.sources[part])
        touched = np.repeat(side.touched[part], after.width[part])
        count = int(np.count_nonzero(touched))
        units[touched] += differences[at : at + count]
        at += count
        after.units[after.places(part)] = units


def write_tables(
    stream: IO[bytes], header: Mapping[str, Any], parts: Parts, rebuilding: Rebuilding, result: Manifest
) -> str:
    """Write the whole tables file, and return its hexadecimal sha256.

    Raises PatchError, or ValueError or KeyError for what cannot be.
    """
    digest, at = hashlib.sha256(), 0
    waiting = dict(sorted(result.sections.items(), key=lambda one: one[1].offset))
    if sorted(fields["name"] for fields in header["sections"]) != sorted(waiting):
        raise ValueError("other sections than the manifest's")

    def write(content: Any) -> None:
        stream.write(content)
        digest.update(content)

    made: dict[str, NDArray[Any]] = {}
    for fields in header["sections"]:
        made[fields["name"]] = rebuilding.made(fields, parts)
        while waiting and next(iter(waiting)) in made:  # pointers come before what they point into
            name = next(iter(waiting))
            gap, content = waiting.pop(name).offset - at, made.pop(name).view(np.uint8)
            if gap < 0 or at + gap + len(content) > result.tables.bytes:
                raise ValueError(f"section {name!r} overlaps another")
            write(bytes(gap))
            write(content)
            at += gap + len(content)
    write(bytes(result.tables.bytes - at))
    return digest.hexdigest()
