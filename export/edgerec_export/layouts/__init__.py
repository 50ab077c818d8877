"""Layouts: formats in which tables and ids are stored.

A layout in `LAYOUTS` is exported, and tested by the contract suite.
"""

from __future__ import annotations

from edgerec.errors import UnsupportedError
from edgerec_export.layouts.base import BlockGroup, Bounds, Placed, Scales, Sections, TablePlan
from edgerec_export.layouts.bitmask import BITMASK
from edgerec_export.layouts.csc import Csc
from edgerec_export.layouts.csr import Csr
from edgerec_export.layouts.ell import ELL, VALUES_AT_ONCE, EllPlan
from edgerec_export.layouts.ids import hashes, id_order, pack_ids, pack_strings
from edgerec_export.layouts.mixed import BYTES_AT_ONCE, Dense, Mixed
from edgerec_export.layouts.rotation import Rotation
from edgerec_export.layouts.variants import Layout, LayoutVariant, TableAllocation, TableRequest
from edgerec_export.values import PRECISIONS

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (Dense(), Mixed(), Csr(), ELL, Csc(), BITMASK)}


BLOCKED = ("dense", "mixed")
"""Layouts that store the leading values of rows, in blocks."""
FORMS = tuple(
    (layout, precision) for layout in LAYOUTS for precision in PRECISIONS if precision != "int2" or layout in BLOCKED
)
"""Every layout and precision that go together: int2 has no zero, which the other layouts need."""


def layout(name: str) -> Layout:
    """Return the layout of this name. Raises UnsupportedError if there is none."""
    if name not in LAYOUTS:
        raise UnsupportedError(f"there is no layout {name!r}; there are: {', '.join(['auto', *sorted(LAYOUTS)])}")
    return LAYOUTS[name]


def lookup_layout(name: str, kind: str) -> Layout:
    """Return the layout of a table whose rows are only looked up, in a bundle whose items have layout `name`.

    It is the same layout, except that csc becomes ell, and that prefix rows need no columns and become mixed.

    Args:
        kind: of the table, as `Table.kind`.
    """
    if name in BLOCKED:
        return LAYOUTS[name]
    if kind != "sparse":
        return LAYOUTS["mixed"]
    return LAYOUTS["ell" if name == "csc" else name]


__all__ = [
    "BLOCKED",
    "BYTES_AT_ONCE",
    "FORMS",
    "LAYOUTS",
    "VALUES_AT_ONCE",
    "BlockGroup",
    "Bounds",
    "EllPlan",
    "Layout",
    "LayoutVariant",
    "Placed",
    "Rotation",
    "Scales",
    "Sections",
    "TableAllocation",
    "TablePlan",
    "TableRequest",
    "hashes",
    "id_order",
    "layout",
    "lookup_layout",
    "pack_ids",
    "pack_strings",
]
