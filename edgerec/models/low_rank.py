"""The degree-normalised interaction matrix and its truncated singular value decomposition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.data.interactions import user_ranges
from edgerec.extras import require
from edgerec.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import scipy.sparse

DEFAULT_A, DEFAULT_B = 0.4, 0.4
"""Default degree exponents: within 2 % of the best of a grid on ML-100K and ML-1M."""
OVERSAMPLE = 16
"""Columns of the random range in addition to d."""
_POWER_ITERATIONS = 4
_FROM_START = 2
"""Power iterations from the vectors of a matrix with other exponents."""


def passes(from_start: bool) -> int:
    """Return the number of passes over the interactions, with vectors to start from or without."""
    return 1 + (_FROM_START if from_start else _POWER_ITERATIONS)


Factors = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def scaled_matrix(train: Interactions, a: float, b: float) -> scipy.sparse.csr_array[Any, Any]:
    """Return (n_users, n_items) float32: each interaction of user u and item i counts degree_u^-a degree_i^-b."""
    users = np.maximum(train.user_counts(), 1) ** -a
    items = np.maximum(train.item_counts(), 1) ** -b
    matrix = train.matrix()
    for first, end in user_ranges(train.indptr):  # products are float64
        part = slice(*train.indptr[[first, end]].tolist())
        counts = np.diff(train.indptr[first : end + 1])
        matrix.data[part] *= (np.repeat(users[first:end], counts) * items[train.indices[part]]).astype(np.float32)
    return matrix


def truncated_svd(
    matrix: scipy.sparse.csr_array[Any, Any],
    d: int,
    rng: np.random.Generator,
    start: NDArray[np.float32] | None = None,
    ranks: Ranks = ALONE,
) -> Factors:
    """Return the `d` largest singular values of `matrix` (n, m) with their vectors, the largest first.

    Each of several ranks has rows of the matrix, and returns those rows of u: a pass over the rows ends in one sum.

    A random range finder with power iterations, each orthonormalised (Halko, Martinsson and Tropp 2011,
    algorithms 4.4 and 5.1). BLAS runs on one thread, so the result does not depend on the machine's load.

    Args:
        start: (m, d) right singular vectors of a similar matrix, which halve the iterations.

    Returns:
        u (n, d), s (d,), v (m, d), float32. If d exceeds the smaller side, the rest is zero. Each column
        of v has its entry of largest magnitude positive, so that two seeds agree in sign.
    """
    n, m = int(ranks.total(matrix.shape[0])), matrix.shape[1]
    transposed = matrix.T.tocsr()
    with require("threadpoolctl", "train").threadpool_limits(1, user_api="blas"):
        basis = rng.standard_normal((m, min(d + OVERSAMPLE, n, m)), dtype=np.float32)
        if start is not None:
            basis[:, : min(d, basis.shape[1])] = start[:, : basis.shape[1]]
        for _ in range(_POWER_ITERATIONS if start is None else _FROM_START):
            basis = np.linalg.qr(ranks.sum(transposed @ (matrix @ basis))).Q
        left = _orthonormal(matrix @ basis, ranks)
        small_u, s, vt = map(ranks.first, np.linalg.svd(ranks.sum(transposed @ left).T, full_matrices=False))
        u = left @ small_u
    signs = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(axis=1)])
    return _pad(u * signs, d), _pad(s[None], d)[0], _pad((vt * signs[:, None]).T, d)


def _orthonormal(rows: NDArray[np.float32], ranks: Ranks) -> NDArray[np.float32]:
    """Return the rank's rows of an orthonormal basis of all rows (n, k), by the factors of each rank's rows."""
    q, r = np.linalg.qr(rows)
    if ranks.count == 1:
        return q
    first = int(ranks.gather(np.array([len(r)]))[: ranks.rank].sum())
    joined = ranks.first(np.linalg.qr(ranks.gather(r)).Q)
    return np.asarray(q @ joined[first : first + len(r)], np.float32)


def _pad(columns: NDArray[Any], d: int) -> NDArray[np.float32]:
    out = np.zeros((columns.shape[0], d), np.float32)
    width = min(d, columns.shape[1])
    out[:, :width] = columns[:, :width]
    return out
