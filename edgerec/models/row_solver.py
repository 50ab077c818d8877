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
from edgerec.models.torch_tools import device_of
from edgerec.ranks import ALONE, Ranks

Floats = NDArray[np.float32]

_BLOCK_FLOATS = 1 << 19
"""Gathered floats in a block: 2 MB stay in a core's cache. ML-1M is 1.5 times slower at a quarter of it."""
_DEVICE_FLOATS = 1 << 24
"""The same on a GPU: 64 MB, and four times as much while a block is solved."""
_WIDTH_STEP = 8
"""Rows whose sizes round up to the same multiple of this share blocks, so that small rows cost little."""
_NEGLIGIBLE = 2.0**-60
"""A row of smaller values is on its way to zero, from solve to solve, as those of users and items are that share no
interaction with any others and that the dimensions do not suffice for. Their scores would leave float32's range."""


@dataclass(frozen=True)
class Penalties:
    """Factors of rows' ridge penalties, of which there are few: each takes a factorisation.

    Attributes:
        factors: the distinct factors, the same on all ranks.
        which: (n_rows,) the number of each row's factor.
    """

    factors: tuple[float, ...]
    which: NDArray[np.int64]

    @classmethod
    def by_count(cls, counts: NDArray[np.integer[Any]], exponent: float, ranks: Ranks = ALONE) -> Penalties | None:
        """Return (count / mean count)^exponent of each row, counts rounded to powers of 2; None for an exponent of 0.

        Rows of `counts` (n_rows,) observations, of several ranks the rank's own.
        """
        if exponent == 0:
            return None
        counts_of_all = ranks.gather(counts)
        present, which = np.unique(np.floor(np.log2(np.maximum(counts_of_all, 1))), return_inverse=True)
        first = int(ranks.gather(np.array([len(counts)]))[: ranks.rank].sum())
        mean = max(float(counts_of_all.mean()), 1.0)
        factors = (2 ** (present + 0.5) / mean) ** exponent
        return cls(tuple(factors.tolist()), which[first : first + len(counts)].astype(np.int64))

    def of(self, rows: NDArray[np.int64]) -> Penalties:
        """Return the factors of some rows."""
        return Penalties(self.factors, self.which[rows])


def ridge(rows: Floats, penalties: Penalties | None) -> float:
    """Return the sum of the squared norms of rows (n_rows, d), each times its factor."""
    if penalties is None:
        return float(np.square(rows, dtype=np.float64).sum())
    norms = np.square(rows, dtype=np.float64).sum(1)
    return float(np.take(penalties.factors, penalties.which) @ norms)


def weights_by_count(counts: NDArray[np.integer[Any]], exponent: float, ranks: Ranks = ALONE) -> Floats | None:
    """Return (n,) weights count^-exponent of columns, whose mean over observations is 1; None for an exponent of 0."""
    if exponent == 0:
        return None
    sums = np.maximum(counts, 1).astype(np.float64)
    weights = sums**-exponent
    weights *= ranks.total(float(sums.sum())) / ranks.total(float((weights * sums).sum()))
    return np.asarray(weights, np.float32)


@dataclass(frozen=True)
class Block:
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
        penalties: Penalties | None = None,
        device: str = "cpu",
    ) -> None:
        """Plan the blocks.

        Args:
            indptr: (n_rows + 1,) CSR row pointers of the observations.
            indices: (n,) column numbers under n_columns.
            d: dimensions of a full row.
            sizes: (n_rows,) dimensions of each row in 1..d, or None for all full.
            penalties: factors of the rows' ridge penalties, or None for 1.
            device: name of the device that solves; other than the CPU, of one rank.
        """
        self._n_rows, self._d, self._device = len(indptr) - 1, d, device
        floats = _BLOCK_FLOATS if device == "cpu" else _DEVICE_FLOATS
        penalties = penalties or Penalties((1.0,), np.zeros(self._n_rows, np.int64))
        self._groups = [
            (
                factor,
                list(_plan(np.flatnonzero(penalties.which == number), indptr, indices, n_columns, d, sizes, floats)),
            )
            for number, factor in enumerate(penalties.factors)
        ]
        self._blas = require("threadpoolctl", "train").ThreadpoolController()

    def solve(
        self,
        other: Floats,
        alpha: float,
        reg: float,
        threads: int | None = None,
        ranks: Ranks = ALONE,
        weights: Floats | None = None,
    ) -> tuple[Floats, float]:
        """Return all rows at their optimum.

        Args:
            other: (n_columns, d) float32, Y; the rank's own rows of it, of several ranks.
            alpha: additional confidence of an observation, at least 0.
            reg: ridge penalty, above 0.
            threads: number of threads; None for one a core.
            ranks: each solves rows of its own; d x d numbers are summed, and Y is gathered.
            weights: (n_columns,) positive weights of the columns' cells, as Y by rank; None for 1.

        Returns:
            rows (n_rows, d) float32, negligible ones as zeros, and (1 + alpha) sum over observed of x.y: at the optimum
            the loss is (1 + alpha) n minus this, plus the other side's ridge.
        """
        targets = None
        if weights is not None:  # a cell of weight w is one of vector and target times the root of w
            roots = np.sqrt(weights)
            other = other * roots[:, None]
            targets = np.append(ranks.gather(roots), np.float32(0))
        if self._device != "cpu":
            from edgerec.models.on_device import solve_rows

            rows = np.zeros((self._n_rows, self._d), np.float32)
            fit = solve_rows(self._groups, other, alpha, reg, targets, rows, device_of(self._device))
            return rows, (1 + alpha) ** 2 * fit
        with self._blas.limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            gram = ranks.sum(other.T @ other).astype(np.float64)
            rows, total = np.zeros((self._n_rows, self._d), np.float32), 0.0
            gathered = len(self._groups) > 1  # once, and not for each of the penalties
            other = ranks.gather(other) if gathered else other
            for factor, blocks in self._groups:
                back = whitener(gram, reg * factor)
                turned = other @ back if gathered else ranks.gather(other @ back)
                whitened = np.concatenate([turned, np.zeros((1, self._d), np.float32)])
                run = _Solve(back, whitened, blocks, alpha, targets, rows)
                total += sum(pool.map(run, blocks))
        return rows, (1 + alpha) ** 2 * total


