"""Ranking metrics of vectors or of any rankings, with one definition each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import Interactions
from edgerec.data.ranking import ScorePairs, top_k_of_vectors
from edgerec.errors import DataError

KS = (5, 10, 20)
MARGIN = "_margin"
"""End of the names of half the widths of confidence intervals."""
_NORMAL_95 = 1.959964
_USERS_AT_ONCE = 1 << 16
Rank = Callable[[slice], NDArray[np.integer]]
"""Returns (n, K) item rows for a slice of users, best first, padded with -1."""


@dataclass(frozen=True)
class Sample:
    """Users that stand for all users with a test item, to measure large data in less time.

    Attributes:
        users: number of users; all of them if there are fewer.
        seed: seed of their choice.
    """

    users: int
    seed: int = 0

    def rows(self, rows: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return a uniform sample of user rows, ascending."""
        if self.users >= len(rows):
            return rows
        return np.sort(np.random.default_rng(self.seed).choice(rows, self.users, replace=False))


def tested_rows(test: Interactions, sample: Sample | None) -> NDArray[np.integer]:
    """Return the rows of the users with a test item, or a sample of them; the rank's own, of several ranks."""
    rows, own = np.flatnonzero(test.user_counts()), test.own_users
    if sample is None:
        return rows
    chosen: NDArray[np.integer] = sample.rows(test.ranks.gather(rows + own.start))
    within: NDArray[np.integer] = chosen[(chosen >= own.start) & (chosen < own.stop)] - own.start
    return within


def evaluate_vectors(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    seen: Interactions | Sequence[Interactions],
    test: Interactions,
    ks: Sequence[int] = KS,
    threads: int | None = None,
    scores: ScorePairs | None = None,
    sample: Sample | None = None,
) -> dict[str, float]:
    """Measure vectors: each user with a test item ranks all unseen items. Users are ranked in shards.

    Args:
        users: (n_users, d) float32.
        items: (n_items, d) float32.
        seen: interactions to mask: train, or train and validation. Their counts are the items' popularity.
        test: the positives.
        ks: cutoffs.
        threads: maximum number of threads; by default one a core. The result does not depend on it.
        scores: scores of pairs of vectors; by default the dot product.
        sample: a sample of the users with a test item; by default all of them.

    Returns recall@k, ndcg@k, coverage@k and popularity@k for each k, as `metrics_of_rankings` defines them.

    Raises DataError: shapes do not fit the interactions, values are not finite, no user has a test item.
    """
    seen = (seen,) if isinstance(seen, Interactions) else tuple(seen)
    for part in (*seen, test):
        if part.shape != (len(users), len(items)):
            raise DataError(
                f"vectors of {len(users)} users and {len(items)} items do not fit interactions of "
                f"{part.n_users} users and {part.n_items} items"
            )
    users, items = np.asarray(users, np.float32), np.asarray(items, np.float32)
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        raise DataError("the vectors hold values that are not finite: the training diverged; lower the learning rate")

    rows = tested_rows(test, sample)

    def rank(part: slice) -> NDArray[np.int32]:
        return top_k_of_vectors(users, items, rows[part], max(ks), seen=seen, threads=threads, scores=scores)

    return metrics_of_users(rank, test, rows, popularity=popularity_of(seen), ks=ks, margins=sample is not None)


def metrics_of_users(
    rank: Rank,
    test: Interactions,
    rows: NDArray[np.integer],
    *,
    popularity: NDArray[np.integer] | None = None,
    ks: Sequence[int] = KS,
    margins: bool = False,
) -> dict[str, float]:
    """Measure the rankings of users in shards, so that memory does not grow with their number.

    Args:
        rank: returns the rankings of a slice of `rows`.
        rows: (n,) user rows; those without a test item do not count for recall and NDCG.
        margins: return `ndcg@20_margin` and the like too, for `rows` that are a sample of the users with a test item:
            half the widths of 95 % confidence intervals, 1.96 standard errors of a mean over users (a normal
            approximation, with the correction for a sample without replacement). coverage@k is that of the sample.

    Each of several ranks measures its own users; all return the metrics of all users.

    The other arguments, the metrics and the errors are those of `metrics_of_rankings`.
    """
    ranks = test.ranks
    per_user: dict[str, list[NDArray[np.float64]]] = {f"{name}@{k}": [] for k in ks for name in ("recall", "ndcg")}
    shown = {k: np.zeros(test.n_items, np.int64) for k in ks}
    has_test = test.user_counts() > 0
    for start in range(0, len(rows), _USERS_AT_ONCE):
        some = rows[start : start + _USERS_AT_ONCE]
        rankings = rank(slice(start, start + _USERS_AT_ONCE))
        for name, values in metrics_per_user(rankings, test, rows=some, ks=ks).items():
            per_user[name].append(values[has_test[some]])
        for k in ks:
            first = rankings[:, :k]
            shown[k] += np.bincount(first[first >= 0], minlength=test.n_items)
    joined = {name: np.concatenate([np.zeros(0), *values]) for name, values in per_user.items()}
    n = ranks.total(int(np.count_nonzero(has_test[rows])))
    if not n:
        raise DataError("no ranked user has a test item: there is nothing to measure")
    population = ranks.total(int(np.count_nonzero(has_test)))
    shown = {k: ranks.sum(counts) for k, counts in shown.items()}
    result = {}
    for k in ks:
        for name in (f"recall@{k}", f"ndcg@{k}"):
            result[name] = ranks.total(float(joined[name].sum())) / n
            if margins:
                squares = ranks.total(float(np.square(joined[name] - result[name]).sum()))
                result[f"{name}{MARGIN}"] = _margin(squares, n, population)
        result[f"coverage@{k}"] = np.count_nonzero(shown[k]) / test.n_items
        if popularity is not None:
            result[f"popularity@{k}"] = float(shown[k] @ popularity / shown[k].sum()) if shown[k].any() else 0.0
    return result


