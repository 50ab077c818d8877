"""Layouts: how a table lies in the tables file. Adding one here is all it takes to be exported and tested."""

from __future__ import annotations

from edgerec.errors import UnsupportedError
from edgerec_export.layouts.base import Bounds, Placed, Plan, Run, Scales, Sections
from edgerec_export.layouts.bitmask import BITMASK
from edgerec_export.layouts.choice import Choice, Layout, Share, Wish
from edgerec_export.layouts.csc import Csc
from edgerec_export.layouts.csr import Csr
from edgerec_export.layouts.ell import ELL, VALUES_AT_ONCE
from edgerec_export.layouts.mixed import Dense, Mixed

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (Dense(), Mixed(), Csr(), ELL, Csc(), BITMASK)}


BLOCKED = ("dense", "mixed")
"""Layouts that keep the leading values of rows, in blocks."""


def layout(name: str) -> Layout:
    """Raises UnsupportedError where there is no such layout."""
    if name not in LAYOUTS:
        raise UnsupportedError(f"there is no layout {name!r}; there are: {', '.join(['auto', *sorted(LAYOUTS)])}")
    return LAYOUTS[name]


def lookup_layout(name: str, kind: str) -> Layout:
    """In what a table of some kind is stored that is only looked up, beside items in layout `name`: in the same; not
    by column, and rows that are prefixes without columns of their values."""
    if name in BLOCKED:
        return LAYOUTS[name]
    if kind != "sparse":
        return LAYOUTS["mixed"]
    return LAYOUTS["ell" if name == "csc" else name]


__all__ = [
    "BLOCKED",
    "LAYOUTS",
    "VALUES_AT_ONCE",
    "Bounds",
    "Choice",
    "Layout",
    "Placed",
    "Plan",
    "Run",
    "Scales",
    "Sections",
    "Share",
    "Wish",
    "layout",
    "lookup_layout",
]
