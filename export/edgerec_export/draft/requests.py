"""Requests for the tables of a bundle: layout, precision, scales and dimensions of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.allocate import Allocation
from edgerec_export.layouts import (
    BLOCKED,
    Layout,
    LayoutVariant,
    TableAllocation,
    TableRequest,
    id_order,
    layout,
    lookup_layout,
)
from edgerec_export.request import ExportRequest
from edgerec_export.source import Source
from edgerec_export.values import PER_BYTE


@dataclass(frozen=True)
class BundleRequest:
    """The requests for all tables of a bundle.

    Attributes:
        items: request for the item table.
        items_layout: layout of the item table.
        lookup: request for a second copy of the items, whose rows are looked up; None to look up in the first copy.
        users: request for the user table; None for a bundle without users.
        users_layout: layout of the user table.
    """

    items: TableRequest
    items_layout: Layout
    lookup: TableRequest | None
    users: TableRequest | None
    users_layout: Layout

    @classmethod
    def of(cls, source: Source, request: ExportRequest, allocation: Allocation | None = None) -> BundleRequest:
        """Return the table requests of an export request, or of an allocation if there is one.

        Raises UnsupportedError for an unknown layout.
        """
        items_layout = layout(request.layout)
        users = source.users if request.users else None

        widths = {} if request.previous is None else request.previous.widths

        def table_request(
            name: str, table: Table, ids: NDArray[Any], scored: bool, share: TableAllocation | None
        ) -> TableRequest:
            scales = request.user_scales or request.scales if name == "u" else request.scales
            if scales == "auto" and request.is_version_2 and request.precision in PER_BYTE:
                # NDCG@20 of dense int4 on ML-1M: iALS with users .3826 with one scale a block, .4045 with one a row,
                # without users .3911 and .4045, for a byte a row.
                scales = "row"
            if scales == "auto":
                # NDCG@20 on ML-1M at 10 %: int8 .3014 with one scale, .3018 with one a block. Users are not scored, so
                # one scale would save no time.
                scales = "table" if scored and request.precision == "int8" else "block"
            return TableRequest(
                table,
                request.precision,
                id_order(ids),
                scales,
                scored,
                share=share,
                widths=widths.get(name, ()),
                scale_type="uint8" if request.is_version_2 else "float16",
            )

        scored = source.scorer is None  # a scorer looks rows up
        shares = (None, None) if allocation is None else (allocation.items, allocation.users)
        item_ids, user_ids = stored_ids(source, request)
        items = table_request("i", source.items, item_ids, scored, shares[0])
        of_users = None
        if users is not None and user_ids is not None:
            of_users = table_request("u", users, user_ids, False, shares[1])
        # Dimensions past the widest row of one table meet only zeros there, so they are cut from the other. Cosines of
        # items need all dimensions of items; sparse layouts store column numbers, so that nothing is gained.
        d = source.items.d
        if request.layout in BLOCKED and source.scorer is None:
            d = int(items.sizes.max())
            if of_users is not None and (not request.similar or allocation is not None):
                d = min(d, int(of_users.sizes.max()))
        if of_users is None and source.takes_vectors:
            d = source.items.d
        items = replace(items, d=d)
        lookup = None
        if not items_layout.scores_rows and request.lookup:
            # `recommend` and `score` read different copies, so both have the one scale of the items: see `pack`.
            lookup = replace(items, scored=False, scales="table", widths=widths.get("l", ()))
        kind = "dense" if users is None else users.kind
        of_users = None if of_users is None else replace(of_users, d=d)
        return cls(items, items_layout, lookup, of_users, lookup_layout(request.layout, kind))

    def user_variants(self) -> list[LayoutVariant | None]:
        """Return the variants of the user table, the likely smallest first; [None] without users."""
        return [None] if self.users is None else list(self.users_layout.variants(self.users))


def stored_ids(source: Source, request: ExportRequest) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the ids of items and users by which rows are ordered and found."""
    if request.ids == "hash64":
        return source.item_hashes, source.user_hashes if request.users else None
    return source.item_ids, source.user_ids
