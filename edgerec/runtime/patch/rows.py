"""Sections of a tables file as rows of units, in any layout, which patches copy and change.

A unit is a value, a column, an id or a byte of text, with 2, 4, 8, 16, 32 or 64 bits. The form of a section gives the
places of a row's units:

    blocks     rows of equal width; the units of a row are adjacent or, by column, `rows` apart
    ragged     rows of any length, one after the other; a section of pointers has the lengths
    pointers   n + 1 of them for n rows: the only unit of a row is its length

Two units of 4 bits share a byte as in int4: byte i of a block of m bytes holds unit i, low, and unit m + i, high. Four
of 2 bits share one as in int2, with units i, m + i, 2 m + i and 3 m + i, from the lowest bits on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNITS_AT_ONCE = 1 << 20
"""Units that are copied at a time, which limits memory: a unit needs 8 bytes of index."""


@dataclass(frozen=True)
class Block:
    """Rows of equal width.

    Attributes:
        bits: bits of a unit.
        by_column: the units of a row are `rows` apart.
        zero: the unit of missing values, which fills longer rows and the rest of a block.
    """

    rows: int
    width: int
    bits: int
    by_column: bool
    zero: int

    @property
    def units(self) -> int:
        """Number of units, with those that fill the last byte; by column, each part of a byte has whole columns."""
        shared = self.shared
        return shared * (
            self.rows * -(-self.width // shared) if self.by_column else -(-self.rows * self.width // shared)
        )

    @property
    def shared(self) -> int:
        """Number of units that share a byte."""
        return max(8 // self.bits, 1)


@dataclass(frozen=True)
class Form:
    """The form of a section: `blocks`, ragged rows, or `pointers`.

    Ragged rows have their lengths in the section named `lengths`, and one block whose rows and width are not used.
    Entries after the rows are filled with the zero of the first block.
    """

    blocks: tuple[Block, ...]
    lengths: str | None = None
    pointers: bool = False

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Form:
        """Read a form from a patch's header. Raises ValueError, KeyError or TypeError if it is invalid."""
        if "pointers" in fields:
            if fields["pointers"] != 1:
                raise ValueError(f"pointers of kind {fields['pointers']!r}")
            return cls((), pointers=True)
        if "lengths" in fields:
            block = Block(0, 0, int(fields["bits"]), False, int(fields["zero"]))
            form = cls((block,), lengths=str(fields["lengths"]))
        else:
            sizes = [tuple(map(int, one)) for one in fields["blocks"]]
            form = cls(tuple(Block(rows, width, bits, bool(column), zero) for rows, width, bits, column, zero in sizes))
            if any(block.width < 1 for block in form.blocks):  # the number of empty rows would be unlimited
                raise ValueError("a block without width")
            if any(column not in (0, 1) for _, _, _, column, _ in sizes):
                raise ValueError("a block that lies neither by row nor by column")
        for one in form.blocks:
            if (
                one.bits not in (2, 4, 8, 16, 32, 64)
                or min(one.rows, one.width) < 0
                or not 0 <= one.zero < 1 << one.bits
            ):
                raise ValueError(f"a block {one}")
        return form

    def describe(self) -> dict[str, Any]:
        """Return the entry of a patch's header."""
        if self.pointers:
            return {"pointers": 1}
        if self.lengths is not None:
            return {"lengths": self.lengths, "bits": self.blocks[0].bits, "zero": self.blocks[0].zero}
        return {"blocks": [[b.rows, b.width, b.bits, int(b.by_column), b.zero] for b in self.blocks]}


@dataclass(frozen=True)
class SectionRows:
    """The rows of a section.

    Attributes:
        units: all units of the section, unsigned.
        first: (rows,) place of the first unit of each row.
        step: (rows,) distance between its units.
        width: (rows,) number of its units.
        zero: (rows,) unit of missing values.
    """

    units: NDArray[Any]
    first: NDArray[np.int64]
    step: NDArray[np.int64]
    width: NDArray[np.int64]
    zero: NDArray[Any]

    def __len__(self) -> int:
        return len(self.width)

    def parts(self) -> Iterator[slice]:
        """Yield all rows in parts of about a million units, and at most a million rows."""
        ends = np.cumsum(np.maximum(self.width, 1))
        start = 0
        while start < len(self):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + UNITS_AT_ONCE, side="right")))
            yield slice(start, stop)
            start = stop

    def places(self, part: slice) -> NDArray[np.int64]:
        """Return the (units of these rows,) places, row by row."""
        return _steps(self.first[part], self.step[part], self.width[part])

    def like(self, other: SectionRows, part: slice, sources: NDArray[np.int64]) -> NDArray[Any]:
        """Return units of these rows of `other`, copied from rows of this section, and cut or filled with zeros.

        Args:
            sources: (rows of the part,) row of this section for each row of `other`; -1 for none.
        """
        width = other.width[part]
        there = np.maximum(sources, 0)
        common = np.minimum(np.where(sources < 0, 0, self.width[there] if len(self) else 0), width)
        found = np.repeat(other.zero[part], width)
        if common.any():
            at = _steps(np.zeros(len(width), np.int64), np.ones(len(width), np.int64), width) < np.repeat(common, width)
            found[at] = self.units[_steps(self.first[there], self.step[there], common)].astype(found.dtype)
        return found


