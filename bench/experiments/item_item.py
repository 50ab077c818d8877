"""EASE, a full item-item model, as a ceiling of models without a user table, and its nearest neighbours in few bytes.

A score is h . B, for the 0/1 history h of a user and B (n_items, n_items) with a diagonal of zeros, the ridge
regression of interactions on themselves (Steck 2019, arXiv 1905.03375, section 3.1). Nothing is exported: bytes are
those that the numbers would take.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions, Sample, Split, metrics_of_users, popularity_of, tested_rows, top_k
from edgerec.extras import require

REGS = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""The grid of the regularization."""
FULL, NEAREST = "ease", "ease-nearest"
_INT8 = 127
_SHORT_IDS = 1 << 16


def ease_weights(train: Interactions, reg: float) -> NDArray[np.float32]:
    """Return B (n_items, n_items) in closed form, by the smaller of the two Gram matrices."""
    linalg = require("scipy.linalg", "train")
    matrix = train.matrix().astype(np.float32)
    n_users, n_items = matrix.shape
    gram = (matrix.T @ matrix if n_items <= n_users else matrix @ matrix.T).toarray()
    gram[np.diag_indices_from(gram)] += reg
    if n_items <= n_users:
        precision = linalg.inv(gram, overwrite_a=True, check_finite=False)
    else:  # (X'X + reg I)^-1 = (I - X' (X X' + reg I)^-1 X) / reg
        solved = linalg.solve(gram, matrix.toarray(), assume_a="pos", overwrite_b=True, check_finite=False)
        precision = np.asarray(matrix.T @ solved)
        precision *= -1 / reg
        precision[np.diag_indices_from(precision)] += 1 / reg
    precision /= -np.diag(precision)
    np.fill_diagonal(precision, 0)
    return np.asarray(precision, np.float32)


def nearest(weights: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return the `count` largest weights of each row in one byte, and zeros for the others."""
    at = np.argpartition(weights, -count, axis=1)[:, -count:]
    values = np.take_along_axis(weights, at, axis=1)
    scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / _INT8
    few = np.zeros_like(weights)
    np.put_along_axis(few, at, np.rint(values / scales) * scales, axis=1)
    return few


def item_item_row(parts: Split, values_a_row: float | None, sample: Sample | None = None) -> dict[str, Any]:
    """Choose the regularization on validation, and measure B in fp32 on the test part, or its rows in a few bytes.

    Args:
        values_a_row: bytes of the largest weights of a row and their columns, besides a scale; None for all weights.
    """
    n = parts.train.n_items
    each = (2 if n <= _SHORT_IDS else 4) + 1
    count = None if values_a_row is None else max(int(values_a_row // each), 1)

    def weights(train: Interactions, reg: float) -> NDArray[np.float32]:
        full = ease_weights(train, reg)
        return full if count is None else nearest(full, count)

    def score(reg: float) -> float:
        return _metrics(parts.train, weights(parts.train, reg), parts.validation, sample)["ndcg@20"]

    scores = [score(reg) for reg in REGS]
    reg = REGS[int(np.argmax(scores))]
    a_row = 4 * n if count is None else each * count + 1
    found = _metrics(parts.train_all, weights(parts.train_all, reg), parts.test, None)
    return {"bytes": n * a_row, **found, "validation": max(scores), "settings": {"reg": reg}}


def _metrics(
    train: Interactions, weights: NDArray[np.float32], test: Interactions, sample: Sample | None
) -> dict[str, float]:
    matrix, rows = train.matrix().astype(np.float32), tested_rows(test, sample)

    def scores(block: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(matrix[block] @ weights, np.float32)

    def rank(some: slice) -> NDArray[np.int32]:
        return top_k(scores, rows[some], train.n_items, 20, seen=[train], threads=1)

    return metrics_of_users(rank, test, rows, popularity=popularity_of([train]), ks=(20,))
