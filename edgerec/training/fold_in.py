"""New items of a trained run from their first interactions, without training, by the item solve of implicit ALS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.data.ids import rows_of
from edgerec.errors import RequestError, UnsupportedError
from edgerec.models.encoder import LeastSquaresEncoder
from edgerec.models.row_solver import RowSolver
from edgerec.tables import DenseTable, PrefixTable, SparseTable, Table
from edgerec.tables.texts import Texts, is_text, join_texts
from edgerec.training.run import Run


@dataclass(frozen=True)
class FoldedIn:
    """A run with new items.

    Attributes:
        run: the old rows, then those of the new items, by their ids.
        items: number of new items.
        interactions: number of interactions that their rows were solved from.
        unknown: number of interactions with new items by unknown users, which are ignored.
    """

    run: Run
    items: int
    interactions: int
    unknown: int


def fold_in(run: Run, first: Interactions, *, threads: int | None = None) -> FoldedIn:
    """Add the unknown items in `first` to a run by iALS's item step, with the users' vectors unchanged.

    The solve is that of Hu, Koren and Volinsky 2008, section 4. A new row has the size of a known item with about as
    many interactions.

    Raises:
        UnsupportedError: the run is of another backbone than ials.
        RequestError: there is no new item, no interaction of a known user with one, or ids are of another kind.
    """
    if run.users is None or not isinstance(run.encoder, LeastSquaresEncoder):
        raise UnsupportedError(
            f"only runs of ials take new items without training, got {run.config['backbone']}; train again with them"
        )
    for known, new, what in ((run.item_ids, first.item_ids, "item"), (run.user_ids, first.user_ids, "user")):
        if is_text(known) != is_text(new):
            raise RequestError(f"the run's {what} ids and those of {first.name or 'the interactions'} differ in kind")
    new_items = np.flatnonzero(rows_of(first.item_ids, run.item_ids) < 0)
    pairs_users, pairs_items = first.user_rows(), first.indices
    is_new = np.isin(pairs_items, new_items)
    rows = rows_of(first.user_ids, run.user_ids)[pairs_users[is_new]]
    items, known_users = pairs_items[is_new][rows >= 0], rows[rows >= 0]
    found, place = np.unique(items, return_inverse=True)
    if not found.size:
        raise RequestError(
            f"{first.name or 'the interactions'} hold {len(new_items)} items that the run does not know, and no "
            "interaction of a known user with one: there is nothing to compute their rows from"
        )
    order = np.lexsort((known_users, place))
    counts = np.bincount(place, minlength=found.size)
    pointers = np.concatenate([[0], np.cumsum(counts)])
    sizes = _sizes_for(run, counts)
    leading = sizes if isinstance(run.items, PrefixTable) else None
    solver = RowSolver(pointers, known_users[order], run.users.n_rows, run.items.d, leading)
    vectors, _ = solver.solve(run.users.dense(), run.encoder.alpha, run.encoder.reg, threads)
    extended = replace(
        run,
        items=_appended(run.items, vectors, sizes),
        item_ids=_joined(run.item_ids, first.item_ids[found]),
        titles=None if run.titles is None else join_texts([run.titles, _titles(first, found)]),
        item_counts=None if run.item_counts is None else np.concatenate([run.item_counts, counts.astype(np.uint32)]),
    )
    return FoldedIn(extended, found.size, int(known_users.size), int(is_new.sum() - known_users.size))


def _joined(known: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    return join_texts([known, new]) if is_text(known) else np.concatenate([known, new])


def _titles(first: Interactions, rows: NDArray[Any]) -> Texts:
    return np.full(rows.size, "") if first.titles is None else first.titles[rows]


def _sizes_for(run: Run, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (len(counts),) sizes of rows with these numbers of interactions, those of the nearest known count.

    If the run has no counts, it is the smallest size of any row.
    """
    sizes = np.maximum(run.items.sizes(), 1)
    if run.item_counts is None:
        return np.full(counts.size, sizes.min())
    order = np.argsort(run.item_counts, kind="stable")
    ascending = run.item_counts[order].astype(np.int64)
    above = np.minimum(np.searchsorted(ascending, counts), ascending.size - 1)
    below = np.maximum(above - 1, 0)
    nearer = np.where(counts - ascending[below] < ascending[above] - counts, below, above)
    return sizes[order[nearer]]


def _appended(table: Table, vectors: NDArray[np.float32], sizes: NDArray[np.int64]) -> Table:
    """Return the table with more rows, of the same kind."""
    if isinstance(table, PrefixTable):
        more = PrefixTable.from_dense(vectors, sizes)
        all_sizes = np.concatenate([table.sizes(), more.sizes()])
        return PrefixTable(np.concatenate([table.values, more.values]), all_sizes, table.d)
    if isinstance(table, SparseTable):
        rank = np.argsort(np.argsort(-np.abs(vectors), axis=1, kind="stable"), axis=1)
        more_rows = SparseTable.from_dense(vectors, rank < sizes[:, None])
        pointers = np.concatenate([table.pointers, table.pointers[-1] + more_rows.pointers[1:].astype(np.int64)])
        values, columns = (
            np.concatenate([getattr(one, name) for one in (table, more_rows)]) for name in ("values", "columns")
        )
        return SparseTable(values, columns, pointers, table.d)
    return DenseTable(np.concatenate([table.dense(), vectors]))
