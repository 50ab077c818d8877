"""Rows of a table as values at some of their columns: what the sparse layouts share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgerec_export.flat import Flat, Rows
from edgerec_export.graph import Graph, Name
from edgerec_export.layouts.base import Slots

AddRows = Callable[[Graph, Name], Rows]
ROWS_A_STEP = 4096
"""Rows that are decoded at once where a whole catalogue is scored by decoding, at most."""
VALUES_A_STEP = 1 << 20
"""Values that are decoded at once, at most: of wide rows fewer are decoded together, as csr takes 64 bytes a value."""


def rows_a_step(n_rows: int, d: int) -> int:
    """Rows of `d` dimensions that are decoded at once."""
    return min(ROWS_A_STEP, max(1, VALUES_A_STEP // d), n_rows)


def slots(rows: NDArray[np.float32], width: int) -> Slots:
    """(m, d) rows that have at most `width` values.

    Columns with a value come first, ascending; those that fill a shorter row are columns of its zeros, so that the
    columns of a row are all different.
    """
    columns = np.argsort(rows == 0, axis=1, kind="stable")[:, :width]
    return Slots(np.take_along_axis(rows, columns, 1), columns)


def add_scattered(g: Graph, flat: Flat, values: Name, columns: Name, valid: Name | None, d: int) -> Name:
    """Rows from their values and columns.

    values, columns int64 [..., K], valid bool [..., K] or None  ->  [..., d]

    Slots that are not valid are written to a column past the last, which is cut off again.
    """
    room = d if valid is None else d + 1
    if valid is not None:
        columns = g.op("Where", valid, columns, g.constant(d))
    lead = g.op("Shape", columns, start=0, end=-1)
    empty = g.op("Expand", flat.nothing(g), g.op("Concat", lead, g.ints(room), axis=0))
    full = g.op("ScatterElements", empty, columns, values, axis=-1)
    return full if valid is None else g.leading(full, d)


def add_scores_by_decoding(g: Graph, user: Rows, n_rows: int, d: int, decode: AddRows, one_scale: bool) -> Name:
    """Score every row by decoding it.

    user [B, d]  ->  [B, n_rows] float32, without the user's scale, or that of a table with one
    """

    def score(body: Graph, rows: Name) -> Name:
        found = decode(body, rows)
        products = body.op("MatMul", user.centred(body), body.op("Transpose", found.centred(body), perm=[1, 0]))
        if found.scale is None or one_scale:
            return products
        return body.op("Mul", products, body.op("Transpose", found.scale, perm=[1, 0]))

    return add_by_decoding(g, n_rows, d, score)


def add_by_decoding(g: Graph, n_rows: int, d: int, score: Callable[[Graph, Name], Name]) -> Name:
    """Score rows (some,) -> [B, some], for all rows of `d` dimensions a few thousand at a time: memory stays bounded,
    time is that of decoding. -> [B, n_rows] float32"""
    at_once = rows_a_step(n_rows, d)
    steps = -(-n_rows // at_once)

    def step(body: Graph, number: Name) -> Name:
        first = body.op("Mul", number, body.constant(at_once))
        rows = body.op("Range", first, body.op("Add", first, body.constant(at_once)), body.constant(1))
        return score(body, body.op("Min", rows, body.constant(n_rows - 1)))

    pieces = g.repeated(steps, step, ["B", at_once])
    flat = g.op("Reshape", g.op("Transpose", pieces, perm=[1, 0, 2]), g.ints(0, -1))
    return flat if n_rows % at_once == 0 else g.leading(flat, n_rows)
