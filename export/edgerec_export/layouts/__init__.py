"""Layouts: how a table lies in the tables file. Adding one here is all it takes to be exported and tested."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import UnsupportedError
from edgerec.tables import Table
from edgerec_export.layouts import dense, mixed

WidthChoices = Callable[[NDArray[np.int64], str], list[NDArray[np.int64]]]
"""From sizes (n_rows,) and a precision to the sets of block widths worth trying, best first."""

LAYOUTS: dict[str, WidthChoices] = {"dense": dense.width_choices, "mixed": mixed.width_choices}
KINDS: dict[str, frozenset[str]] = {"dense": dense.KINDS, "mixed": mixed.KINDS}


def width_choices(layout: str, table: Table, precision: str) -> list[NDArray[np.int64]]:
    """The block widths worth trying for a table, best first.

    Raises UnsupportedError where there is no such layout or it cannot hold this kind of table.
    """
    if layout not in LAYOUTS:
        raise UnsupportedError(f"there is no layout {layout!r}; there are: {', '.join(sorted(LAYOUTS))}")
    if table.kind not in KINDS[layout]:
        able = sorted(name for name, kinds in KINDS.items() if table.kind in kinds)
        raise UnsupportedError(
            f"the layout {layout!r} cannot hold a {table.kind} table; "
            + (f"these can: {', '.join(able)}" if able else "no layout of this release can")
        )
    return LAYOUTS[layout](table.sizes(), precision)
