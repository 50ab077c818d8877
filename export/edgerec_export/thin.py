"""Thin tables: rows of few values in thousands of columns, as item-item models have, which never become dense."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import SparseTable, Table

FEWEST_COLUMNS = 1 << 10
"""Columns from which a sparse table may be thin; embeddings have fewer."""
THINNEST = 16
"""A thin table has at most one value in this many columns."""

Floats = NDArray[np.float64]


def is_thin(table: Table) -> TypeGuard[SparseTable]:
    """Return True for a sparse table that is handled without dense rows."""
    return (
        isinstance(table, SparseTable)
        and table.d >= FEWEST_COLUMNS
        and THINNEST * table.n_values <= table.n_rows * table.d
    )


def rows_of(table: SparseTable) -> NDArray[np.int64]:
    """Return the (n_values,) row of each value."""
    return np.repeat(np.arange(table.n_rows), table.sizes())


def largest_of_rows(table: SparseTable) -> NDArray[np.float32]:
    """Return the (n_rows,) largest absolute value of each row, 0 for a row without values."""
    found, some = np.zeros(table.n_rows, np.float32), table.sizes() > 0
    if some.any():
        found[some] = np.maximum.reduceat(np.abs(table.values), table.pointers[:-1][some].astype(np.int64))
    return found


def counts_of_rows(table: SparseTable) -> NDArray[np.int64]:
    """Return the (n_rows,) nonzero values of each row."""
    return np.bincount(rows_of(table)[table.values != 0], minlength=table.n_rows)


def lengths_of_rows(table: SparseTable) -> NDArray[np.float32]:
    """Return the (n_rows,) Euclidean norm of each row."""
    squares = np.bincount(rows_of(table), np.square(table.values.astype(np.float64)), table.n_rows)
    return np.sqrt(squares).astype(np.float32)


def slots_of_rows(
    table: SparseTable, rows: NDArray[np.int64], width: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the (m, width) values and columns of some rows, as `edgerec_export.onnx.slots` does of dense rows."""
    starts, sizes = table.pointers.astype(np.int64)[rows], table.sizes()[rows]
    row = np.repeat(np.arange(len(rows)), sizes)
    at = np.arange(row.size) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(starts, sizes)
    some = table.values[at] != 0
    row, at = row[some], at[some]
    counts = np.bincount(row, minlength=len(rows))
    place = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)
    own = table.columns[at].astype(np.int64)
    used = np.zeros((len(rows), width), bool)
    used[row[own < width], own[own < width]] = True
    unused = np.argsort(used, axis=1, kind="stable")  # the unused ones first, ascending
    columns = np.take_along_axis(unused, np.maximum(np.arange(width) - counts[:, None], 0), 1)
    values = np.zeros((len(rows), width), np.float32)
    values[row, place], columns[row, place] = table.values[at], own
    return values, columns


def squares_of_columns(table: SparseTable, weights: Floats) -> Floats:
    """Return (d,) the diagonal of the sum of w v'v over the rows v and their (n_rows,) weights w."""
    squares = np.square(table.values.astype(np.float64)) * np.repeat(weights, table.sizes())
    return np.asarray(np.bincount(table.columns, squares, table.d), np.float64)


def of_largest(table: SparseTable, effects: Floats, n_values: int) -> SparseTable:
    """Return the table with the `n_values` values of the largest effects (table.n_values,), at least one a row."""
    rows = rows_of(table)
    order = np.lexsort((-effects, rows))
    chosen = np.zeros(table.n_values, bool)
    chosen[order[table.pointers[:-1].astype(np.int64)[table.sizes() > 0]]] = True
    free = max(n_values - int(chosen.sum()), 0)
    others = np.flatnonzero(~chosen)
    chosen[others[np.argsort(-effects[others], kind="stable")[:free]]] = True
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows[chosen], minlength=table.n_rows))])
    return SparseTable(table.values[chosen], table.columns[chosen], pointers, table.d)
