"""The tables file of a bundle: the places of its arrays, the texts in it, and the tables as they are packed."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import ExportError
from edgerec.tables.paging import forget_pages
from edgerec.tables.texts import Texts, is_text
from edgerec_export.layouts import Bounds, Plan, Scales
from edgerec_export.magnitudes import check_codes, check_halves, rounded_to_zero
from edgerec_export.reference import Reference
from edgerec_export.values import FARTHEST, ONE, Coder, KeptScales, chunks, gram

if TYPE_CHECKING:
    from edgerec.models.scorer import NeuMFScorer
    from edgerec_export.draft import Draft
    from edgerec_export.onnx import ShippedEncoder
    from edgerec_export.source import Source

ALIGNMENT = 64
"""A cache line, and the widest vector register. Pages would cost up to 4 KiB a section: too much for small bundles."""
ROWS_AT_ONCE = 1 << 16
SQUARES_VANISH = np.float32(1e-15)
"""Of rows shorter than this, the squares of smaller values are 0 or inexact in float32."""
LARGE = 1 << 26
"""Bytes of a table that may come into memory whole."""
RUNS_AT_ONCE = 8
"""Runs of neighbours that are read before their pages are given back: a page brings 600 KiB around it along (Linux
6.18, large folios), and a run of rows that lie by column takes one a dimension."""
VANISHING = np.float32(2.0**-14)
"""Of the longest row: what is shorter counts as zeros, or float16 could not hold the inverse lengths of all others."""
LEAST_INVERSE = np.float32(2.0**-24)
"""Of a row of zeros: the smallest float16, as 0 times the -inf of an item that is left out would be no number."""
DISTORTION_ROWS = 1 << 14


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
        """Of the whole file."""
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


def pack_ids(side: str, ids: NDArray[Any], order: NDArray[np.int64]) -> tuple[str, dict[str, NDArray[Any]]]:
    """Ids in the bundle's row order: whole numbers in the narrowest type, text as a blob and offsets.

    Returns:
        The kind for the manifest, and the arrays by section name.
    """
    if is_text(ids):
        return "str", pack_strings(f"{side}_ids", f"{side}_id_offsets", ids[order])
    low, high = int(ids.min()), int(ids.max())
    for name in ("uint8", "uint16", "uint32", "int64"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return "int", {f"{side}_ids": ids[order].astype(name)}
    raise ExportError(f"{side} ids from {low} to {high} do not fit 64 bits")


def pack_strings(blob: str, offsets: str, texts: Texts) -> dict[str, NDArray[Any]]:
    """n texts as UTF-8, one after the other, and n + 1 offsets into them."""
    encoded = [text.encode() for text in texts.tolist()]
    ends = np.concatenate([[0], np.cumsum([len(piece) for piece in encoded], dtype=np.int64)])
    kind = np.uint32 if ends[-1] < 2**32 else np.int64
    return {blob: np.frombuffer(b"".join(encoded), np.uint8), offsets: ends.astype(kind)}


def id_order(ids: NDArray[Any]) -> NDArray[np.int64]:
    """The rows in ascending order of their ids (text by code point, which is UTF-8's order of bytes too)."""
    return np.argsort(ids, kind="stable")


@dataclass(frozen=True)
class PackedTable:
    """A table as it ships.

    Attributes:
        arrays: of the tables file, by suffix.
    """

    plan: Plan
    arrays: Mapping[str, NDArray[Any]]
    scales: Scales

    def values(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """(..., d) the rows in these places: float32, or int32 codes around 0."""
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
        """(...) float32: what a step of the codes of each row is worth; ones for floats."""
        return self.plan.row_scales(self.arrays, self.scales, places.ravel()).reshape(places.shape)

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(..., d) float32: what the shipped rows mean."""
        return self.values(places).astype(np.float32) * self.row_scales(places)[..., None]

    def bounded(self, lengths: NDArray[np.float32], inverse_norms: NDArray[np.float16] | None) -> PackedTable:
        """The same with the bounds of its blocks, from the (n_rows,) `norms`; `inverse_norms` as they are stored."""
        firsts = [block.first for block in self.plan.blocks]
        if self.plan.has_one_scale and self.scales.blocks is not None:
            lengths = lengths / self.scales.blocks[0]
        products, cosines = np.maximum.reduceat(lengths, firsts), None
        if inverse_norms is not None:
            cosines = np.maximum.reduceat(lengths * inverse_norms.astype(np.float32), firsts)
        return replace(self, scales=replace(self.scales, bounds=Bounds(products, cosines)))

    def norms(self) -> NDArray[np.float32]:
        """(n_rows,) the length of each row."""
        found = np.empty(self.plan.n_rows, np.float32)
        for part in chunks(self.plan.n_rows, ROWS_AT_ONCE):
            found[part] = lengths_of(self.rows(np.arange(part.start, part.stop)))
        return found


def lengths_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) the length of each row (n, d), of those too whose squares are no float32."""
    found: NDArray[np.float32] = np.linalg.norm(rows, axis=1)
    short = np.flatnonzero(found < SQUARES_VANISH)
    found[short] = np.linalg.norm(rows[short].astype(np.float64), axis=1)
    return found


@dataclass(frozen=True)
class Packed:
    """Every table of a bundle as it ships.

    Attributes:
        tables: by the name of their values in the tables file.
        inverse_norms: (n_items,) float32 as shipped; None where they are not.
        top_inverse_norm: what the float16 that ship are multiplied by.
        encoder: of a bundle without users.
        scorer: of rows whose scores are no inner products.
    """

    tables: dict[str, PackedTable]
    inverse_norms: NDArray[np.float32] | None
    top_inverse_norm: np.float32
    encoder: ShippedEncoder | None
    scorer: NeuMFScorer | None = None

    @property
    def lookup(self) -> PackedTable:
        """The item table whose rows are looked up."""
        return self.tables["l" if "l" in self.tables else "i"]

    def reference(self) -> Reference:
        """What the bundle must answer."""
        return Reference(
            self.tables["i"], self.tables.get("u"), self.encoder, self.inverse_norms, self.lookup, self.scorer
        )

    def rounded_to_zero(self, given: Source, draft: Draft) -> dict[str, int]:
        """By side, "item" and "user", the number of rows of which nothing is kept, where there are some.

        Args:
            given: what was exported, before it was moved by a power of two.
            draft: what was packed.
        """
        source = draft.source
        counts = {"item": rounded_to_zero(given.items, draft.rotated(source.items), self.tables["i"])}
        if "u" in self.tables and source.users is not None and given.users is not None:
            counts["user"] = rounded_to_zero(given.users, draft.rotated(source.users), self.tables["u"])
        return {side: count for side, count in counts.items() if count}


def packed_in_memory(draft: Draft) -> Packed:
    """The tables of a draft, without a file."""
    arrays = {name: np.zeros(shape, dtype) for name, (_, dtype, shape) in draft.tables.describe().items()}
    return pack(draft, arrays)


def distortion(draft: Draft, source: Source) -> float:
    """The mean squared difference of a score between the tables of a draft and those of `source`, in the same
    dimensions; of rows evenly spread where there are many, and without the product of both sides' errors."""
    packed, items = packed_in_memory(draft), draft.rotated(source.items)
    users = None if source.users is None else draft.rotated(source.users)
    sides = [("i", items, users), ("u", users, items)]
    total = 0.0
    for name, table, other in sides:
        if name in packed.tables and table is not None:
            shipped = packed.tables[name]
            places = np.arange(0, table.n_rows, -(-table.n_rows // DISTORTION_ROWS))
            kept = shipped.rows(places).astype(np.float64)
            error = table.rows(shipped.plan.order[places]).astype(np.float64)
            error[:, : kept.shape[1]] -= kept
            weight = np.eye(table.d) if other is None else gram(other)
            total += float(np.einsum("nd,de,ne->n", error, weight, error).mean())
    return total


def pack(draft: Draft, arrays: dict[str, NDArray[Any]], *, few: bool = False) -> Packed:
    """Fill the mapped tables file.

    Args:
        few: as `check_codes` has it; for a run whose scales are an older bundle's it holds anyway.

    Raises RangeError where a precision keeps nothing of a row, or cannot hold it.
    """
    source = draft.source
    items, users = draft.rotated(source.items), None if source.users is None else draft.rotated(source.users)
    other = {"i": users, "l": users, "u": items} if source.scorer is None else {}
    grams = {name: None if table is None else gram(table) for name, table in other.items()}  # a scorer's: unknown
    shipped = draft.request.previous
    kept = {} if shipped is None else dict(shipped.scales)
    tables: dict[str, PackedTable] = {}
    for name, plan in draft.plans().items():
        table = users if name == "u" and users is not None else items
        own = {suffix: arrays[name + suffix] for suffix in plan.sections()}
        if name == "l":  # `recommend` reads one copy and `score` the other: equal codes make their scores equal
            kept[name] = KeptScales((), tables["i"].scales.blocks, None)
        side, ids = ("user", source.user_ids) if name == "u" else ("item", source.item_ids)
        ids = np.arange(table.n_rows) if ids is None else ids
        if plan.precision == "fp16":
            check_halves(side, ids, table)
        tables[name] = PackedTable(plan, own, plan.pack(table, own, Coder(grams.get(name), kept.get(name))))
        if plan.is_integer:
            check_codes(side, ids, table, tables[name], few=few or (source.trained and shipped is not None))
    for name, array in draft.fixed.items():
        arrays[name][...] = array
    packed = Packed(tables, None, ONE, draft.encoder, source.scorer)
    if draft.encoder is not None:
        draft.encoder.fill(packed.lookup, arrays)
    norms = packed.lookup.norms() if "n" in arrays or draft.in_runs() else None
    if norms is not None and "n" in arrays:
        inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > VANISHING * norms.max(initial=0))
        top = np.float32(inverse.max(initial=0)) or ONE
        before = None if shipped is None else shipped.top_inverse_norm
        top = top if before is None or top > before * FARTHEST else before
        arrays["n"][...] = np.maximum(inverse / top, LEAST_INVERSE)
        packed = replace(packed, inverse_norms=arrays["n"].astype(np.float32) * top, top_inverse_norm=top)
    if norms is not None and draft.in_runs():  # what is searched in runs is looked up too: they are its norms
        tables["i"] = tables["i"].bounded(norms, arrays.get("n"))
    return packed