def _steps(first: NDArray[np.int64], step: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return first, first + step, ... (count numbers) for each row, one after the other."""
    inside = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(first, count) + inside * np.repeat(step, count)


def unsigned(bits: int) -> np.dtype[Any]:
    """Return the little-endian dtype in which units of these bits are computed."""
    return np.dtype(f"<u{max(bits // 8, 1)}")


def unpacked(section: NDArray[Any], form: Form, lengths: NDArray[np.int64] | None) -> SectionRows:
    """Return the rows of a stored section, a vector.

    Args:
        lengths: lengths of ragged rows; None for other forms.

    Raises ValueError if the section is too short for them.
    """
    if form.pointers:
        kind = unsigned(8 * section.itemsize)
        return _laid_out(np.diff(section).astype(kind), (Block(len(section) - 1, 1, 8 * section.itemsize, False, 0),))
    stored = section.view(unsigned(8 * section.itemsize))
    blocks, at = _sized(form, lengths), 0
    pieces: list[NDArray[Any]] = []
    for block in blocks:
        entries = _entries(block, section.itemsize)
        own = stored[at : at + entries]
        if len(own) != entries:
            raise ValueError(f"a section of {len(section)} entries where its rows take more")
        pieces += [own] if block.shared == 1 else _parted(own, block)
        at += entries
    units = pieces[0] if len(pieces) == 1 else np.concatenate([*pieces, stored[:0]])
    return _laid_out(units, blocks, lengths)


def _parted(own: NDArray[Any], block: Block) -> list[NDArray[Any]]:
    """Return the units of bytes that several share, those of the lowest bits first."""
    return [(own >> block.bits * part) & ((1 << block.bits) - 1) for part in range(block.shared)]


def empty_rows(form: Form, itemsize: int, entries: int, lengths: NDArray[np.int64] | None) -> SectionRows:
    """Return the zero rows of a new section of `entries`. Raises ValueError if they take more entries."""
    if form.pointers:
        rows = max(entries - 1, 0)
        return _laid_out(np.zeros(rows, unsigned(8 * itemsize)), (Block(rows, 1, 8 * itemsize, False, 0),))
    blocks = _sized(form, lengths)
    if not blocks or sum(_entries(block, itemsize) for block in blocks) > entries:
        raise ValueError(f"a section of {entries} entries where its rows take more")
    kind = unsigned(8 * itemsize)
    units = np.concatenate([np.full(block.units, block.zero, kind) for block in blocks])
    return _laid_out(units, blocks, lengths)


def packed(rows: SectionRows, form: Form, dtype: str, entries: int, lengths: NDArray[np.int64] | None) -> NDArray[Any]:
    """Return the (entries,) stored section of rows from `empty_rows`. Raises ValueError for invalid pointers."""
    kind = np.dtype(dtype).newbyteorder("<")
    if form.pointers:
        pointers = np.concatenate([[0], np.cumsum(rows.units.astype(np.int64))])
        if len(pointers) != entries or pointers[-1] > np.iinfo(kind).max or np.diff(pointers).min(initial=0) < 0:
            raise ValueError("pointers that do not ascend, or leave their type")
        return pointers.astype(kind)
    first = form.blocks[0]
    filling = sum(first.zero << first.bits * part for part in range(first.shared))
    section = np.full(entries, filling, unsigned(8 * kind.itemsize))
    at, unit = 0, 0
    for block in _sized(form, lengths):
        own = rows.units[unit : unit + block.units]
        if block.shared > 1:
            own = _joined(own, block)
        section[at : at + len(own)] = own
        at, unit = at + len(own), unit + block.units
    return section.view(kind)


def _joined(units: NDArray[Any], block: Block) -> NDArray[Any]:
    """Return the bytes of units that share them."""
    parts = (units & ((1 << block.bits) - 1)).reshape(block.shared, -1)
    found: NDArray[Any] = parts[0]
    for part in range(1, block.shared):
        found = found | (parts[part] << block.bits * part)
    return found


def _sized(form: Form, lengths: NDArray[np.int64] | None) -> tuple[Block, ...]:
    """Return the blocks of a form; ragged rows as one row with all units."""
    if form.lengths is None:
        return form.blocks
    if lengths is None:
        raise ValueError(f"nothing is known of {form.lengths!r}, which has the lengths of rows")
    return (replace(form.blocks[0], rows=1, width=int(lengths.sum())),)


def _entries(block: Block, itemsize: int) -> int:
    if block.bits != 8 * itemsize and (block.shared == 1 or itemsize != 1):
        raise ValueError(f"units of {block.bits} bits in entries of {itemsize} bytes")
    return block.units // block.shared


def _laid_out(units: NDArray[Any], blocks: tuple[Block, ...], lengths: NDArray[np.int64] | None = None) -> SectionRows:
    """Return the rows of blocks, or ragged rows with their `lengths`."""
    if lengths is not None:
        first, step = np.cumsum(lengths) - lengths, np.ones(len(lengths), np.int64)
        return SectionRows(units, first, step, lengths, np.full(len(lengths), blocks[0].zero, units.dtype))
    rows = [block.rows for block in blocks]
    firsts, at = [np.zeros(0, np.int64)], 0
    for block in blocks:
        firsts.append(at + np.arange(block.rows) * (1 if block.by_column else block.width))
        at += block.units
    step = np.repeat([block.rows if block.by_column else 1 for block in blocks], rows)
    width = np.repeat([block.width for block in blocks], rows)
    zero = np.repeat(np.array([block.zero for block in blocks], units.dtype), rows)
    return SectionRows(units, np.concatenate(firsts), step.astype(np.int64), width.astype(np.int64), zero)
