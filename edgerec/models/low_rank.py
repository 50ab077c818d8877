"""The degree-normalised interaction matrix and its truncated singular value decomposition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.data.interactions import user_ranges
from edgerec.extras import require
from edgerec.models.torch_tools import device_of
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
_BLOCK = 1 << 14
"""Rows in float64 at once."""


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
    ranks: Ranks = ALONE,
    device: str = "cpu",
) -> Factors:
    """Return the `d` largest singular values of `matrix` (n, m) with their vectors, as `right_vectors` does.

    Each of several ranks has rows of the matrix, and returns those rows of u.

    Returns:
        u (n, d), s (d,), v (m, d), float32.
    """
    s, v = right_vectors(matrix, d, rng, None, ranks, device)
    columns = v * _inverse(s).astype(np.float32)
    if device == "cpu":
        return matrix @ columns, s, v
    from edgerec.models.on_device import product

    return product(matrix, columns, device_of(device)), s, v


def right_vectors(
    matrix: scipy.sparse.csr_array[Any, Any],
    d: int,
    rng: np.random.Generator,
    start: NDArray[np.float32] | None = None,
    ranks: Ranks = ALONE,
    device: str = "cpu",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the `d` largest singular values of `matrix` (n, m), the largest first, with their right vectors.

    Each of several ranks has rows of the matrix: a pass over the rows ends in one sum.

    A random range finder with power iterations, each orthonormalised (Halko, Martinsson and Tropp 2011,
    algorithms 4.4 and 5.1). Nothing has a row for each user but the matrix: the vectors follow from Gram matrices in
    float64. BLAS runs on one thread, so the result does not depend on the machine's load.

    Args:
        start: (m, d) right singular vectors of a similar matrix, which halve the iterations.
        device: name of the device of products and orthonormalisations; other than the CPU, of one rank.

    Returns:
        s (d,), v (m, d), float32. If d exceeds the rank, the rest is zero. Each column of v has its entry of largest
        magnitude positive, so that two seeds agree in sign.
    """
    n, m = int(ranks.total(matrix.shape[0])), matrix.shape[1]
    with require("threadpoolctl", "train").threadpool_limits(1, user_api="blas"):
        basis = rng.standard_normal((m, min(d + OVERSAMPLE, n, m)), dtype=np.float32)
        if start is not None:
            basis[:, : min(d, basis.shape[1])] = start[:, : basis.shape[1]]
        iterations = _POWER_ITERATIONS if start is None else _FROM_START
        if device == "cpu":
            image, gram = _iterated(matrix, basis, iterations, ranks)
        else:
            from edgerec.models.on_device import iterated

            image, gram = iterated(matrix, basis, iterations, device_of(device))
        factor, s = map(ranks.first, _largest(gram, _product(image, image)))
        v = image @ factor[:, :d]
    v *= np.sign(v[np.abs(v).argmax(axis=0), np.arange(v.shape[1])])
    return _pad(s[None], d)[0], _pad(ranks.first(v), d)


def _iterated(
    matrix: scipy.sparse.csr_array[Any, Any], basis: NDArray[np.float32], iterations: int, ranks: Ranks
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return M' M Q (m, k) and the Gram matrix of M Q, Q the orthonormal basis (m, k) after the power iterations."""
    from scipy.linalg import qr

    for _ in range(iterations):
        basis = qr(ranks.sum(_passed(matrix, basis)), mode="economic", check_finite=False)[0]
    gram = np.zeros((basis.shape[1], basis.shape[1]))
    image = ranks.sum(_passed(matrix, basis, gram))
    return image, ranks.sum(gram)


def _passed(
    matrix: scipy.sparse.csr_array[Any, Any], columns: NDArray[np.float32], gram: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Return M' M `columns` (m, k), by ranges of the rows of M; add the Gram matrix of M `columns` to `gram`."""
    total = np.zeros_like(columns)
    for first, end in user_ranges(matrix.indptr):
        rows = matrix[first:end]
        image = rows @ columns
        total += rows.T @ image
        if gram is not None:
            gram += _product(image, image)
    return total


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return left' right (k, k), summed in float64."""
    total = np.zeros((left.shape[1], right.shape[1]))
    for first in range(0, len(left), _BLOCK):
        part = slice(first, first + _BLOCK)
        total += left[part].astype(np.float64).T @ right[part].astype(np.float64)
    return total


def _largest(left: NDArray[np.float64], right: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (k, k) F such that M' M Q F has the right singular vectors of M in the span of M Q, and their values (k,).

    Args:
        left: the Gram matrix of M Q.
        right: that of M' M Q.
    """
    squares, vectors = np.linalg.eigh(left)
    orthonormal = vectors * _inverse(np.sqrt(np.maximum(squares, 0)))
    squares, vectors = np.linalg.eigh(orthonormal.T @ right @ orthonormal)
    s = np.sqrt(np.maximum(squares, 0))[::-1]
    factor = orthonormal @ vectors[:, ::-1] * _inverse(s)
    return factor.astype(np.float32), s.astype(np.float32)


def _inverse(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 / values, 0 for those below float32's precision next to the largest."""
    known = values > np.finfo(np.float32).eps * values.max(initial=0)
    inverse: NDArray[np.float64] = np.divide(1.0, values, out=np.zeros(len(values)), where=known)
    return inverse


def _pad(columns: NDArray[Any], d: int) -> NDArray[np.float32]:
    out = np.zeros((columns.shape[0], d), np.float32)
    width = min(d, columns.shape[1])
    out[:, :width] = columns[:, :width]
    return out
