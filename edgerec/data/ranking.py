"""The k best items of many users: exact, in blocks, on all cores, the same whatever their number."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import Interactions

ScoreBlock = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""From user rows (b,) to scores (b, n_items), in a new array that may be written to."""

_CHUNK = 128
_SCORES_AT_ONCE = 1 << 22
"""16 MiB of scores a thread: larger arrays go back to the system after each block, which costs time."""


def top_k(
    score_block: ScoreBlock,
    rows: NDArray[np.integer],
    n_items: int,
    k: int,
    *,
    seen: Sequence[Interactions] = (),
    threads: int | None = None,
) -> NDArray[np.int32]:
    """The k best items of each user, best first; of equal scores the lower item row comes first.

    Args:
        score_block: scores of all items for some users; called by several threads at once, with the same
            blocks of rows whatever their number. Scores must not be NaN.
        rows: (n,) user rows.
        k: items wanted.
        seen: interactions whose items are left out for their user.
        threads: at most so many at once; by default one a core.

    Returns:
        (n, k) int32 item rows, padded with -1 where fewer than k are left.
    """
    best = np.full((len(rows), k), -1, np.int32)
    size = max(1, min(256, _SCORES_AT_ONCE // max(n_items, 1)))

    def work(start: int) -> None:
        block = np.asarray(rows[start : start + size], np.int64)
        scores = score_block(block)
        for part in seen:
            _mask(scores, part, block)
        width = min(k, n_items)
        best[start : start + size, :width] = best_of(scores, width)

    workers = threads or os.cpu_count() or 1
    with _one_blas_thread_each(), ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(0, len(rows), size)))
    return best


def best_of(scores: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Columns of the k largest scores of each row, best first, equal ones by column; -1 where they are -inf.

    The k chunks of columns with the largest maxima hold the k largest scores, which spares all but one pass
    over the rest. Scores (b, n) with k <= n.
    """
    maxima = np.maximum.reduceat(scores, np.arange(0, scores.shape[1], _CHUNK), axis=1)
    columns = _columns_of_best_chunks(maxima, k, scores.shape[1])
    candidates = np.take_along_axis(scores, np.minimum(columns, scores.shape[1] - 1), 1)
    candidates[columns >= scores.shape[1]] = -np.inf
    chosen = np.argpartition(candidates, candidates.shape[1] - k, axis=1)[:, -k:]
    values = np.take_along_axis(candidates, chosen, 1)
    items = np.take_along_axis(columns, chosen, 1)
    order = np.lexsort((items, -values), axis=1)
    best = np.where(np.isneginf(values), -1, items)
    best = np.take_along_axis(best, order, 1).astype(np.int32)
    # Of scores equal to the k-th, here or in chunks that were not chosen, the column settles which count.
    worst = values.min(axis=1, keepdims=True)
    tied = ((candidates >= worst).sum(axis=1) > k) | ((maxima >= worst).sum(axis=1) > k)
    for row in np.flatnonzero(tied):
        best[row] = _best_of_row(scores[row], k, worst[row, 0])
    return best


def _columns_of_best_chunks(maxima: NDArray[np.float32], k: int, n: int) -> NDArray[np.int64]:
    """(b, k * chunk) columns, some of them past the end, or (b, n) where there are no more than k chunks."""
    if maxima.shape[1] <= k:
        return np.broadcast_to(np.arange(n), (len(maxima), n))
    chunks = np.argpartition(maxima, maxima.shape[1] - k, axis=1)[:, -k:]
    return (chunks[:, :, None] * _CHUNK + np.arange(_CHUNK)).reshape(len(maxima), -1)


def _best_of_row(scores: NDArray[np.float32], k: int, worst: np.float32) -> NDArray[np.int64]:
    columns = np.flatnonzero((scores >= worst) & ~np.isneginf(scores))
    best = columns[np.argsort(-scores[columns], kind="stable")[:k]]
    return np.concatenate([best, np.full(k - len(best), -1)])


def _mask(scores: NDArray[np.float32], part: Interactions, rows: NDArray[np.int64]) -> None:
    """Put -inf where `part` has an interaction: scores (b, n_items), rows (b,)."""
    counts = part.user_counts()[rows]
    starts = part.indptr[rows] - (np.cumsum(counts) - counts)
    entries = np.arange(counts.sum()) + np.repeat(starts, counts)
    scores[np.repeat(np.arange(len(rows)), counts), part.indices[entries]] = -np.inf


def _one_blas_thread_each() -> AbstractContextManager[object]:
    """Keeps BLAS from starting its own threads under ours; without threadpoolctl it is only slower."""
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
