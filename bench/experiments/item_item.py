"""Item-item models: EASE in full as a ceiling of models without a user table, and bundles of nearest neighbours.

A score of EASE is h . B, for the 0/1 history h of a user and B (n_items, n_items) with a diagonal of zeros, the ridge
regression of interactions on themselves (Steck 2019, arXiv 1905.03375, section 3.1). With P the inverse of the
regularized Gram matrix of the items, B[i, j] is -P[i, j] / P[j, j].
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions, Split, metrics_of_users, popularity_of, tested_rows, top_k
from edgerec.extras import require
from edgerec.measure import bundle_rankings
from edgerec.models.neighbours import REGS, ItemRegression, Neighbours
from edgerec.runtime import Recommender
from edgerec_export import Source, export, from_neighbours

FULL, NEAREST = "ease", "neighbours"
MOST_NEIGHBOURS = 24
K = 20
Floats = NDArray[np.float32]


def precision_of(train: Interactions, reg: float) -> Floats:
    """Return P (n_items, n_items), by the smaller of the two Gram matrices."""
    linalg = require("scipy.linalg", "train")
    matrix = train.matrix().astype(np.float32)
    n_users, n_items = matrix.shape
    gram = (matrix.T @ matrix if n_items <= n_users else matrix @ matrix.T).toarray()
    gram[np.diag_indices_from(gram)] += reg
    if n_items <= n_users:
        return np.asarray(linalg.inv(gram, overwrite_a=True, check_finite=False))
    # (X'X + reg I)^-1 = (I - X' (X X' + reg I)^-1 X) / reg
    solved = linalg.solve(gram, matrix.toarray(), assume_a="pos", overwrite_b=True, check_finite=False)
    precision = np.asarray(matrix.T @ solved)
    precision *= -1 / reg
    precision[np.diag_indices_from(precision)] += 1 / reg
    return precision


def weights_of(precision: Floats) -> Floats:
    """Return B, in the place of P."""
    precision /= -np.diag(precision)
    np.fill_diagonal(precision, 0)
    return precision


def source_of(train: Interactions, found: Neighbours) -> Source:
    """Return the tables of a bundle of neighbours."""
    return from_neighbours(
        found.neighbours,
        found.weights,
        of_history=found.of_history,
        of_answer=found.of_answer,
        item_ids=train.item_ids,
        item_counts=train.item_counts(),
    )


def full_row(parts: Split) -> dict[str, Any]:
    """Choose the regularization on validation, and measure B in fp32 on the test part."""

    def weights(train: Interactions, reg: float) -> Floats:
        return weights_of(precision_of(train, reg))

    scores = [_metrics(parts.train, weights(parts.train, reg), parts.validation)["ndcg@20"] for reg in REGS]
    reg = REGS[int(np.argmax(scores))]
    found = _metrics(parts.train_all, weights(parts.train_all, reg), parts.test)
    return {"bytes": 4 * parts.train.n_items**2, **found, "validation": max(scores), "settings": {"reg": reg}}


def nearest_row(parts: Split, limit: int) -> dict[str, Any]:
    """Choose the regularization on validation, and measure the bundle with as many neighbours as the limit allows."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "b.edgerec")

        def bundle(train: Interactions, found: Neighbours) -> int:
            how: dict[str, Any] = {"users": False, "similar": False, "layout": "ell", "scales": "row"}
            out.unlink(missing_ok=True)
            return export(source_of(train, found), out, precision="int8", verify=False, **how).nbytes

        regression, scores = ItemRegression(parts.train), []
        count = 1
        while count < MOST_NEIGHBOURS and bundle(parts.train, regression.neighbours(count + 1, REGS[0])) <= limit:
            count += 1
        for reg in REGS:
            bundle(parts.train, regression.neighbours(count, reg))
            scores.append(_bundle_metrics(out, parts.train, parts.validation)["ndcg@20"])
        reg = REGS[int(np.argmax(scores))]
        nbytes = bundle(parts.train_all, ItemRegression(parts.train_all).neighbours(count, reg))
        found = _bundle_metrics(out, parts.train_all, parts.test)
    return {"bytes": nbytes, **found, "validation": max(scores), "settings": {"reg": reg, "neighbours": count}}


def _bundle_metrics(bundle: Path, train: Interactions, test: Interactions) -> dict[str, float]:
    rows = tested_rows(test, None)
    with Recommender.load(bundle) as model:
        return _measured(lambda some: bundle_rankings(model, train, train, rows[some], K), rows, train, test)


def _metrics(train: Interactions, weights: Floats, test: Interactions) -> dict[str, float]:
    matrix, rows = train.matrix().astype(np.float32), tested_rows(test, None)

    def scores(block: NDArray[np.int64]) -> Floats:
        return np.asarray(matrix[block] @ weights, np.float32)

    def rank(some: slice) -> NDArray[np.int32]:
        return top_k(scores, rows[some], train.n_items, K, seen=[train], threads=1)

    return _measured(rank, rows, train, test)


def _measured(
    rank: Callable[[slice], NDArray[np.integer]], rows: NDArray[np.integer], train: Interactions, test: Interactions
) -> dict[str, float]:
    return metrics_of_users(rank, test, rows, popularity=popularity_of([train]), ks=(K,))
