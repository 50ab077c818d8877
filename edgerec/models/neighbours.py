"""The nearest neighbours of each item, weighted by ridge regression on them: an item-item model of few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions, metrics_of_users, split, tested_rows, top_k
from edgerec.extras import require
from edgerec.models.settings import check_range

if TYPE_CHECKING:
    import scipy.sparse

    Matrix = scipy.sparse.csr_array[Any, Any]

REGS = (10.0, 30.0, 100.0, 300.0, 1000.0)
"""Regularizations to choose from."""
CANDIDATES = 50
"""Items that each item is regressed on, unless a setting gives the number."""
_ROWS = 512
"""Rows of the items' Gram matrix that are in memory at once."""
_SOLVED_AT_ONCE = 2048
_K = 20
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of each item, as `edgerec_export.from_neighbours` takes them.

    The score of item j is the sum over items i of the history of `of_history[i] * of_answer[j]` times the weight of the
    pair, which the row of i or of j has.

    Attributes:
        neighbours: (n_items, k) item rows, -1 for none. Each pair is in one of its two rows.
        weights: (n_items, k) weights of the pairs, above 0.
        of_history: (n_items,) factors of items in a history.
        of_answer: (n_items,) factors of items that are scored.
        reg: the regularization.
    """

    neighbours: Ints
    weights: Floats
    of_history: Floats
    of_answer: Floats
    reg: float

    @cached_property
    def _of_items(self) -> Matrix:
        """(n_items, n_items) scores of items for a history of one item each."""
        sparse, n = require("scipy.sparse", "train"), len(self.neighbours)
        rows, at = np.nonzero(self.neighbours >= 0)
        one_way = sparse.csr_array((self.weights[rows, at], (rows, self.neighbours[rows, at])), shape=(n, n))
        scaled = sparse.diags_array(self.of_history) @ (one_way + one_way.T) @ sparse.diags_array(self.of_answer)
        found: Matrix = scaled.tocsr()
        return found

    def scores(self, history: Matrix) -> NDArray[np.float32]:
        """Return (n, n_items) scores for histories (n, n_items) of 0 and 1, without terms of two pairs."""
        return np.asarray((history @ self._of_items).toarray(), np.float32)


def item_neighbours(
    interactions: Interactions, k: int, *, reg: float | None = None, candidates: int = CANDIDATES
) -> Neighbours:
    """Return `k` neighbours of each item with the weights of a regression on them.

    Each item is regressed on the `candidates` items with the largest cosine to it, with a ridge penalty: SLIM after
    selection of features (Ning and Karypis 2011, fsSLIM), by squares alone. With all items as candidates it is EASE
    (Steck 2019, arXiv 1905.03375). The weight of a pair is its partial correlation, the mean of both items'
    regressions. The pairs with the largest weights are taken first, each into the row of its items that has more room,
    so that n_items * k numbers have almost as many pairs.

    For the 41,000 items of Gowalla a penalty takes 13 s of a processor; memory is 4 * candidates^2 bytes an item.

    Args:
        interactions: users, items and their interactions.
        k: neighbours in a row.
        reg: the ridge penalty, in interactions; None for the best of `REGS` by NDCG@20 on a fifth of each user's
            interactions, which is held back for the choice alone.
        candidates: items that each item is regressed on, at least `k`.

    Raises:
        SettingError: a value is out of range.
        DataError: there are too few interactions to hold back some.
    """
    check_range("k", k, 1, candidates)
    check_range("reg", reg, 1e-3, 1e9)
    if reg is None:
        parts = split(interactions, "random:80/20")
        reg = _chosen_reg(parts.train_all, parts.test, k, candidates)
    return ItemRegression(interactions, candidates).neighbours(k, reg)


def _chosen_reg(train: Interactions, held_back: Interactions, k: int, candidates: int) -> float:
    """Return the regularization of `REGS` whose neighbours have the best NDCG@20 on the held-back interactions."""
    regression, matrix, rows = ItemRegression(train, candidates), train.matrix(), tested_rows(held_back, None)

    def score(reg: float) -> float:
        found = regression.neighbours(k, reg)

        def rank(some: slice) -> NDArray[np.int32]:
            return top_k(lambda block: found.scores(matrix[block]), rows[some], train.n_items, _K, seen=[train])

        return metrics_of_users(rank, held_back, rows, ks=(_K,))[f"ndcg@{_K}"]

    return max(REGS, key=score)


class ItemRegression:
    """The regressions of all items on their candidates, for any regularization."""

    def __init__(self, train: Interactions, candidates: int = CANDIDATES) -> None:
        """Find the candidates of each item, and count the users that they share."""
        self._counts = np.maximum(train.item_counts(), 1).astype(np.float64)
        self._n = train.n_items
        most = min(candidates, max(self._n - 1, 1))
        # A candidate of -1 is none: it reads the zero at the end of a row of the Gram matrix.
        self._candidates = np.full((self._n, most), -1, np.int64)
        self._shared = np.zeros((self._n, most))
        self._among = np.zeros((self._n, most, most), np.float32)
        matrix = train.matrix()
        for item, others, counts in _gram_rows(matrix):
            own = others != item
            others, counts = others[own], counts[own]
            if len(others) > most:
                chosen = np.argpartition(-counts / np.sqrt(self._counts[others]), most - 1)[:most]
                others, counts = others[chosen], counts[chosen]
            self._candidates[item, : len(others)], self._shared[item, : len(others)] = others, counts
        flat = self._candidates.ravel()
        order = np.argsort(flat, kind="stable")
        ends = np.searchsorted(flat[order], np.arange(self._n + 1))
        row = np.zeros(self._n + 1, np.float32)
        for item, others, counts in _gram_rows(matrix):
            of, place = np.divmod(order[ends[item] : ends[item + 1]], most)
            row[others] = counts
            self._among[of, place] = row[self._candidates[of]]
            row[others] = 0

    def neighbours(self, k: int, reg: float) -> Neighbours:
        """Return `k` neighbours of each item, which are among the candidates of one of the two."""
        first, second, weights, roots = self._pairs(reg)
        rows, others, weights = _in_rows(first, second, weights, self._n, k)
        order = np.argsort(rows, kind="stable")
        place = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
        neighbours, found = np.full((self._n, k), -1, np.int64), np.zeros((self._n, k))
        neighbours[rows[order], place], found[rows[order], place] = others[order], weights[order]
        return Neighbours(neighbours, found, roots, 1 / roots, reg)

    def _pairs(self, reg: float) -> tuple[Ints, Ints, Floats, Floats]:
        """Return the pairs of items i < j with their partial correlations, and roots (n_items,) of the precisions."""
        weights, precisions = self._solved(reg)
        roots = np.sqrt(precisions)
        known = self._candidates >= 0
        items, others = np.nonzero(known)[0], self._candidates[known]
        # EASE's weight of i for j is -P[i, j] / P[j, j], P the precisions; this is -P[i, j] / sqrt(P[i, i] P[j, j]).
        correlations = weights[known] * roots[items] / roots[others]
        pairs, places, counts = np.unique(
            np.minimum(items, others) * self._n + np.maximum(items, others), return_inverse=True, return_counts=True
        )
        means = np.bincount(places, correlations, len(pairs)) / counts
        first, second = np.divmod(pairs, self._n)
        return first, second, means, roots

    def _solved(self, reg: float) -> tuple[Floats, Floats]:
        """Return weights (n_items, candidates) of the regressions, and their precisions (n_items,)."""
        weights, precisions = np.empty_like(self._shared), np.empty(self._n)
        diagonal = np.arange(self._candidates.shape[1])
        for start in range(0, self._n, _SOLVED_AT_ONCE):
            part = slice(start, start + _SOLVED_AT_ONCE)
            gram = self._among[part].astype(np.float64)
            gram[:, diagonal, diagonal] += reg
            weights[part] = np.linalg.solve(gram, self._shared[part, :, None])[:, :, 0]
            explained = (self._shared[part] * weights[part]).sum(axis=1)
            precisions[part] = 1 / (self._counts[part] + reg - explained)
        return weights, precisions


def _gram_rows(matrix: Matrix) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Yield each item with the items of its users, itself among them, and the numbers of users that they share."""
    items = matrix.T.tocsr()
    for start in range(0, items.shape[0], _ROWS):
        rows = (items[start : start + _ROWS] @ matrix).tocsr()
        for at in range(rows.shape[0]):
            part = slice(rows.indptr[at], rows.indptr[at + 1])
            yield start + at, rows.indices[part], rows.data[part]


def _in_rows(first: Ints, second: Ints, weights: Floats, n: int, k: int) -> tuple[Ints, Ints, Floats]:
    """Assign pairs of positive weight to one of n rows of `k`, of either item, the largest first, while one has room.

    Returns:
        The row, the other item and the weight of each assigned pair.
    """
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] > 0]
    left, rows, taken = [k] * n, [], []
    for pair, one, other in zip(order.tolist(), first[order].tolist(), second[order].tolist(), strict=True):
        row = one if left[one] >= left[other] else other
        if left[row]:
            left[row] -= 1
            rows.append(row)
            taken.append(pair)
    chosen, into = np.array(taken, np.int64), np.array(rows, np.int64)
    return into, first[chosen] + second[chosen] - into, weights[chosen]
