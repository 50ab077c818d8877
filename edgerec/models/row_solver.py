"""Exact least-squares rows of implicit ALS, many at a time: padded blocks, batched products, threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require
from edgerec.models.base import prefix_mask
from edgerec.ranks import ALONE, Ranks

Floats = NDArray[np.float32]

_BLOCK_FLOATS = 1 << 19
"""Gathered floats in a block: 2 MB stay in a core's cache. ML-1M is 1.5 times slower at a quarter of it."""
_WIDTH_STEP = 8
"""Rows whose sizes round up to the same multiple of this share blocks, so that small rows cost little."""
_NEGLIGIBLE = 2.0**-60
"""A row of smaller values is on its way to zero, from solve to solve, as those of users and items are that share no
interaction with any others and that the dimensions do not suffice for. Their scores would leave float32's range."""


@dataclass(frozen=True)
class _Block:
    """Rows of like count and size, solved together.

    Attributes:
        rows: (k,) row numbers.
        columns: (k, n) observed columns of each row, padded with the number of columns (an all-zero vector).
        width: number of dimensions of the solve.
        mask: (k, width) bool, or None if every row is as wide as the block.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    width: int
    mask: NDArray[np.bool_] | None


class RowSolver:
    """Solves each row x of one side given the other side's vectors Y (Hu, Koren and Volinsky 2008, sec. 4).

    x minimises sum over observed of (1 + alpha)(1 - x.y)^2 + sum over unobserved of (x.y)^2 + reg |x|^2
    within the row's first size dimensions: (Y'Y + reg I + alpha Y_u'Y_u) x = (1 + alpha) Y_u' 1.

    With Y'Y + reg I = L L' and Z = Y L^-T this is (I + alpha Z_u'Z_u) z = Z_u' 1, x = (1 + alpha) L^-T z.
    L^-T is upper triangular, so a leading block of dimensions never sees the later ones, and one
    factorisation serves every size. A row with fewer observations than dimensions is solved in observations
    instead: z = Z_u' (I + alpha Z_u Z_u')^-1 1.

    Blocks are fixed at construction and BLAS runs on one thread inside each, so the result does not depend on
    the number of threads.
    """

    def __init__(
        self,
        indptr: NDArray[np.integer[Any]],
        indices: NDArray[np.integer[Any]],
        n_columns: int,
        d: int,
        sizes: NDArray[np.int64] | None = None,
    ) -> None:
        """Plan the blocks.

        Args:
            indptr: (n_rows + 1,) CSR row pointers of the observations.
            indices: (n,) column numbers under n_columns.
            d: dimensions of a full row.
            sizes: (n_rows,) dimensions of each row in 1..d, or None for all full.
        """
        self._n_rows, self._d = len(indptr) - 1, d
        self._blocks = list(_plan(indptr, indices, n_columns, d, sizes))
        self._blas = require("threadpoolctl", "train").ThreadpoolController()

    def solve(
        self, other: Floats, alpha: float, reg: float, threads: int | None = None, ranks: Ranks = ALONE
    ) -> tuple[Floats, float]:
        """Return all rows at their optimum.

        Args:
            other: (n_columns, d) float32, Y; the rank's own rows of it, of several ranks.
            alpha: additional confidence of an observation, at least 0.
            reg: ridge penalty, above 0.
            threads: number of threads; None for one a core.
            ranks: each solves rows of its own; d x d numbers are summed, and Y is gathered.

        Returns:
            rows (n_rows, d) float32, negligible ones as zeros, and (1 + alpha) sum over observed of x.y: at the optimum
            the loss is (1 + alpha) n minus this, plus the other side's ridge.
        """
        with self._blas.limit(limits=1, user_api="blas"):
            back = _whitener(other, reg, ranks)
            whitened = np.concatenate([ranks.gather(other @ back), np.zeros((1, self._d), np.float32)])
            tables = {w: np.ascontiguousarray(whitened[:, :w]) for w in {b.width for b in self._blocks}}
            rows = np.zeros((self._n_rows, self._d), np.float32)

            def run(block: _Block) -> float:
                z, fit = _solve_block(block, tables[block.width], alpha)
                solved = (1 + alpha) * (z @ back[: block.width, : block.width].T)
                solved[np.abs(solved).max(1) < _NEGLIGIBLE] = 0
                rows[block.rows, : block.width] = solved
                return fit

            with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
                fit = sum(pool.map(run, self._blocks))
        return rows, (1 + alpha) ** 2 * fit


def _plan(
    indptr: NDArray[np.integer[Any]],
    indices: NDArray[np.integer[Any]],
    n_columns: int,
    d: int,
    sizes: NDArray[np.int64] | None,
) -> Iterator[_Block]:
    """Yield the rows with observations in blocks of about _BLOCK_FLOATS floats, the widest and longest first."""
    counts = np.diff(indptr)
    own = np.full(len(counts), d, np.int64) if sizes is None else sizes
    widths = np.minimum(-(-own // _WIDTH_STEP) * _WIDTH_STEP, d)
    order = np.lexsort((counts, widths))[::-1]
    order = order[counts[order] > 0]
    while len(order):
        length, width = int(counts[order[0]]), int(widths[order[0]])
        taken = max(1, _BLOCK_FLOATS // (length * width))
        rows = order[:taken][widths[order[:taken]] == width]
        order = order[len(rows) :]
        offsets = np.arange(length)
        inside = offsets < counts[rows, None]
        positions = np.where(inside, indptr[rows, None] + offsets, 0)
        columns = np.where(inside, indices[positions], n_columns)
        mask = None if (own[rows] == width).all() else prefix_mask(own[rows], width)
        yield _Block(rows, columns, width, mask)


def _whitener(other: Floats, reg: float, ranks: Ranks) -> Floats:
    """Return L^-T, upper triangular, for L L' = Y'Y + reg I."""
    gram = ranks.sum(other.T @ other).astype(np.float64)
    gram.flat[:: len(gram) + 1] += reg
    return np.triu(np.linalg.inv(np.linalg.cholesky(gram)).T).astype(np.float32)


def _solve_block(block: _Block, table: Floats, alpha: float) -> tuple[Floats, float]:
    """Solve (I + alpha Z'Z) z = Z' 1 for each row's Z (n, width); return z (k, width) and the sum of 1'Z z."""
    gathered = np.take(table, block.columns, axis=0)
    if block.mask is not None:
        gathered *= block.mask[:, None, :]
    transposed = gathered.transpose(0, 2, 1)
    total = gathered.sum(axis=1)
    if block.columns.shape[1] < block.width:
        ones = np.ones((*block.columns.shape, 1), np.float32)
        z = (transposed @ np.linalg.solve(_ridged(gathered @ transposed, alpha), ones))[..., 0]
    else:
        z = np.linalg.solve(_ridged(transposed @ gathered, alpha), total[..., None])[..., 0]
    return z, float(np.vdot(total, z))


def _ridged(gram: Floats, alpha: float) -> Floats:
    """Compute I + alpha gram in place."""
    gram *= np.float32(alpha)
    diagonal = np.arange(gram.shape[-1])
    gram[:, diagonal, diagonal] += 1
    return gram
