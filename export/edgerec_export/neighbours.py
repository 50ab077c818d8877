"""Item-item models as bundles without users: a row holds an item itself and its nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import ExportError
from edgerec.models.encoder import LinearEncoder
from edgerec.models.sparse_items import item_table
from edgerec_export.source import Source, ids_of, titles_of


def from_neighbours(
    neighbours: ArrayLike,
    weights: ArrayLike,
    *,
    of_history: ArrayLike | None = None,
    of_answer: ArrayLike | None = None,
    item_ids: Sequence[int | str] | NDArray[np.integer] | None = None,
    item_counts: ArrayLike | None = None,
    titles: Sequence[str] | NDArray[np.str_] | None = None,
) -> Source:
    """Return the nearest neighbours of each item as a source, of EASE or k nearest neighbours, say.

    A dimension is an item: row j is of_answer[j] (e_j + C[j]), with C[j, i] the weight of a neighbour i, half of their
    mean where each is a neighbour of the other. A user is the sum of the rows of its history, each times
    of_history[i] / of_answer[i], so that the score of j has the term of_history[i] of_answer[j] S[i, j] for each item i
    of the history. S[i, j] is the pair's weight plus the sum of C[i, m] C[j, m] over the neighbours m that both have.
    Weights should be well below 1, such as cosines.

    Args:
        neighbours: (n_items, k) item rows, -1 for none; in a row each once, and not the item itself.
        weights: (n_items, k) finite numbers, above 0.
        of_history: (n_items,) factors of an item in a history, above 0; None for 1.
        of_answer: (n_items,) factors of an item's score, above 0; None for 1.
        item_ids: one unique integer or text for each item; None for row numbers.
        item_counts: (n_items,) interactions, which rank popular items.
        titles: (n_items,) titles, '' for items without one.

    Raises:
        ExportError: shapes do not fit, a neighbour repeats or is no other item, or a number is not above 0.
    """
    at, values = np.asarray(neighbours), np.asarray(weights, np.float64)
    if at.ndim != 2 or at.dtype.kind not in "iu" or values.shape != at.shape or not len(at):
        raise ExportError(
            f"neighbours must be (n_items, k) item rows with as many weights, got {at.shape} and {values.shape}"
        )
    n = len(at)
    known = at >= 0
    rows, columns, values = np.nonzero(known)[0], at[known].astype(np.int64), values[known]
    if at.size and (at.min() < -1 or columns.max(initial=0) >= n or (rows == columns).any()):
        raise ExportError(f"a neighbour must be another item's row, 0 to {n - 1}, or -1 for none")
    pairs = rows * n + columns
    order = np.argsort(pairs)
    pairs, rows, columns, values = pairs[order], rows[order], columns[order], values[order]
    if (np.diff(pairs) == 0).any():
        raise ExportError("an item has the same neighbour twice")
    history, answer = _factors("of_history", of_history, n), _factors("of_answer", of_answer, n)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ExportError("weights of neighbours must be finite and above 0; leave out the others with -1")
    place = np.minimum(np.searchsorted(pairs, columns * n + rows), max(len(pairs) - 1, 0))
    mutual = pairs[place] == columns * n + rows
    values[mutual] = (values[mutual] + values[place[mutual]]) / 4
    table = item_table(rows, columns, values, answer)
    return Source(
        table,
        ids_of(item_ids, table),
        encoder=LinearEncoder((history / answer).astype(np.float32)),
        item_counts=None if item_counts is None else np.asarray(item_counts),
        titles=None if titles is None else titles_of(titles, table),
        about={"backbone": "neighbours", "method": "own table"},
    )


def _factors(name: str, factors: ArrayLike | None, n: int) -> NDArray[np.float64]:
    found = np.ones(n) if factors is None else np.asarray(factors, np.float64)
    if found.shape != (n,) or not (np.isfinite(found).all() and (found > 0).all()):
        raise ExportError(f"{name} must be {n} finite numbers above 0")
    return found
