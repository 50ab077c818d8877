"""Ranking losses over one table of vectors, users first, and the batches that they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgerec.data import Interactions
from edgerec.extras import require

if TYPE_CHECKING:
    import torch
    from torch.nn.functional import embedding, softplus
else:
    torch = require("torch", "train")
    embedding, softplus = torch.nn.functional.embedding, torch.nn.functional.softplus

_MIN_STEPS = 8
"""Steps in an epoch, at least, however small the data."""


@dataclass(frozen=True)
class Batch:
    """What one step ranks, as rows of the table, int64: item i stands in row n_users + i.

    Attributes:
        users: (n,) the user of each interaction.
        items: (n,) its item.
        negatives: what shall score less: (n,) one item an interaction for `bpr`, (m,) the same items for all
            for `softmax`. They are drawn uniformly; the few that a user has are not looked up.
    """

    users: torch.Tensor
    items: torch.Tensor
    negatives: torch.Tensor


def bpr(table: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean of -ln sigmoid(s(u, i) - s(u, j)), s the dot product of two rows of `table` (rows, d).

    Bayesian personalised ranking (Rendle et al. 2009), as LightGCN is trained in its paper.
    """
    p, q, r = _gather(table, batch.users, batch.items, batch.negatives)
    return softplus((p * (r - q)).sum(1)).mean()


def softmax(table: torch.Tensor, batch: Batch, temperature: float) -> torch.Tensor:
    """Mean of -ln(exp s(u, i) / (exp s(u, i) + sum over the negatives j of exp s(u, j))), s a dot product over
    `temperature`.

    Sampled softmax (Wu et al. 2022, arXiv 2201.02327, section 3) with negatives that all users of a step share. A
    user's interactions stand together in the batch: its negatives are then scored and summed once.
    """
    users, owners = torch.unique_consecutive(batch.users, return_inverse=True)
    p, q, r = _gather(table, users, batch.items, batch.negatives)
    p = p / temperature
    against = (p @ r.T).logsumexp(1)
    positive = (embedding(owners, p) * q).sum(1)
    return softplus(against[owners] - positive).mean()


def _gather(table: torch.Tensor, *rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Rows of the table, in one piece: its gradient is then one table, not one of full size for each to be added."""
    return torch.split(embedding(torch.cat(rows), table), [len(part) for part in rows])


def by_interaction(train: Interactions, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """All interactions in a drawn order, at most `size` at once, each with one negative of its own."""
    users, items = (torch.from_numpy(rows.astype(np.int64)) for rows in (train.user_rows(), train.indices))
    order = torch.randperm(len(users), generator=generator)
    for picked in torch.split(order, _at_most(size, len(order))):
        drawn = torch.randint(train.n_items, (len(picked),), generator=generator)
        yield Batch(users[picked], items[picked] + train.n_users, drawn + train.n_users)


def by_user(train: Interactions, size: int, negatives: int, generator: torch.Generator) -> Iterator[Batch]:
    """All users with an interaction in a drawn order, at most `size` at once, each with all its interactions.

    The `negatives` of a batch are different items; where there are not so many, they are all items.
    """
    counts = train.user_counts()
    order = torch.randperm(train.n_users, generator=generator).numpy()
    order = order[counts[order] > 0]
    for start in range(0, len(order), step := _at_most(size, len(order))):
        users = order[start : start + step]
        n, ends = counts[users], np.cumsum(counts[users])
        places = np.arange(ends[-1]) + np.repeat(train.indptr[users] - (ends - n), n)
        items = torch.from_numpy(train.indices[places].astype(np.int64))
        drawn = torch.randperm(train.n_items, generator=generator)[:negatives]
        yield Batch(torch.from_numpy(np.repeat(users, n)), items + train.n_users, drawn + train.n_users)


def _at_most(size: int, n: int) -> int:
    """What a step takes of `n`: fewer than `size` where an epoch would have too few steps."""
    return min(size, -(-n // _MIN_STEPS))
