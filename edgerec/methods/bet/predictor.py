"""BET's fitness predictor: a DeepSets network over the sets of rows that an action gives the same size.

Qu et al. 2024 (arXiv 2310.14884), section 4.2; the network's shape, its activations and its optimiser are the authors'
(code). The network sees only a row's frequency, so rows of equal frequency are counted instead of processed one by
one. n interactions have at most about sqrt(2 n) distinct frequencies: 1,400 for a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require
from edgerec.models import SizePlan, torch_threads
from edgerec.models.adam import Adam

if TYPE_CHECKING:
    import torch
    from torch.nn.functional import leaky_relu
else:
    torch = require("torch", "train")
    leaky_relu = torch.nn.functional.leaky_relu


Members = NDArray[np.float32]
"""(d, n_groups) numbers of rows of each size and frequency: the predictor's representation of an action."""

_LR, _MIN_LR = 0.01, 0.002
"""Adam's initial and minimum step size."""
_ACTIONS_AT_ONCE = 25
"""Number of actions scored at once: their `Members` take 13 MB with 128 dimensions and a thousand frequencies."""


@dataclass(frozen=True)
class Groups:
    """Rows of equal frequency, of users and of items.

    Attributes:
        frequencies: (n_groups,) float32, users before items, each divided by the largest of its side.
        user_groups, item_groups: (n,) the group of each row.
        n_user_groups: number of groups of users.
    """

    frequencies: NDArray[np.float32]
    user_groups: NDArray[np.int64]
    item_groups: NDArray[np.int64]
    n_user_groups: int

    @classmethod
    def of(cls, user_counts: NDArray[np.int64], item_counts: NDArray[np.int64]) -> Groups:
        """Return the groups of rows with these numbers of interactions, (n_users,) and (n_items,)."""
        users, of_user = np.unique(user_counts, return_inverse=True)
        items, of_item = np.unique(item_counts, return_inverse=True)
        shares = [side / max(side.max(), 1) for side in (users, items)]
        return cls(np.concatenate(shares).astype(np.float32), of_user, of_item + users.size, users.size)

    def members(self, plan: SizePlan) -> Members:
        """Return the numbers of rows of each group with each size from 1 to d."""
        sides = ((plan.users, self.user_groups), (plan.items, self.item_groups))
        n = self.frequencies.size
        places = [((plan.d if sizes is None else sizes) - 1) * n + groups for sizes, groups in sides]
        counted = sum(np.bincount(place, minlength=plan.d * n) for place in places)
        return np.asarray(counted, np.float32).reshape(plan.d, n)


class Predictor:
    """Predicts the fitness of an action from that of others.

    One network for users and one for items maps the frequency of a row to q; another maps the mean q of a set's rows,
    together with its size, to the set's embedding; the embedding h of an action is the mean over the sets of all sizes,
    and a last network maps h to the fitness.
    """

    def __init__(self, groups: Groups, d: int, seed: int, *, decay: float = 1.0, by_rows: bool = False) -> None:
        """Initialise an untrained predictor.

        Args:
            decay: factor on the step size after every update, down to a fifth of the first.
            by_rows: True to weight a set by its number of rows; else all sets, also empty ones, weigh the same, as in
                the authors' code; the embedding then hardly depends on how many rows have a size.
        """
        self._generator = torch.Generator().manual_seed(seed)
        self._users, self._items = self._network(1, 16, 16), self._network(1, 16, 16)
        self._sets, self._fitness = self._network(17, 64, 64), self._network(64, 64, 1)
        self._weights = [*self._users, *self._items, *self._sets, *self._fitness]
        self._adam = Adam({str(number): weight for number, weight in enumerate(self._weights)}, fused=False)
        self._decay, self._updates, self._by_rows = decay, 0, by_rows
        self._frequencies = torch.from_numpy(groups.frequencies)[:, None]
        self._n_user_groups = groups.n_user_groups
        self._sizes = (torch.arange(1, d + 1) / d)[:, None]

    def predict(self, actions: Sequence[Members]) -> NDArray[np.float64]:
        """Return the (n,) predicted fitness of actions."""
        return self._in_parts(actions, fitness=True)[:, 0]

    def embed(self, actions: Sequence[Members]) -> NDArray[np.float64]:
        """Return the (n, 64) embeddings h of actions."""
        return self._in_parts(actions, fitness=False)

    def update(self, actions: Sequence[Members], fitness: Sequence[float]) -> float:
        """Make one step of Adam on the mean squared error of actions (at least one); return the error before it."""
        with torch_threads(1):
            lr = max(_LR * self._decay**self._updates, _MIN_LR)
            self._updates += 1
            embedded = self._embed(torch.from_numpy(np.stack(actions)))
            error = (_apply(embedded, self._fitness)[:, 0] - torch.tensor(fitness)).square().mean()
            self._adam.step(torch.autograd.grad(error, self._weights), lr)
        return float(error.detach())

    def _in_parts(self, actions: Sequence[Members], *, fitness: bool) -> NDArray[np.float64]:
        found = []
        with torch_threads(1), torch.no_grad():
            for start in range(0, len(actions), _ACTIONS_AT_ONCE):
                embedded = self._embed(torch.from_numpy(np.stack(actions[start : start + _ACTIONS_AT_ONCE])))
                found.append((_apply(embedded, self._fitness) if fitness else embedded).double().numpy())
        return np.concatenate(found)

    def _embed(self, members: torch.Tensor) -> torch.Tensor:
        """Return the (n, 64) embeddings of members (n, d, n_groups)."""
        sides = torch.tensor_split(self._frequencies, [self._n_user_groups])
        rows = torch.cat(
            [_apply(side, network) for side, network in zip(sides, (self._users, self._items), strict=True)]
        )
        counts = members.sum(2, keepdim=True)
        means = (members @ rows) / counts.clamp(min=1)
        sizes = self._sizes.expand(len(members), -1, -1)
        sets = _apply(torch.cat([means, sizes], 2), self._sets)
        return (sets * counts).sum(1) / counts.sum(1) if self._by_rows else sets.mean(1)

    def _network(self, *widths: int) -> list[torch.Tensor]:
        """Draw weights and biases of layers, uniform within 1 / sqrt(inputs), as torch's own layers."""
        layers = []
        for into, out in pairwise(widths):
            for shape in ((into, out), (out,)):
                values = (torch.rand(shape, generator=self._generator) * 2 - 1) / into**0.5
                layers.append(values.requires_grad_())
        return layers


def _apply(x: torch.Tensor, network: list[torch.Tensor]) -> torch.Tensor:
    """Apply the layers, with LeakyReLU after each, the last one too."""
    for weights, biases in zip(network[::2], network[1::2], strict=True):
        x = leaky_relu(x @ weights + biases)
    return x
