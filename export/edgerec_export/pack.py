"""The tables file of a bundle: places of arrays, packed texts, and packed tables."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec.tables.paging import forget_pages
from edgerec_export.allocate import Importance, item_importance
from edgerec_export.follow import ids_by_section, keep_rows
from edgerec_export.layouts import Bounds, Scales, TablePlan
from edgerec_export.magnitudes import check_codes, check_halves, rounded_to_zero
from edgerec_export.reference import Reference
from edgerec_export.thin import is_thin
from edgerec_export.values import FARTHEST, ONE, Coder, PreviousScales, chunks, gram, rows_at_once

if TYPE_CHECKING:
    from edgerec.models.scorer import NeuMFScorer
    from edgerec_export.draft import Draft
    from edgerec_export.onnx import StoredEncoder
    from edgerec_export.source import Source

ALIGNMENT = 64
"""Bytes of a cache line and of the widest vector register; alignment to pages would add up to 4 KiB a section."""
ROWS_AT_ONCE = 1 << 16
SQUARES_VANISH = np.float32(1e-15)
"""Norm below which squares of values are 0 or inexact in float32."""
LARGE = 1 << 26
"""Largest table in bytes that is read into memory as a whole."""
THIN_ROWS_AT_ONCE = 1 << 9
"""Rows of thousands of columns whose errors are computed at a time, which limits memory."""
RUNS_AT_ONCE = 8
"""Ranges of rows that are read before their pages are released: reading a page maps 600 KiB around it (Linux 6.18,
large folios), and rows stored by column need one page a dimension."""
VANISHING = np.float32(2.0**-14)
"""Share of the longest norm below which a row counts as zeros, so that float16 holds all inverse norms."""
LEAST_INVERSE = np.float32(2.0**-24)
"""Inverse norm of a row of zeros: the smallest float16, since 0 times the -inf of an excluded item is nan."""
DISTORTION_ROWS = 1 << 14
"""Approximate number of rows of a large table on which its distortion is measured."""


class TablesFile:
    """The layout of a tables file, to which arrays are added one after the other."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}
        self._end = 0

    def add(self, name: str, dtype: Any, shape: tuple[int, ...]) -> int:
        """Reserve space for an array, and return its offset in bytes."""
        offset = -(-self._end // ALIGNMENT) * ALIGNMENT
        kind = np.dtype(dtype).newbyteorder("<")
        self._places[name] = (offset, kind, shape)
        self._end = offset + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        return offset

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return max(self._end, 1)  # an empty file cannot be mapped

    def describe(self) -> dict[str, list[Any]]:
        """Return [offset, dtype, shape] of each array by name, for the manifest."""
        return {name: [offset, kind.name, list(shape)] for name, (offset, kind, shape) in self._places.items()}

    def parts(self) -> dict[str, int]:
        """Return the bytes of each array by name, without alignment."""
        return {
            name: int(np.prod(shape, dtype=np.int64)) * kind.itemsize for name, (_, kind, shape) in self._places.items()
        }

    def create(self, path: Path) -> dict[str, NDArray[Any]]:
        """Create the file with zeros, and map its arrays for writing.

        All its space is allocated first, since writing to a mapped file on a full disk kills the process.

        Raises OSError if the disk is full or cannot be written to.
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


@dataclass(frozen=True)
class PackedTable:
    """A packed table.

    Attributes:
        plan: the places of its values.
        arrays: its arrays in the tables file, by suffix.
        scales: its scales and score bounds.
    """

    plan: TablePlan
    arrays: Mapping[str, NDArray[Any]]
    scales: Scales

    def values(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Return the (..., d) rows in these places: float32, or signed int32 codes."""
        flat = places.ravel()
        if sum(array.nbytes for array in self.arrays.values()) <= LARGE:
            found = self.plan.unpack(self.arrays, flat)
        else:
            runs = np.cumsum(np.diff(flat, prepend=flat[:1]) != 1)
            some = np.split(flat, np.flatnonzero(np.diff(runs // RUNS_AT_ONCE)) + 1)
            found = np.concatenate([self._unpacked(part) for part in some])
        return found.reshape(*places.shape, self.plan.d)

    def _unpacked(self, places: NDArray[np.int64]) -> NDArray[Any]:
        found = self.plan.unpack(self.arrays, places)
        for array in self.arrays.values():
            forget_pages(array)
        return found

    def row_scales(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (...) float32 scale of each row; ones for floats."""
        return self.plan.row_scales(self.arrays, self.scales, places.ravel()).reshape(places.shape)

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (..., d) float32 values of stored rows."""
        return self.values(places).astype(np.float32) * self.row_scales(places)[..., None]

    def bounded(self, lengths: NDArray[np.float32], inverse_norms: NDArray[np.float16] | None) -> PackedTable:
        """Return the table with score bounds of its blocks, from (n_rows,) norms and the stored inverse norms."""
        firsts = [block.first for block in self.plan.blocks]
        if self.plan.has_one_scale and self.scales.blocks is not None:
            lengths = lengths / self.scales.blocks[0]
        products, cosines = np.maximum.reduceat(lengths, firsts), None
        if inverse_norms is not None:
            cosines = np.maximum.reduceat(lengths * inverse_norms.astype(np.float32), firsts)
        return replace(self, scales=replace(self.scales, bounds=Bounds(products, cosines)))

    def norms(self) -> NDArray[np.float32]:
        """Return the (n_rows,) norm of each row."""
        found = np.empty(self.plan.n_rows, np.float32)
        for part in chunks(self.plan.n_rows, rows_at_once(self.plan.d, ROWS_AT_ONCE)):
            found[part] = lengths_of(self.rows(np.arange(part.start, part.stop)))
        return found


def lengths_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (n,) norm of each row (n, d), also if squares leave the range of float32."""
    found: NDArray[np.float32] = np.linalg.norm(rows, axis=1)
    short = np.flatnonzero(found < SQUARES_VANISH)
    found[short] = np.linalg.norm(rows[short].astype(np.float64), axis=1)
    return found


@dataclass(frozen=True)
class Packed:
    """The packed tables of a bundle.

    Attributes:
        tables: packed tables, by the name of their values in the tables file.
        inverse_norms: (n_items,) float32 values of the stored inverse norms; None without them.
        top_inverse_norm: the factor of the stored float16 inverse norms.
        encoder: encoder of a bundle without users.
        scorer: scorer of rows whose scores are not inner products.
    """

    tables: dict[str, PackedTable]
    inverse_norms: NDArray[np.float32] | None
    top_inverse_norm: np.float32
    encoder: StoredEncoder | None
    scorer: NeuMFScorer | None = None

    @property
    def lookup(self) -> PackedTable:
        """Item table whose rows are looked up."""
        return self.tables["l" if "l" in self.tables else "i"]

    def reference(self) -> Reference:
        """Return the numpy reference of the bundle's answers."""
        return Reference(
            self.tables["i"], self.tables.get("u"), self.encoder, self.inverse_norms, self.lookup, self.scorer
        )

    def rounded_to_zero(self, given: Source, draft: Draft) -> dict[str, int]:
        """Return the number of rows that are rounded to zero, by side ("item" and "user"), without sides of none.

        Args:
            given: the source before it was scaled by powers of two.
            draft: the draft that was packed.
        """

        def count(before: Table, scaled: Table, name: str) -> int:
            table = draft.rotated(scaled)
            return rounded_to_zero(table if before is scaled else before, table, self.tables[name])

        source = draft.source
        counts = {"item": count(given.items, source.items, "i")}
        if "u" in self.tables and source.users is not None and given.users is not None:
            counts["user"] = count(given.users, source.users, "u")
        return {side: number for side, number in counts.items() if number}


def _pack_tables(
    draft: Draft, plans: Mapping[str, TablePlan], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, PackedTable]:
    """Pack the tables of a draft, or some of their rows, by these plans.

    Raises RangeError if a precision rounds a row to zero, or cannot represent it.
    """
    source = draft.source
    items, users = draft.rotated(source.items), None if source.users is None else draft.rotated(source.users)
    # The scores of a scorer are not inner products, so that no Gram matrix applies.
    other = {"i": users, "l": users, "u": items} if source.scorer is None else {}
    grams = {name: None if table is None else gram(table) for name, table in other.items() if name in plans}
    previous = draft.request.previous
    previous_scales = {} if previous is None else dict(previous.scales)
    tables: dict[str, PackedTable] = {}
    for name, plan in plans.items():
        table = users if name == "u" and users is not None else items
        own = {suffix: arrays[name + suffix] for suffix in plan.sections()}
        if name == "l":  # `recommend` and `score` read different copies; equal codes give equal scores
            previous_scales[name] = PreviousScales((), tables["i"].scales.blocks, None)
        side, ids = ("user", source.user_ids) if name == "u" else ("item", source.item_ids)
        ids = np.arange(table.n_rows) if ids is None else ids
        if plan.precision == "fp16":
            check_halves(side, ids, table)
        coder = Coder(grams.get(name), previous_scales.get(name), draft.trained_codes if name == "i" else None)
        tables[name] = PackedTable(plan, own, plan.pack(table, own, coder))
        if previous is not None and name in previous.rows:
            older, own_ids = previous.rows[name], ids_by_section(source, draft.request)[name]
            keep_rows(tables[name], older, table, own_ids, grams.get(name), by_column=name == "i")
        if plan.is_integer:
            finest = previous is not None or plan.scaled == "row"  # no scale that would lose less can be chosen
            check_codes(side, ids, table, tables[name], few=source.trained and finest)
    return tables


def packed_in_memory(draft: Draft) -> Packed:
    """Pack the tables of a draft in memory."""
    arrays = {name: np.zeros(shape, dtype) for name, (_, dtype, shape) in draft.tables.describe().items()}
    return pack(draft, arrays)


def distortion(draft: Draft, source: Source) -> float:
    """Return the mean squared error of the scores of a draft against `source`, which has the same dimensions.

    It is that of pairs of users and items: a dimension that both rows of a pair lack counts once. Without users, those
    that histories give are taken as exact. Of large tables an even sample of the rows is compared.

    Raises RangeError if a precision rounds a row to zero, or cannot represent it.
    """
    plans = {name: plan.sampled(DISTORTION_ROWS) for name, plan in draft.plans().items()}
    arrays = {
        name + suffix: np.zeros(shape, dtype)
        for name, plan in plans.items()
        for suffix, (dtype, shape) in plan.sections().items()
    }
    packed = _pack_tables(draft, plans, arrays)
    importance = item_importance(source)
    if is_thin(source.items):
        return _distortion_in_parts(source.items, packed["i"], importance)
    items, of_items = _with_errors(draft, source.items, packed["i"])
    d, times = source.items.d, source.items.n_rows / len(of_items)
    if "u" not in packed or source.users is None:
        if draft.rotation is not None:
            importance = importance.turned(draft.rotation.matrix)
        return importance.score_error(of_items, items[:, d:]) * times
    # With u = u' + e and v = v' + f, where u' and v' are stored, u v - u' v' = e v + u' f.
    users, of_users = _with_errors(draft, source.users, packed["u"])
    of_pairs = np.hstack([users[:, d:], users[:, :d] - users[:, d:]])
    weighted = items * (importance.shares[of_items] * times)[:, None]
    return float(((of_pairs.T @ of_pairs) * (weighted.T @ items)).sum()) / len(of_users)


def _distortion_in_parts(table: Table, packed: PackedTable, importance: Importance) -> float:
    """Return the distortion of a thin table, of which few rows are dense at once."""
    order = packed.plan.order
    places = np.arange(0, order.size, -(-order.size // DISTORTION_ROWS))
    total = 0.0
    for part in chunks(places.size, rows_at_once(table.d, THIN_ROWS_AT_ONCE)):
        rows = order[places[part]]
        total += importance.score_error(rows, table.rows(rows).astype(np.float64) - packed.rows(places[part]))
    return total * table.n_rows / places.size


def _with_errors(draft: Draft, table: Table, packed: PackedTable) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (n, 2 d) rows of a table in the basis of a draft, each followed by its error, and (n,) their numbers."""
    order = packed.plan.order
    places = np.arange(0, order.size, -(-order.size // DISTORTION_ROWS))
    values = draft.rotated(table).rows(order[places]).astype(np.float64)
    decoded = packed.rows(places).astype(np.float64)
    error = values.copy()
    error[:, : decoded.shape[1]] -= decoded
    return np.hstack([values, error]), order[places]


def pack(draft: Draft, arrays: dict[str, NDArray[Any]]) -> Packed:
    """Pack all tables of a draft into the arrays of its tables file.

    Raises RangeError if a precision rounds a row to zero, or cannot represent it.
    """
    source, previous = draft.source, draft.request.previous
    tables = _pack_tables(draft, draft.plans(), arrays)
    for name, array in draft.fixed.items():
        arrays[name][...] = array
    packed = Packed(tables, None, ONE, draft.encoder, source.scorer)
    if draft.encoder is not None:
        draft.encoder.fill(packed.lookup, arrays)
    norms = packed.lookup.norms() if "n" in arrays or draft.skips_blocks() else None
    if norms is not None and "n" in arrays:
        inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > VANISHING * norms.max(initial=0))
        top = np.float32(inverse.max(initial=0)) or ONE
        previous_top = None if previous is None else previous.top_inverse_norm
        top = top if previous_top is None or top > previous_top * FARTHEST else previous_top
        arrays["n"][...] = np.maximum(inverse / top, LEAST_INVERSE)
        packed = replace(packed, inverse_norms=arrays["n"].astype(np.float32) * top, top_inverse_norm=top)
    if norms is not None and draft.skips_blocks():  # a table with block groups is also the one that is looked up
        tables["i"] = tables["i"].bounded(norms, arrays.get("n"))
    if "nf" in arrays:
        arrays["nf"][...] = packed.top_inverse_norm
    for name, one in tables.items():
        if name + "f" in arrays:
            arrays[name + "f"][...] = one.scales.top if one.scales.blocks is None else one.scales.blocks
    return packed
