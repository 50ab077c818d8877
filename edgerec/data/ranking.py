"""Exact top-k ranking of many users, in blocks on all cores, with the same result for any number of cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import Interactions

ScoreBlock = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Maps user rows (b,) to scores (b, n_items), in a new writable array."""
ScorePairs = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""Maps vectors of users (b, d) and of items (n, d) to scores (b, n), in a new array."""

_CHUNKS = 4
"""Chunks of columns for each of the k best."""
_SCORES_AT_ONCE = 1 << 22
"""Maximum number of scores a thread, 16 MiB: the system takes back larger arrays after each block, which costs time."""


def top_k(
    score_block: ScoreBlock,
    rows: NDArray[np.integer],
    n_items: int,
    k: int,
    *,
    seen: Sequence[Interactions] = (),
    threads: int | None = None,
) -> NDArray[np.int32]:
    """Return the k best items of each user, best first; of equal scores the lower item row comes first.

    Args:
        score_block: returns the scores of all items for some users; called by several threads at once, with the same
            blocks of rows for any number of threads. Scores must not be NaN.
        rows: (n,) user rows.
        k: number of items.
        seen: interactions whose items are excluded for their user.
        threads: maximum number of threads; by default one a core.

    Returns:
        (n, k) int32 item rows, padded with -1 if fewer than k remain.
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


def top_k_of_vectors(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    rows: NDArray[np.integer],
    k: int,
    *,
    seen: Sequence[Interactions] = (),
    threads: int | None = None,
    scores: ScorePairs | None = None,
) -> NDArray[np.int32]:
    """Return the k best items of each user, as `top_k` does, of users (n_users, d) and items (n_items, d).

    Args:
        scores: scores of pairs of vectors; by default the dot product, for which users of similar sizes share a block,
            in the dimensions of its largest user.
    """
    if scores is not None:
        return top_k(lambda block: scores(users[block], items), rows, len(items), k, seen=seen, threads=threads)
    transposed = np.ascontiguousarray(items.T)
    sizes = np.minimum(sizes_of(users), sizes_of(items).max(initial=0))
    order = np.argsort(sizes[rows], kind="stable")

    def dots(block: NDArray[np.int64]) -> NDArray[np.float32]:
        width = int(sizes[block].max())
        return users[block, :width] @ transposed[:width]

    best = np.empty((len(rows), k), np.int32)
    best[order] = top_k(dots, rows[order], len(items), k, seen=seen, threads=threads)
    return best


def sizes_of(table: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return (n,) sizes of the shortest prefixes of rows of `table` (n, d) with all values that are not zero."""
    sizes = np.zeros(len(table), np.int64)
    for dimension in range(table.shape[1]):
        sizes[table[:, dimension] != 0] = dimension + 1
    return sizes


def best_of(scores: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Return the columns of the k largest scores of each row, best first, equal ones by column; -1 for -inf.

    The k-th largest of the maxima of chunks of columns is no larger than the k-th largest score, and few scores reach
    it: only those are sorted. Scores (b, n) with k <= n.
    """
    n = scores.shape[1]
    starts = np.arange(0, n, max(1, n // (_CHUNKS * k)))
    maxima = np.maximum.reduceat(scores, starts, axis=1)
    bounds = np.partition(maxima, len(starts) - k, axis=1)[:, len(starts) - k]
    at = np.flatnonzero(scores >= np.maximum(bounds, np.finfo(scores.dtype).min)[:, None])
    rows, columns = np.divmod(at, n)
    order = np.lexsort((-scores.ravel()[at], rows))  # stable: equal ones stay in the order of their columns
    places = np.arange(len(at)) - np.searchsorted(rows, np.arange(len(scores)))[rows]
    first = places < k
    best = np.full((len(scores), k), -1, np.int32)
    best[rows[first], places[first]] = columns[order[first]]
    return best


def _mask(scores: NDArray[np.float32], part: Interactions, rows: NDArray[np.int64]) -> None:
    """Set scores (b, n_items) of user rows (b,) to -inf for the interactions of `part`."""
    counts = part.user_counts()[rows]
    starts = part.indptr[rows] - (np.cumsum(counts) - counts)
    entries = np.arange(counts.sum()) + np.repeat(starts, counts)
    scores[np.repeat(np.arange(len(rows)), counts), part.indices[entries]] = -np.inf


def _one_blas_thread_each() -> AbstractContextManager[object]:
    """Limit BLAS to one thread inside ours; without threadpoolctl ranking is only slower."""
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
