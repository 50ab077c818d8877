"""Item-item models: a table of few values a row, whose columns are items, and its quality without a dense matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import (
    Interactions,
    Sample,
    evaluate_vectors,
    metrics_of_users,
    popularity_of,
    tested_rows,
    top_k,
)
from edgerec.extras import require
from edgerec.models.base import Vectors
from edgerec.models.encoder import Encoder, LinearEncoder
from edgerec.tables import SparseTable, Table

if TYPE_CHECKING:
    import scipy.sparse

    Matrix = scipy.sparse.csr_array[Any, Any]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def item_table(rows: Ints, columns: Ints, weights: Floats, answer: Floats) -> SparseTable:
    """Return the table of which row j is answer[j] (e_j + C[j]), with C the weights of pairs of items.

    The product of rows i and j is answer[i] answer[j] times C[i, j] + C[j, i], plus the sum of C[i, m] C[j, m] over the
    neighbours m that both have.

    Args:
        rows, columns: (n,) items of each pair: the row that has it, and its neighbour.
        weights: (n,) weights of the pairs.
        answer: (n_items,) factors of rows.
    """
    n, own = len(answer), np.arange(len(answer))
    rows, columns, weights = np.append(rows, own), np.append(columns, own), np.append(weights, np.ones(n))
    order = np.argsort(rows * n + columns)
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    return SparseTable((answer[rows] * weights)[order], columns[order], pointers, n)


def is_item_item(items: Table, encoder: Encoder | None) -> bool:
    """Return True if columns are items and a user is the weighted sum of the rows of a history."""
    return (
        isinstance(items, SparseTable)
        and items.d == items.n_rows
        and isinstance(encoder, LinearEncoder)
        and encoder.matrix is None
        and encoder.bias is None
    )


def evaluate_fit(
    vectors: Vectors,
    history: Interactions,
    seen: Sequence[Interactions],
    test: Interactions,
    *,
    ks: Sequence[int],
    threads: int | None = None,
    sample: Sample | None = None,
) -> dict[str, float]:
    """Measure the vectors of a fit, whatever its table, as `edgerec.data.evaluate_vectors` does.

    Args:
        history: interactions from which an item-item model computes its users.
        seen: interactions to mask, whose counts are the items' popularity.
    """
    if vectors.sparse_items is None or not isinstance(vectors.encoder, LinearEncoder):
        pairs = None if vectors.scorer is None else vectors.scorer.scores
        return evaluate_vectors(vectors.users, vectors.items, seen, test, ks, threads, pairs, sample)
    rows, n_items = tested_rows(test, sample), vectors.sparse_items.n_rows
    scores = _sparse_scores(vectors.sparse_items, vectors.encoder, history)

    def rank(part: slice) -> NDArray[np.int32]:
        return top_k(scores, rows[part], n_items, max(ks), seen=seen, threads=threads)

    return metrics_of_users(rank, test, rows, popularity=popularity_of(seen), ks=ks, margins=sample is not None)


def _sparse_scores(
    items: SparseTable, encoder: LinearEncoder, history: Interactions
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Return a function from user rows (n,) to their scores (n, n_items), from the sparse table of the items."""
    sparse = require("scipy.sparse", "train")
    table: Matrix = sparse.csr_array((items.values, items.columns, items.pointers), shape=(items.n_rows, items.d))
    weighted: Matrix = (sparse.diags_array(encoder.weights) @ table).tocsr()
    matrix, by_column = history.matrix(), table.T.tocsr()

    def scores(block: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(((matrix[block] @ weighted) @ by_column).toarray(), np.float32)

    return scores
