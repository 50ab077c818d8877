"""How to export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgerec.errors import UnsupportedError
from edgerec_export.values import PRECISIONS

SCALES = ("block", "row")


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        layout: see `edgerec_export.layouts.LAYOUTS`; 'auto' takes the one that is expected to be fastest, of those
            that fit, or where there is no limit, of those that are about as small as the smallest.
        precision: 'fp32', 'fp16' (stored so, computed with in fp32), 'int8' or 'int4' (codes and scales); 'auto'
            takes what changes scores least within `max_bytes`, of all precisions and sizes of rows.
        scales: of integers: one a 'block' of rows, or one a 'row' (two bytes each).
        max_bytes: of the whole bundle, every file counted; None for no limit.
        fit: shorten or prune a table that is too large for `max_bytes`, so as to change its scores least.
        max_rss: peak bytes of memory above a bare session, one graph open, as measured in a fresh process.
        calibration: a table of measured costs, of another device than this release's.
        users: ship the user table where there is one.
        titles: ship item titles where there are some.
        similar: ship the graph of items like an item, and the two bytes an item that it needs; None: where
            `max_bytes` allows it.
        lookup: ship a second copy of the items for looking rows up, where the layout that scores all cannot.
        verify: compare the bundle with numpy in a fresh process.
    """

    layout: str = "auto"
    precision: str = "fp32"
    max_bytes: int | None = None
    users: bool = True
    titles: bool = False
    verify: bool = True
    scales: str = "block"
    similar: bool | None = None
    lookup: bool = False
    fit: bool = False
    max_rss: int | None = None
    calibration: Path | None = None

    def __post_init__(self) -> None:
        """Raises UnsupportedError for an unknown precision, or scales that do not exist."""
        if self.precision not in (*PRECISIONS, "auto"):
            raise UnsupportedError(
                f"there is no precision {self.precision!r}; there are: {', '.join(PRECISIONS)}, auto"
            )
        if self.scales not in SCALES:
            raise UnsupportedError(f"there are no scales a {self.scales!r}; there are: {', '.join(SCALES)}")
        if self.scales == "row" and self.layout == "csc":
            raise UnsupportedError("csc has no scale a row: a value's row is not at hand where it is decoded")
