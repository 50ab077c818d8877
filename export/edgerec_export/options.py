"""How to export."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgerec.errors import UnsupportedError
from edgerec_export.patch import Shipped
from edgerec_export.values import PRECISIONS

SCALES = ("auto", "table", "block", "row")
IDS = ("raw", "none")


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        layout: see `edgerec_export.layouts.LAYOUTS`; 'auto' takes the one that is expected to be fastest, of those
            that fit, or where there is no limit, of those that are about as small as the smallest.
        precision: 'fp32', 'fp16' (stored so, computed with in fp32), 'int8' or 'int4' (codes and scales); 'auto'
            takes what changes scores least within `max_bytes`, of all precisions and sizes of rows.
        scales: of integers: one for the whole 'table' of items, the fastest to score with; one a 'block' of rows; one
            a 'row' (two bytes each); 'auto': 'table' for int8, whose scores differ by a few thousandths, and 'block'
            for int4. Where codes would keep nothing of a row, 'auto' gives each row of that table its own.
        user_scales: of the integers of users, where they have others than `scales` says; as 'auto' chooses it.
        max_bytes: of the whole bundle, every file counted; None for no limit.
        fit: shorten or prune a table that is too large for `max_bytes`, so as to change its scores least.
        max_rss: peak bytes of memory above a bare session, one graph open, as measured in a fresh process.
        calibration: a table of measured costs, of another device than this release's.
        sign: a file with the private key to sign the bundle with, as `edgerec keys new` makes them; needs the extra
            'sign'.
        users: ship the user table where there is one.
        titles: ship item titles where there are some.
        ids: 'raw' ships them; with 'none' the bundle's rows stand for them, in an order that `id_map` and
            `Export.item_ids` tell.
        id_map: a CSV file to write, outside the bundle: side (item or user), row and raw id of every row.
        similar: ship the graph of items like an item, and the two bytes an item that it needs; None: where
            `max_bytes` allows it.
        lookup: ship a second copy of the items for looking rows up, where the layout that scores all cannot.
        rotate: rotate both tables of dense and mixed before integers are rounded; scores are the same, and codes lose
            less of them.
        verify: compare the bundle with numpy in a fresh process.
        shipped: of an older bundle, whose scales and widths are kept; see `like`.
    """

    layout: str = "auto"
    precision: str = "fp32"
    max_bytes: int | None = None
    users: bool = True
    titles: bool = False
    ids: str = "raw"
    id_map: Path | None = None
    verify: bool = True
    scales: str = "auto"
    similar: bool | None = None
    lookup: bool = False
    fit: bool = False
    max_rss: int | None = None
    calibration: Path | None = None
    sign: Path | None = None
    shipped: Shipped | None = None
    user_scales: str | None = None
    rotate: bool = True

    @classmethod
    def like(cls, bundle: str | Path, **changes: Any) -> Options:
        """As an older bundle was exported, with its scales and the widths of its blocks: rows that did not change keep
        their bytes, and a patch between the two stays small. Values that outgrow a scale of before are cut to it.

        Args:
            changes: other options, of which layout, precision, scales and fit cannot change.

        Raises:
            BundleError: no whole bundle.
            UnsupportedError: what cannot change, or a bundle in int4 and int8 by row.
        """
        fixed = sorted({"layout", "precision", "scales", "fit"} & set(changes))
        if fixed:
            raise UnsupportedError(f"{', '.join(fixed)} are those of the bundle to be like; leave them out")
        shipped = Shipped.read(bundle)
        parts = {name: name in shipped.parts for name in ("users", "titles", "similar", "lookup")}
        ids = "raw" if "ids" in shipped.parts else "none"
        return cls(
            shipped.layout,
            shipped.precision,
            scales=shipped.scaled,
            user_scales=shipped.users_scaled,
            shipped=shipped,
            rotate=bool(shipped.rotation),
            **{**parts, "ids": ids, **changes},
        )

    def with_finer_scales(self, side: str | None) -> Options | None:
        """The same with a scale for each row of a side, 'item' or 'user', or None where that was decided otherwise."""
        if side is None or self.scales != "auto" or self.shipped is not None or self.user_scales is not None:
            return None
        if side == "user":
            return replace(self, user_scales="row")
        return None if self.layout == "csc" else replace(self, scales="row")

    def __post_init__(self) -> None:
        """Raises UnsupportedError for an unknown precision, or scales or ids that do not exist."""
        if self.precision not in (*PRECISIONS, "auto"):
            raise UnsupportedError(
                f"there is no precision {self.precision!r}; there are: {', '.join(PRECISIONS)}, auto"
            )
        if self.scales not in SCALES:
            raise UnsupportedError(f"there are no scales a {self.scales!r}; there are: {', '.join(SCALES)}")
        if self.ids not in IDS:
            raise UnsupportedError(f"there are no ids {self.ids!r}; there are: {', '.join(IDS)}")
        if self.scales != "auto" and self.precision in ("fp32", "fp16", "auto"):
            raise UnsupportedError(
                f"scales are of int8 and int4; {self.precision} does not take --scales {self.scales}"
            )
        if self.lookup and self.layout not in ("csc", "auto"):
            raise UnsupportedError(f"{self.layout} looks rows up as it is; --lookup is for the layout csc")
        if self.scales == "row" and self.layout == "csc":
            raise UnsupportedError("csc has no scale a row: a value's row is not at hand where it is decoded")