class _Solve:
    """Solves blocks of rows of one penalty into a table of all rows."""

    def __init__(
        self, back: Floats, whitened: Floats, blocks: list[Block], alpha: float, targets: Floats | None, rows: Floats
    ) -> None:
        self._back, self._alpha, self._targets, self._rows = back, alpha, targets, rows
        self._tables = {w: np.ascontiguousarray(whitened[:, :w]) for w in {b.width for b in blocks}}

    def __call__(self, block: Block) -> float:
        """Solve a block and return its part of the fit."""
        z, fit = _solve_block(block, self._tables[block.width], self._alpha, self._targets)
        solved = (1 + self._alpha) * (z @ self._back[: block.width, : block.width].T)
        store(solved, block, self._rows)
        return fit


def store(solved: Floats, block: Block, rows: Floats) -> None:
    """Write the solved rows (k, width) of a block into those of all blocks, negligible ones as zeros."""
    solved[np.abs(solved).max(1) < _NEGLIGIBLE] = 0
    rows[block.rows, : block.width] = solved


def _plan(
    among: NDArray[np.int64],
    indptr: NDArray[np.integer[Any]],
    indices: NDArray[np.integer[Any]],
    n_columns: int,
    d: int,
    sizes: NDArray[np.int64] | None,
    floats: int,
) -> Iterator[Block]:
    """Yield the rows of `among` with observations in blocks of about `floats` floats, widest and longest first."""
    counts = np.diff(indptr)
    own = np.full(len(counts), d, np.int64) if sizes is None else sizes
    widths = np.minimum(-(-own // _WIDTH_STEP) * _WIDTH_STEP, d)
    order = among[np.lexsort((counts[among], widths[among]))[::-1]]
    order = order[counts[order] > 0]
    while len(order):
        length, width = int(counts[order[0]]), int(widths[order[0]])
        taken = max(1, floats // (length * width))
        rows = order[:taken][widths[order[:taken]] == width]
        order = order[len(rows) :]
        offsets = np.arange(length)
        inside = offsets < counts[rows, None]
        positions = np.where(inside, indptr[rows, None] + offsets, 0)
        columns = np.where(inside, indices[positions], n_columns)
        mask = None if (own[rows] == width).all() else prefix_mask(own[rows], width)
        yield Block(rows, columns, width, mask)


def whitener(gram: NDArray[np.float64], reg: float) -> Floats:
    """Return L^-T, upper triangular, for L L' = gram + reg I."""
    gram = gram.copy()
    gram.flat[:: len(gram) + 1] += reg
    return np.triu(np.linalg.inv(np.linalg.cholesky(gram)).T).astype(np.float32)


def _solve_block(block: Block, table: Floats, alpha: float, targets: Floats | None) -> tuple[Floats, float]:
    """Solve (I + alpha Z'Z) z = Z' t for each row's Z (n, width); return z (k, width) and the sum of t'Z z.

    t are the targets of the row's columns, of `targets` (n_columns + 1,), or ones.
    """
    gathered = np.take(table, block.columns, axis=0)
    if block.mask is not None:
        gathered *= block.mask[:, None, :]
    transposed = gathered.transpose(0, 2, 1)
    aims = None if targets is None else targets[block.columns][..., None]
    total = gathered.sum(axis=1) if aims is None else (gathered * aims).sum(axis=1)
    if block.columns.shape[1] < block.width:
        aims = np.ones((*block.columns.shape, 1), np.float32) if aims is None else aims
        z = (transposed @ np.linalg.solve(_ridged(gathered @ transposed, alpha), aims))[..., 0]
    else:
        z = np.linalg.solve(_ridged(transposed @ gathered, alpha), total[..., None])[..., 0]
    return z, float(np.vdot(total, z))


def _ridged(gram: Floats, alpha: float) -> Floats:
    """Compute I + alpha gram in place."""
    gram *= np.float32(alpha)
    diagonal = np.arange(gram.shape[-1])
    gram[:, diagonal, diagonal] += 1
    return gram
