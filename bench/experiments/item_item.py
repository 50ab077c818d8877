"""Item-item models: EASE and GF-CF in full, ceilings of models without a user table; bundles of nearest neighbours.

A score of EASE is h . B, for the 0/1 history h of a user and B (n_items, n_items) with a diagonal of zeros, the ridge
regression of interactions on themselves (Steck 2019, arXiv 1905.03375, section 3.1). With P the inverse of the
regularized Gram matrix of the items, B[i, j] is -P[i, j] / P[j, j].

GF-CF (Shen et al. 2021, arXiv 2108.07567, section 4.3) has B = R' R + alpha D^-1/2 V V' D^1/2 with the interactions R
divided by the roots of both degrees, its first right singular vectors V and the items' degrees D, in closed form too.
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
from edgerec.models import SizePlan
from edgerec.models.low_rank import krylov, scaled_matrix
from edgerec.models.neighbours import REGS, Neighbours, NeighboursConfig
from edgerec.runtime import Recommender
from edgerec.training import Fit, FitOptions
from edgerec_export import Source, export

EASE, FILTERS, NEAREST = "ease", "gf-cf", "neighbours"
ALPHAS, SINGULAR = (0.0, 0.1, 0.3, 1.0), 256
"""Weights of GF-CF's low-pass filter to choose from, and the number of its singular vectors, both as the paper's."""
MOST_VALUES = 32
"""Values of a row before the export leaves out those that change scores least."""
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


def ease(train: Interactions, reg: float) -> Floats:
    """Return B (n_items, n_items) of EASE."""
    return weights_of(precision_of(train, reg))


def filters(train: Interactions, alpha: float) -> Floats:
    """Return B (n_items, n_items) of GF-CF."""
    matrix = scaled_matrix(train, 0.5, 0.5)
    weights: Floats = (matrix.T @ matrix).toarray()
    d = min(SINGULAR, min(matrix.shape))
    _, vectors = krylov(matrix, d, np.random.default_rng(0)).right_vectors(d)
    roots = np.sqrt(np.maximum(train.item_counts(), 1)).astype(np.float32)[:, None]
    weights += np.float32(alpha) * ((vectors / roots) @ (vectors * roots).T)
    return weights


FULL: dict[str, tuple[Callable[[Interactions, float], Floats], str, tuple[float, ...]]] = {
    EASE: (ease, "reg", REGS),
    FILTERS: (filters, "alpha", ALPHAS),
}
"""The weights of each full model, its setting, and the values to choose from."""


def full_row(parts: Split, name: str = EASE) -> dict[str, Any]:
    """Choose the setting on validation, and measure B in fp32 on the test part."""
    weights, setting, values = FULL[name]
    scores = [_metrics(parts.train, weights(parts.train, value), parts.validation)["ndcg@20"] for value in values]
    best = values[int(np.argmax(scores))]
    found = _metrics(parts.train_all, weights(parts.train_all, best), parts.test)
    return {"bytes": 4 * parts.train.n_items**2, **found, "validation": max(scores), "settings": {setting: best}}


def nearest_row(parts: Split, limit: int) -> dict[str, Any]:
    """Train nearest neighbours, and measure their bundle of at most `limit` bytes in int8."""
    run = Fit(Neighbours(), parts, SizePlan(MOST_VALUES), NeighboursConfig(), FitOptions(threads=1)).run()
    train = parts.train_all if parts.fit_all else parts.train
    if run.vectors.sparse_items is None:
        raise TypeError("neighbours have a sparse table")
    source = Source(
        run.vectors.sparse_items,
        train.item_ids,
        encoder=run.vectors.encoder,
        item_counts=train.item_counts(),
        about={"backbone": NEAREST, "method": "dense"},
        trained=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "b.edgerec")
        how: dict[str, Any] = {"users": False, "similar": False, "layout": "ell", "fit": True}
        nbytes = export(source, out, precision="int8", max_bytes=limit, verify=False, **how).nbytes
        found = _bundle_metrics(out, train, parts.test)
    settings = {"reg": run.config.reg, "values": MOST_VALUES}
    return {"bytes": nbytes, **found, "validation": run.validation["ndcg@20"], "settings": settings}


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