def _margin(squares: float, n: float, population: float) -> float:
    """Return 1.96 standard errors of a mean of n values drawn without replacement, from their squared deviations."""
    left = (population - n) / max(population - 1, 1)
    return _NORMAL_95 * math.sqrt(squares / (n - 1)) * math.sqrt(left / n) if n > 1 else math.inf


def metrics_of_rankings(
    rankings: NDArray[np.integer],
    test: Interactions,
    *,
    rows: NDArray[np.integer] | None = None,
    popularity: NDArray[np.integer] | None = None,
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """Measure rankings of any source.

    Recall and NDCG are averaged over the users with a test item. coverage@k is the share of all items among the first k
    of any ranking; popularity@k is the mean of `popularity` over the first k of all rankings.

    Args:
        rankings: (n, K) item rows, best first, padded with -1.
        test: the positives.
        rows: (n,) the user row of each ranking; by default all users in order.
        popularity: (n_items,) training interactions of each item; without it popularity@k is omitted.
        ks: cutoffs, none over K.

    Raises DataError: rankings are malformed or no user has a test item.
    """
    rows = np.arange(test.n_users) if rows is None else np.asarray(rows)
    _check(rankings, test, rows, ks)
    return metrics_of_users(lambda part: rankings[part], test, rows, popularity=popularity, ks=ks)


def metrics_per_user(
    rankings: NDArray[np.integer],
    test: Interactions,
    *,
    rows: NDArray[np.integer] | None = None,
    ks: Sequence[int] = KS,
) -> dict[str, NDArray[np.float64]]:
    """Return (n,) recall@k and ndcg@k of each ranking; 0 for users without a test item.

    recall@k is hits / positives; ndcg@k divides by the gain of a ranking that begins with min(k, positives) hits.
    Arguments and errors are those of `metrics_of_rankings`.
    """
    rows = np.arange(test.n_users) if rows is None else np.asarray(rows)
    _check(rankings, test, rows, ks)
    hits = _hits(rankings, test, rows)
    positives = test.user_counts()[rows]
    discounts = 1 / np.log2(np.arange(2, rankings.shape[1] + 2))
    ideal = np.concatenate([[1.0], np.cumsum(discounts)])
    gains = np.cumsum(hits * discounts, axis=1)
    found = np.cumsum(hits, axis=1)
    result = {}
    for k in ks:
        result[f"recall@{k}"] = found[:, k - 1] / np.maximum(positives, 1)
        result[f"ndcg@{k}"] = gains[:, k - 1] / ideal[np.minimum(positives, k)]
    return result


def popularity_of(parts: Sequence[Interactions]) -> NDArray[np.int64]:
    """Return (n_items,) interactions of each item in all parts. Raises DataError if there is no part."""
    if not parts:
        raise DataError("popularity needs the interactions that were trained on, got none")
    counts: NDArray[np.int64] = np.sum([part.item_counts() for part in parts], axis=0)
    return counts


def _hits(rankings: NDArray[np.integer], test: Interactions, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return (n, K) bool: True if a ranked item is one of its user's positives."""
    # One number a pair: the lookup needs no array of users x items.
    counts = test.user_counts()[rows]
    starts = test.indptr[rows] - (np.cumsum(counts) - counts)
    items = test.indices[np.arange(counts.sum()) + np.repeat(starts, counts)]
    positives = np.repeat(np.arange(len(rows)), counts) * test.n_items + items
    pairs = np.arange(len(rows))[:, None] * test.n_items + rankings
    return np.isin(pairs, positives) & (rankings >= 0)


def _check(rankings: NDArray[np.integer], test: Interactions, rows: NDArray[np.integer], ks: Sequence[int]) -> None:
    if rankings.ndim != 2 or len(rankings) != len(rows):
        raise DataError(f"rankings must be one row for each of {len(rows)} users, got the shape {rankings.shape}")
    if not ks or min(ks) < 1 or max(ks) > rankings.shape[1]:
        raise DataError(f"cutoffs must be from 1 to the rankings' length {rankings.shape[1]}, got {tuple(ks)}")
    if rankings.min() < -1 or rankings.max() >= test.n_items:
        raise DataError(f"rankings hold item rows outside 0 to {test.n_items - 1}; -1 is the padding")
    ordered = np.sort(rankings, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise DataError("a ranking names an item twice: its hits would count twice")
