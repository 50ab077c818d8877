"""The degree-normalised interaction matrix and its truncated singular value decomposition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
STEPS = 16
"""Steps of the block Lanczos method. The singular values of sparse data are close to each other: with half the steps
the vectors of the smaller ones are those of a random mixture."""
_LEAST_COLUMNS = 8
_OUTSIDE = 0.5
"""Columns of length 1 that keep less of it outside the span of those before are within it."""
_RANK = 1e-6
"""Squares of singular values below this share of the largest are taken for rounding errors of float32."""


def lanczos_blocks(d: int, n_items: int) -> tuple[int, int]:
    """Return the columns of a block for `d` singular vectors and the number of blocks, a pass over the data each.

    All columns together are four times as many as vectors, or as many as items.
    """
    columns = min(max(-(-4 * d // STEPS), _LEAST_COLUMNS), n_items)
    return columns, min(STEPS, -(-n_items // columns))


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
    """Return the `d` largest singular values of `matrix` (n, m) with their vectors, as `Krylov` does.

    Each of several ranks has rows of the matrix, and returns those rows of u.

    Returns:
        u (n, d), s (d,), v (m, d), float32.
    """
    s, v = krylov(matrix, d, rng, ranks, device).right_vectors(d)
    columns = v * _inverse(s).astype(np.float32)
    if device == "cpu":
        return matrix @ columns, s, v
    from edgerec.models.on_device import product

    return product(matrix, columns, device_of(device)), s, v


@dataclass(frozen=True)
class Krylov:
    """The space that block Lanczos steps found in the items of a matrix M.

    Attributes:
        basis: (n_items, k) orthonormal columns, those of each step after those before.
        projected: (k, k) lower triangle of M' M projected on them.
        columns: the columns of a step.
    """

    basis: NDArray[np.float32]
    projected: NDArray[np.float64]
    columns: int

    def right_vectors(self, d: int, steps: int = STEPS) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the `d` largest singular values of M (d,), the largest first, and their right vectors (n_items, d).

        They are approximate after few steps: then many smaller values mix with those of about the same size.

        Returns:
            s, v, float32. Values below a thousandth of the largest are zero, with their vectors. Each column of v has
            its entry of largest magnitude positive, so that two seeds agree in sign.
        """
        k = max(steps * self.columns, -(-d // self.columns) * self.columns)
        basis, projected = self.basis[:, :k], self.projected[:k, :k]
        squares, vectors = np.linalg.eigh(projected)
        squares, vectors = squares[: -d - 1 : -1], vectors[:, : -d - 1 : -1]
        squares = np.where(squares > _RANK * squares.max(initial=0), squares, 0)
        with require("threadpoolctl", "train").threadpool_limits(1, user_api="blas"):
            v = basis @ (vectors * (squares > 0)).astype(np.float32)
        v *= np.sign(v[np.abs(v).argmax(axis=0), np.arange(v.shape[1])])
        return _pad(np.sqrt(squares).astype(np.float32)[None], d)[0], _pad(v, d)


def krylov(
    matrix: scipy.sparse.csr_array[Any, Any],
    d: int,
    rng: np.random.Generator,
    ranks: Ranks = ALONE,
    device: str = "cpu",
) -> Krylov:
    """Return a space of four times `d` dimensions that has the right singular vectors of `matrix` (n, m).

    Each of several ranks has rows of the matrix: a pass over the rows ends in one sum.

    The block Lanczos method from a random block (Golub and Underwood 1977; Musco and Musco 2015, algorithm 2), on M' M,
    so that nothing has a row for each user but the matrix. Blocks are orthogonalised against all before them. BLAS runs
    on one thread, so the result does not depend on the machine's load.

    Args:
        device: name of the device of the products; other than the CPU, of one rank.
    """
    m = matrix.shape[1]
    passed = partial(_passed, matrix)
    if device != "cpu":
        from edgerec.models.on_device import image_of_items

        passed = partial(image_of_items, matrix, device=device_of(device))
    columns, blocks = lanczos_blocks(d, m)
    with require("threadpoolctl", "train").threadpool_limits(1, user_api="blas"):
        block = rng.standard_normal((m, columns), dtype=np.float32)
        basis, projected = _lanczos(block, blocks, lambda block: ranks.sum(passed(block)))
    return Krylov(ranks.first(basis), ranks.first(projected), columns)


def _lanczos(
    block: NDArray[np.float32], blocks: int, passed: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return orthonormal columns (m, k), and M' M projected on them (k, k), of which only the lower triangle counts.

    Columns that the span of those before leaves no room for are zero.

    Args:
        block: (m, b), from which the first columns are computed.
        blocks: k / b.
        passed: returns M' M times a block.
    """
    from scipy.linalg import qr

    m, b = block.shape
    k = blocks * b
    basis, projected = np.zeros((m, k), np.float32, order="F"), np.zeros((k, k))
    basis[:, :b] = qr(block, mode="economic", check_finite=False)[0]
    for first, end in zip(range(0, k, b), range(b, k + b, b), strict=True):
        known = basis[:, :end]
        image = passed(known[:, first:])
        projected[:end, first:end] = part = known.T @ image
        if end < k:
            q, r = qr(image - known @ part, mode="economic", check_finite=False)
            # What was small has rounding errors in the span of the known columns; what is all errors comes last.
            q, again, order = qr(q - known @ (known.T @ q), mode="economic", pivoting=True, check_finite=False)
            outside = np.abs(np.diag(again)) > _OUTSIDE
            basis[:, end : end + b] = q * outside
            projected[end : end + b, first:end] = again @ r[order] * outside[:, None]
    return basis, projected


def _passed(matrix: scipy.sparse.csr_array[Any, Any], block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return M' M `block` (m, b), by ranges of the rows of M."""
    block = np.ascontiguousarray(block)
    total = np.zeros_like(block)
    for first, end in user_ranges(matrix.indptr):
        rows = matrix[first:end]
        total += rows.T @ (rows @ block)
    return total


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
