"""Ranking losses over one table of vectors, users first, and the batches that they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.models.shared_rows import own_interactions, within

if TYPE_CHECKING:
    import torch
    from torch.autograd import Function
    from torch.nn.functional import embedding, softplus
else:
    torch = require("torch", "train")
    Function = torch.autograd.Function
    embedding, softplus = torch.nn.functional.embedding, torch.nn.functional.softplus

_MIN_STEPS = 8
"""Minimum number of steps in an epoch, however small the data."""
_BLOCK = 256
"""Users whose scores against a step's negatives are in memory at once: 2 MB with 2,048 negatives, 1 MB a core of two.
128 take two cores as much time, and 512 a tenth more."""
_PAIRS = 2048
"""Number of pairs of rows that are multiplied at once."""


@dataclass(frozen=True)
class Batch:
    """The interactions and negatives of one step, as int64 rows of the table: item i is row n_users + i.

    Attributes:
        users: (n,) the user of each interaction.
        items: (n,) its item.
        negatives: items to score lower: (n,) one item an interaction for `bpr`, (m,) the same items for all
            for `softmax`. The few that a user has are not excluded.
        shifts: (m,) corrections that `softmax` adds to scores of negatives that were not drawn uniformly, or () zero.
        of_all: numbers of interactions and of negatives in the batches of all ranks; None for those of this batch.
    """

    users: torch.Tensor
    items: torch.Tensor
    negatives: torch.Tensor
    shifts: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    of_all: tuple[int, int] | None = None

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of interactions and of negatives of all ranks, of which means are taken."""
        return self.of_all or (len(self.users), len(self.negatives))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        users, items, negatives = (rows.to(device) for rows in (self.users, self.items, self.negatives))
        return Batch(users, items, negatives, self.shifts.to(device), self.of_all)


