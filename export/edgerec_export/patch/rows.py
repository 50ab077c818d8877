"""Rows of an older bundle: found by raw id, decoded, and stored again in the new bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import RowsEntry
from edgerec.runtime.patch.rows import Block, Form, SectionRows, packed, unpacked
from edgerec.tables.codes import LARGEST
from edgerec_export.values import ONE, ZERO, ZERO4, PreviousScales, read_row_scales, unit_of
from edgerec_export.values import Block as PlannedBlock

Ids = list[Any] | NDArray[Any]


def stored_block(block: PlannedBlock, *, by_column: bool) -> Block:
    """Return the form of a block of integers."""
    bits, zero = unit_of(block.precision)
    return Block(block.rows, block.width, bits, by_column, zero)


def ids_of(bundle: Bundle, side: str, entry: RowsEntry) -> Ids:
    """Return the raw id of each row of a side ('item' or 'user'): text as a list; hashes as 16 hexadecimal digits."""
    ids = bundle.ids(side, entry).raw(np.arange(entry.rows))
    return ids if entry.ids in ("str", "hash64") else np.array(ids, np.int64)


def matched(old: Ids, new: Ids) -> NDArray[np.int64]:
    """Return the (len(new),) place in `old` of each new id; -1 for ids that are not there."""
    if isinstance(old, list) or isinstance(new, list):
        places = {one: row for row, one in enumerate(old)}
        return np.array([places.get(one, -1) for one in new], np.int64)
    if not len(old):
        return np.full(len(new), -1, np.int64)
    order = np.argsort(old)
    at = np.minimum(np.searchsorted(old, new, sorter=order), len(old) - 1)
    found = order[at]
    return np.where(old[found] == new, found, -1).astype(np.int64)


@dataclass(frozen=True)
class PreviousRows:
    """The rows of a dense or mixed table of integers in an older bundle.

    Attributes:
        ids: raw id of each row.
        units: stored codes.
        bits: (n_rows,) bits of a value.
        scales: (n_rows,) scale of each row.
        stored_scales: (n_rows,) scale of each row as it is stored; None without row scales.
        top: the factor of stored row scales.
    """

    ids: Ids
    units: SectionRows
    bits: NDArray[np.int64]
    scales: NDArray[np.float32]
    stored_scales: NDArray[Any] | None
    top: np.float32

    @classmethod
    def read(cls, bundle: Bundle, name: str, ids: Ids, form: Form, scales: PreviousScales) -> PreviousRows:
        """Read the rows of the section `name` and their scales."""
        rows = [block.rows for block in form.blocks]
        stored, top = None, ONE if scales.top is None else scales.top
        if scales.scales is None:
            stored = np.array(bundle.section(name + "s"))
            each = read_row_scales(stored, top)
        else:
            each = np.repeat(np.broadcast_to(scales.scales, len(rows)), rows)
        bits = np.repeat([block.bits for block in form.blocks], rows)
        return cls(ids, unpacked(bundle.section(name).reshape(-1), form, None), bits, each, stored, top)

    @property
    def widths(self) -> NDArray[np.int64]:
        """(n_rows,) stored values of each row."""
        return self.units.width

    def values(self, rows: NDArray[np.int64], d: int) -> NDArray[np.float32]:
        """Return (len(rows), d) decoded rows, with zeros past their widths."""
        some = replace(
            self.units, first=self.units.first[rows], step=self.units.step[rows], width=self.units.width[rows]
        )
        codes = some.units[some.places(slice(None))].astype(np.float32)
        bits = np.repeat(self.bits[rows], some.width)
        codes = np.where(bits == 2, 2 * codes - LARGEST["int2"], codes - np.where(bits == 4, ZERO4, ZERO))
        found = np.zeros((len(rows), max(d, int(some.width.max(initial=0)))), np.float32)
        found[np.arange(found.shape[1]) < some.width[:, None]] = codes
        decoded: NDArray[np.float32] = found[:, :d] * self.scales[rows, None]
        return decoded

    def copy_to(self, out: Mapping[str, NDArray[Any]], blocks: Sequence[Block], sources: NDArray[np.int64]) -> None:
        """Write the stored codes and scales of older rows over those of a packed table.

        Args:
            out: the arrays of the packed table, by suffix.
            blocks: its blocks.
            sources: (n_rows of the packed table,) older row of the same width and precision; -1 to leave a row.
        """
        form = Form(tuple(blocks))
        rows = unpacked(out[""], form, None)
        for part in rows.parts():
            copied = np.repeat(sources[part] >= 0, rows.width[part])
            rows.units[rows.places(part)[copied]] = self.units.like(rows, part, sources[part])[copied]
        out[""][...] = packed(rows, form, out[""].dtype.name, len(out[""]), None)
        if self.stored_scales is not None:
            copied = sources >= 0
            out["s"][copied] = self.stored_scales[sources[copied]]
