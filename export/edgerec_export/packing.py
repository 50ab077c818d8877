"""Filling the tables file of a drafted bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.models.scorer import NeuMFScorer
from edgerec_export.draft import Draft
from edgerec_export.encoders import ShippedEncoder
from edgerec_export.kept import FARTHEST, KeptScales
from edgerec_export.magnitudes import check_codes, check_halves, rounded_to_zero
from edgerec_export.packed import PackedTable
from edgerec_export.reference import Reference
from edgerec_export.scales import Coder, gram
from edgerec_export.source import Source
from edgerec_export.values import ONE

VANISHING = np.float32(2.0**-14)
"""Of the longest row: what is shorter counts as zeros, or float16 could not hold the inverse lengths of all others."""
LEAST_INVERSE = np.float32(2.0**-24)
"""Of a row of zeros: the smallest float16, as 0 times the -inf of an item that is left out would be no number."""
DISTORTION_ROWS = 1 << 14


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

    def rounded_to_zero(self, source: Source) -> dict[str, int]:
        """By side, "item" and "user", the number of rows of which codes keep nothing, where there are some."""
        counts = {"item": rounded_to_zero(source.items, self.tables["i"])}
        if "u" in self.tables and source.users is not None:
            counts["user"] = rounded_to_zero(source.users, self.tables["u"])
        return {side: count for side, count in counts.items() if count}


def packed_in_memory(draft: Draft) -> Packed:
    """The tables of a draft, without a file."""
    arrays = {name: np.zeros(shape, dtype) for name, (_, dtype, shape) in draft.tables.describe().items()}
    return pack(draft, arrays)


def distortion(packed: Packed, source: Source) -> float:
    """The mean squared difference of a score between shipped tables and those of `source`, in the same dimensions; of
    rows evenly spread where there are many, and without the product of both sides' errors."""
    sides = [("i", source.items, source.users), ("u", source.users, source.items)]
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


def pack(draft: Draft, arrays: dict[str, NDArray[Any]]) -> Packed:
    """Fill the mapped tables file.

    Raises RangeError where a precision keeps nothing of a row, or cannot hold it.
    """
    source = draft.source
    other = {"i": source.users, "l": source.users, "u": source.items} if source.scorer is None else {}
    grams = {name: None if table is None else gram(table) for name, table in other.items()}  # a scorer's: unknown
    shipped = draft.options.shipped
    kept = {} if shipped is None else dict(shipped.scales)
    tables: dict[str, PackedTable] = {}
    for name, plan in draft.plans().items():
        table = source.users if name == "u" and source.users is not None else source.items
        own = {suffix: arrays[name + suffix] for suffix in plan.sections()}
        if name == "l":  # `recommend` reads one copy and `score` the other: equal codes make their scores equal
            kept[name] = KeptScales((), tables["i"].scales.blocks, None)
        side, ids = ("user", source.user_ids) if name == "u" else ("item", source.item_ids)
        ids = np.arange(table.n_rows) if ids is None else ids
        if plan.precision == "fp16":
            check_halves(side, ids, table)
        tables[name] = PackedTable(plan, own, plan.pack(table, own, Coder(grams.get(name), kept.get(name))))
        if plan.is_integer:
            check_codes(side, ids, table, tables[name])
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
