"""Layouts: how a table lies in the tables file. Adding one here is all it takes to be exported and tested."""

from __future__ import annotations

from edgerec.errors import UnsupportedError
from edgerec_export.layouts.base import Plan
from edgerec_export.layouts.choice import Choice, Layout, Wish
from edgerec_export.layouts.kinds import BITMASK, ELL, Csc, Csr, Dense, Mixed

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


__all__ = ["BLOCKED", "LAYOUTS", "Choice", "Layout", "Plan", "Wish", "layout", "lookup_layout"]
