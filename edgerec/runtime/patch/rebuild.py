"""The new tables file of a patch: rows are copied from the old file, and differences added to changed rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.runtime.manifest import LIMITS, Manifest, Section
from edgerec.runtime.patch.patchfile import BYTES_A_RUN, PatchStream
from edgerec.runtime.patch.rows import Form, SectionRows, empty_rows, packed, unpacked

ReadSection = Callable[[str], NDArray[Any]]
"""A function from the name of a section to its array in the base."""


@dataclass(frozen=True)
class RowSources:
    """The sources of the rows of one side (items or users) in the base.

    Attributes:
        sources: (rows,) row of the base; -1 for a new row.
        touched: (rows,) True for rows that are new, or differ in some section.
    """

    sources: NDArray[np.int64]
    touched: NDArray[np.bool_]

    @classmethod
    def read(cls, fields: Mapping[str, Any], parts: PatchStream, base_rows: int, rows: int, most: int) -> RowSources:
        """Read the next part of a patch. Raises PatchError, or ValueError if it is invalid or too long."""
        if rows > most:
            raise ValueError(f"{rows} rows in tables that have no room for them")
        copies = parts.copies(int(fields["copies"]), base_rows, rows)
        if int(copies.inserted.sum()) > max(parts.left, base_rows) + LIMITS["new_rows_room"]:
            raise ValueError("more new rows than it can tell of")
        sources = copies.sources()
        copied = sources[sources >= 0]
        if np.unique(copied).size != copied.size:
            raise ValueError("a row is copied twice")
        changed = np.cumsum(parts.values(int(fields["changed"]), "uint32"), dtype=np.int64)
        if changed.size and changed[-1] >= rows:
            raise ValueError("a row is changed that is not there")
        touched = sources < 0
        touched[changed] = True
        return cls(sources, touched)


class TablesBuilder:
    """The builder of the sections of a new tables file, in the order of the patch."""

    def __init__(self, read: ReadSection, base: Manifest, result: Manifest, sides: Mapping[str, RowSources]) -> None:
        self._read, self._base, self._result, self._sides = read, base, result, sides
        self._lengths: tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]] = ({}, {})

    def section(self, fields: Mapping[str, Any], parts: PatchStream) -> NDArray[Any]:
        """Return the section of an entry of the header. Raises PatchError; ValueError, KeyError for invalid entries."""
        section = self._result.sections[fields["name"]]
        source = fields["from"]
        if "side" not in fields:
            return self._copied(section, source, int(fields["copies"]), parts)
        side, old, new = self._sides[fields["side"]], Form.parse(fields["old"]), Form.parse(fields["new"])
        lengths = None if new.lengths is None else self._lengths[1][new.lengths]
        before = unpacked(self._flat(source), old, None if old.lengths is None else self._lengths[0][old.lengths])
        dtype, entries = np.dtype(section.dtype), section.nbytes // np.dtype(section.dtype).itemsize
        after = empty_rows(new, dtype.itemsize, entries, lengths)
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

    def _copied(self, section: Section, source: str | None, count: int, parts: PatchStream) -> NDArray[Any]:
        """Return a section without rows, from copies of bytes."""
        base = memoryview(b"") if source is None else self._flat(source).view(np.uint8).data
        copies = parts.copies(count, len(base), section.nbytes, BYTES_A_RUN)
        content = copies.joined(base, parts.take(int(copies.inserted.sum())))
        return np.frombuffer(content, np.uint8)


def fill(after: SectionRows, before: SectionRows, side: RowSources, parts: PatchStream) -> None:
    """Copy the rows of a section, and add the differences of touched rows, modulo the bits of a unit."""
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
    stream: IO[bytes], header: Mapping[str, Any], parts: PatchStream, builder: TablesBuilder, result: Manifest
) -> str:
    """Write the whole tables file, and return its hexadecimal sha256.

    Raises PatchError, or ValueError or KeyError if the patch is invalid.
    """
    digest, at = hashlib.sha256(), 0
    waiting = dict(sorted(result.sections.items(), key=lambda one: one[1].offset))
    if sorted(fields["name"] for fields in header["sections"]) != sorted(waiting):
        raise ValueError("other sections than the manifest's")

    def write(content: Any) -> None:
        stream.write(content)
        digest.update(content)

    built: dict[str, NDArray[Any]] = {}
    for fields in header["sections"]:
        built[fields["name"]] = builder.section(fields, parts)
        while waiting and next(iter(waiting)) in built:  # pointers come before the sections that need them
            name = next(iter(waiting))
            gap, content = waiting.pop(name).offset - at, built.pop(name).view(np.uint8)
            if gap < 0 or at + gap + len(content) > result.tables.bytes:
                raise ValueError(f"section {name!r} overlaps another")
            write(bytes(gap))
            write(content)
            at += gap + len(content)
    write(bytes(result.tables.bytes - at))
    return digest.hexdigest()
