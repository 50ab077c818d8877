"""Synthetic interactions with a planted structure that a model can learn, without a download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import Interactions
from edgerec.errors import DataError

_TASTE = 2.5
"""Standard deviation of the users' taste, in nats; the log popularity of 1,000 items has 0.8."""

_POPULARITY, _ACTIVITY = 0.8, 0.5
"""Exponents of the power laws of item popularity and user activity."""

_USERS_AT_ONCE = 256


def synthetic(n_users: int = 2000, n_items: int = 1000, n: int = 60_000, rank: int = 8, seed: int = 0) -> Interactions:
    """Draw interactions from a planted low-rank model with power-law popularity and activity.

    A user draws items without replacement with probability proportional to exp(log popularity + taste), where
    taste is the dot product of two normal vectors of `rank` dimensions. Timestamps are a random order, one
    second apart.

    Args:
        n_users, n_items: the shape; every user has an interaction, an item may have none.
        n: number of interactions, of distinct pairs; at most half of all pairs.
        rank: dimensions of the planted vectors.
        seed: seed of the whole draw.

    Raises DataError if no such matrix exists.
    """
    if min(n_users, n_items, rank) < 1 or not n_users <= n <= n_users * max(n_items // 2, 1):
        raise DataError(
            f"synthetic data of {n_users} users, {n_items} items and {n} interactions cannot be drawn: "
            f"ask for {n_users} (one a user) to {n_users * max(n_items // 2, 1)} (half of all pairs)"
        )
    rng = np.random.default_rng(seed)
    counts = _activity(rng, n_users, n_items, n)
    popularity = -_POPULARITY * np.log(rng.permutation(n_items) + 1.0)
    tastes = rng.standard_normal((n_users, rank)) * (_TASTE / np.sqrt(rank))
    traits = rng.standard_normal((n_items, rank))
    chosen = []
    for start in range(0, n_users, _USERS_AT_ONCE):
        scores = popularity + tastes[start : start + _USERS_AT_ONCE] @ traits.T
        order = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1, kind="stable")
        block = counts[start : start + _USERS_AT_ONCE]
        chosen += [np.sort(row[:count]) for row, count in zip(order, block.tolist(), strict=True)]
    return Interactions(
        user_ids=np.arange(n_users),
        item_ids=np.arange(n_items),
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=np.concatenate(chosen).astype(np.int32),
        timestamps=rng.permutation(n).astype(np.int64),
        titles=np.array([f"Item {item}" for item in range(n_items)]),
        name="synthetic",
    )


def _activity(rng: np.random.Generator, n_users: int, n_items: int, n: int) -> NDArray[np.int64]:
    """Return (n_users,) interactions of each user: a power law that sums to n, at most half of the items each."""
    most = max(n_items // 2, 1)
    least = min(max(n // (4 * n_users), 1), most)
    weights = (rng.permutation(n_users) + 1.0) ** -_ACTIVITY
    counts: NDArray[np.int64] = np.clip(weights / weights.sum() * n, least, most).astype(np.int64)
    while missing := n - int(counts.sum()):
        step = 1 if missing > 0 else -1
        free = np.flatnonzero(counts < most if missing > 0 else counts > least)
        counts[free[: abs(missing)]] += step
    return counts
