"""The best of an allow-list, by graphs that know no allow-lists.

A short list is scored by the `score` graph and its best are kept; of a long one, everything else is excluded from the
`recommend` graph. Where one becomes cheaper than the other follows from both costs, at a million items: a candidate is
looked up and multiplied for 5 to 13 ns a dimension, the rest of the catalogue is excluded for 8 ns an item, so that
they meet about where the list has as many values as the catalogue has items (bench/results/allow-1m.json).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

VALUES_AT_ONCE = 1 << 17
"""Of candidates that are looked up in one call: 6 MB at work, and quicker than all at once."""

Score = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""(B, C) candidates to their scores."""


def best_of(
    score: Score, allowed: NDArray[np.int64], excluded: NDArray[np.int64], k: int, at_once: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k best of those allowed that are not excluded, best first, of equal scores the lower row.

    Args:
        allowed: (B, A) item rows padded with -1; repetitions count once.
        excluded: (B, E) item rows padded with -1.
        at_once: candidates of one call.

    Returns:
        items (B, k) int64, scores (B, k) float32; item -1 and score -inf where fewer are left.
    """
    left = [np.setdiff1d(rows, [*gone, -1]) for rows, gone in zip(allowed, excluded, strict=True)]
    candidates = padded(left)
    best, best_scores = np.empty((len(left), 0), np.int64), np.empty((len(left), 0), np.float32)
    for start in range(0, candidates.shape[1], at_once):
        part = candidates[:, start : start + at_once]
        scores = np.where(part < 0, np.float32(-np.inf), score(np.maximum(part, 0)))
        part, scores = np.hstack([best, part]), np.hstack([best_scores, scores])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, best_scores = np.take_along_axis(part, order, 1), np.take_along_axis(scores, order, 1)
    missing = ((0, 0), (0, k - best.shape[1]))
    return np.pad(best, missing, constant_values=-1), np.pad(best_scores, missing, constant_values=-np.inf)


def the_rest(allowed: NDArray[np.int64], excluded: NDArray[np.int64], n_items: int) -> NDArray[np.int64]:
    """(B, E') what to exclude where these are allowed (B, A) and those are excluded (B, E); padded with -1."""
    out = np.ones((len(allowed), n_items + 1), bool)  # the last one stands for padding
    np.put_along_axis(out, allowed, False, 1)
    np.put_along_axis(out, excluded, True, 1)
    return padded([np.flatnonzero(row[:-1]) for row in out])


def padded(lists: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """(n, longest) with -1 behind the shorter ones."""
    full = np.full((len(lists), max(map(len, lists), default=0)), -1, np.int64)
    for row, values in zip(full, lists, strict=True):
        row[: len(values)] = values
    return full