def bpr(table: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the mean of -ln sigmoid(s(u, i) - s(u, j)), s the dot product of two rows of `table` (rows, d).

    Of several ranks it is a part of the mean, which is their sum.

    Bayesian personalised ranking (Rendle et al. 2009), as LightGCN is trained in its paper.
    """
    p, q, r = _gather(table, batch.users, batch.items, batch.negatives)
    return softplus((p * (r - q)).sum(1)).sum() / batch.counts[0]


def softmax(table: torch.Tensor, batch: Batch, temperature: float) -> torch.Tensor:
    """Return the mean of -ln(exp s(u, i) / (exp s(u, i) + sum over the negatives j of exp(s(u, j) + shift j))).

    s is a dot product over `temperature`. Sampled softmax (Wu et al. 2022, arXiv 2201.02327, section 3) with negatives
    that all users of a step share. A user's interactions are consecutive in the batch, so that its negatives are scored
    and summed once. Of several ranks it is a part of the mean, as in `bpr`.
    """
    users, owners = torch.unique_consecutive(batch.users, return_inverse=True)
    p, r = _gather(table, users, batch.negatives)
    p = p / temperature
    against: torch.Tensor = _LogSumExp.apply(p, r, batch.shifts.to(p.dtype))  # type: ignore[no-untyped-call]
    positive: torch.Tensor = _Dots.apply(p, table, owners, batch.items)  # type: ignore[no-untyped-call]
    return softplus(against[owners] - positive).sum() / batch.counts[0]


class _Dots(Function):
    """Computes (n,) p[of_p] . q[of_q] without gathering the rows of all pairs: it takes a block of pairs at a time, and
    the gradients are products with the sparse matrix of the pairs.

    Eight epochs of LightGCN on MovieLens-1M, 128 dimensions, one core: 9.8 s and a peak of 484 MiB, against 15.0 s and
    652 MiB with the rows gathered, for which the system allocates new pages in each step.
    """

    @staticmethod
    def forward(ctx: Any, p: torch.Tensor, q: torch.Tensor, of_p: torch.Tensor, of_q: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(p, q, of_p, of_q)
        pairs = zip(torch.split(of_p, _PAIRS), torch.split(of_q, _PAIRS), strict=True)
        return torch.cat([(embedding(i, p) * embedding(j, q)).sum(1) for i, j in pairs])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        p, q, of_p, of_q = ctx.saved_tensors
        shape = (len(p), len(q))
        if p.device.type != "cpu":
            pairs = torch.sparse_coo_tensor(torch.stack([of_p, of_q]), gradients[0], shape, check_invariants=False)
            return pairs @ q, pairs.T @ p, None, None
        places = (of_p.numpy(), of_q.numpy())
        weights = require("scipy.sparse", "train").coo_array((gradients[0].numpy(), places), shape).tocsr()
        return torch.from_numpy(weights @ q.numpy()), torch.from_numpy(weights.T @ p.numpy()), None, None


class _LogSumExp(Function):
    """Computes (n,) ln sum over j of exp(p . r_j + shift_j) for each of n rows p, without the table of all scores.

    Blocks of scores stay in the cache and are recomputed for the gradient: with 4,096 rows, 2,048 negatives and one
    core 62 ms with the gradient, against 113 with torch's own logsumexp of the product.
    """

    @staticmethod
    def forward(ctx: Any, p: torch.Tensor, r: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
        sums = torch.cat([torch.addmm(shifts, block, r.T).logsumexp(1) for block in torch.split(p, _BLOCK)])
        ctx.save_for_backward(p, r, shifts, sums)
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        p, r, shifts, sums = ctx.saved_tensors
        of_p, of_r = torch.empty_like(p), torch.zeros_like(r)
        for start in range(0, len(p), _BLOCK):
            rows = slice(start, start + _BLOCK)
            shares = torch.addmm(shifts, p[rows], r.T).sub_(sums[rows, None]).exp_()
            of_p[rows] = (shares @ r).mul_(gradients[0][rows, None])
            of_r.addmm_(shares.T, p[rows] * gradients[0][rows, None])
        return of_p, of_r, None


def _gather(table: torch.Tensor, *rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return rows of the table, gathered at once, so that the gradient is a single table of full size."""
    return torch.split(embedding(torch.cat(rows), table), [len(part) for part in rows])


def by_interaction(train: Interactions, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Yield all interactions in a drawn order, at most `size` a batch, each with one negative of its own.

    Of several ranks each has those of its users; every rank draws the same.
    """
    users, items = (torch.from_numpy(rows.astype(np.int64)) for rows in (train.user_rows(), train.indices))
    own, n = own_interactions(train)
    order = torch.randperm(n, generator=generator)
    for picked in torch.split(order, at_most(size, n)):
        mine = within(picked, own)
        drawn = torch.randint(train.n_items, (len(picked),), generator=generator)[mine] + train.n_users
        rows = picked[mine] - own.start
        yield Batch(users[rows], items[rows] + train.n_users, drawn, of_all=(len(picked), len(picked)))


def by_user(
    train: Interactions, size: int, negatives: int, generator: torch.Generator, popular: float = 0.0
) -> Iterator[Batch]:
    """Yield all users with an interaction in a drawn order, at most `size` a batch, each with all its interactions.

    The `negatives` of a batch are distinct items; all items if there are fewer. `popular` is the share that the root of
    an item's interactions draws; the rest is drawn uniformly. Shifts correct for it: the expected sum of exp(score)
    over a batch's negatives is that of uniform ones, with a smaller variance if popular items score high.

    Of several ranks each has its users of a batch, and all have the same negatives.
    """
    counts, first = train.all_user_counts(), train.own_users.start
    roots = np.sqrt(np.maximum(train.item_counts(), 1))
    chances = inclusion_chances(popular * roots / roots.sum() + (1 - popular) / train.n_items, negatives)
    shifts = torch.from_numpy(np.log(chances.mean() / chances).astype(np.float32))
    order = torch.randperm(train.all_users, generator=generator).numpy()
    order = order[counts[order] > 0]
    for start in range(0, len(order), step := at_most(size, len(order))):
        picked = order[start : start + step]
        users = picked[within(picked, train.own_users)] - first
        n = counts[users + first]
        ends = np.cumsum(n)
        places = np.arange(n.sum()) + np.repeat(train.indptr[users] - (ends - n), n)
        items = torch.from_numpy(train.indices[places].astype(np.int64))
        drawn = draw(torch.from_numpy(chances), generator)
        owners = torch.from_numpy(np.repeat(users, n))
        of_all = int(counts[picked].sum()), len(drawn) * train.ranks.count
        yield Batch(owners, items + train.n_users, drawn + train.n_users, shifts[drawn], of_all)


def inclusion_chances(weights: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return (len(weights),) min(1, c weight), c such that they sum to n; all 1 if there are at most n."""
    if n >= len(weights):
        return np.ones(len(weights))
    chances, sure = np.full(len(weights), np.inf), np.zeros(len(weights), bool)
    while (chances > 1).any():
        chances = np.where(sure, 1.0, weights * (n - sure.sum()) / weights[~sure].sum())
        sure |= chances > 1
    return chances


def draw(chances: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw distinct indices, each with exactly its chance, by systematic sampling (Madow 1949).

    These are the indices at which the running sum, in a drawn order and from a drawn start, passes a whole number.
    """
    order = torch.randperm(len(chances), generator=generator)
    start = torch.rand((), dtype=torch.float64, generator=generator)
    passed = (chances[order].cumsum(0) + start).floor()
    return order[passed.diff(prepend=torch.zeros(1, dtype=torch.float64)) > 0]


def at_most(size: int, n: int) -> int:
    """Return the batch size: `size`, or less if an epoch over `n` would have too few steps."""
    return min(size, -(-n // _MIN_STEPS))
