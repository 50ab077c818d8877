"""BET's fitness predictor: a DeepSets network over the sets of rows that an action gives the same size.

Qu et al. 2024 (arXiv 2310.14884), section 4.2; the network's shape, its activations and its optimiser are the authors'
(code). A row is known by its frequency alone, so rows of equal frequency are counted, not looked at one by one: there
are at most as many frequencies as the root of twice the interactions, about 1,400 of a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgerec.extras import require
from edgerec.models import SizePlan
from edgerec.models.torch_threads import torch_threads

if TYPE_CHECKING:
    import torch
    from torch.nn.functional import leaky_relu
else:
    torch = require("torch", "train")
    leaky_relu = torch.nn.functional.leaky_relu


Members = NDArray[np.float32]
"""(d, n_groups) rows of each frequency that have each size: an action as the predictor sees it."""

_LR, _LR_LEAST = 0.01, 0.002
_AT_ONCE = 25
"""Actions that are scored in one go: at 128 dimensions and a thousand frequencies 13 MB."""


@dataclass(frozen=True)
class Groups:
    """Rows of equal frequency, of users and of items.

    Attributes:
        frequencies: (n_groups,) float32 over the side's largest, users first.
        user_groups, item_groups: (n,) each row's group.
        n_user_groups: how many of the groups are of users.
    """

    frequencies: NDArray[np.float32]
    user_groups: NDArray[np.int64]
    item_groups: NDArray[np.int64]
    n_user_groups: int

    @classmethod
    def of(cls, user_counts: NDArray[np.int64], item_counts: NDArray[np.int64]) -> Groups:
        """The groups of rows with so many interactions (n_users,), (n_items,)."""
        users, of_user = np.unique(user_counts, return_inverse=True)
        items, of_item = np.unique(item_counts, return_inverse=True)
        shares = [side / max(side.max(), 1) for side in (users, items)]
        return cls(np.concatenate(shares).astype(np.float32), of_user, of_item + users.size, users.size)

    def members(self, plan: SizePlan) -> Members:
        """How many rows of each group have each size from 1 to d."""
        sides = ((plan.users, self.user_groups), (plan.items, self.item_groups))
        n = self.frequencies.size
        places = [((plan.d if sizes is None else sizes) - 1) * n + groups for sizes, groups in sides]
        counted = sum(np.bincount(place, minlength=plan.d * n) for place in places)
        return np.asarray(counted, np.float32).reshape(plan.d, n)


class Predictor:
    """Predicts the fitness of an action from how it was with others.

    q of a row is a network's output for its frequency, one network for users and one for items; of a set, another's
    for the mean q of its rows beside its size; h of an action is the mean over the sets of all sizes, and the fitness a
    network's output for h.
    """

    def __init__(self, groups: Groups, d: int, seed: int, *, decay: float = 1.0, by_rows: bool = False) -> None:
        """A predictor that has learned nothing yet.

        Args:
            decay: a factor on the step size after every update, down to a fifth of the first.
            by_rows: whether a set counts by how many rows it has; else all count the same, empty ones too, as in the
                authors' code, and how many rows have a size is all but lost.
        """
        self._generator = torch.Generator().manual_seed(seed)
        self._users, self._items = self._network(1, 16, 16), self._network(1, 16, 16)
        self._sets, self._fitness = self._network(17, 64, 64), self._network(64, 64, 1)
        self._weights = [*self._users, *self._items, *self._sets, *self._fitness]
        self._optimizer = torch.optim.Adam(self._weights, lr=_LR)
        self._decay, self._updates, self._by_rows = decay, 0, by_rows
        self._frequencies = torch.from_numpy(groups.frequencies)[:, None]
        self._n_user_groups = groups.n_user_groups
        self._sizes = (torch.arange(1, d + 1) / d)[:, None]

    def predict(self, actions: Sequence[Members]) -> NDArray[np.float64]:
        """(n,) the fitness of each action."""
        return self._in_parts(actions, fitness=True)[:, 0]

    def embed(self, actions: Sequence[Members]) -> NDArray[np.float64]:
        """(n, 64) the h of each action."""
        return self._in_parts(actions, fitness=False)

    def update(self, actions: Sequence[Members], fitness: Sequence[float]) -> float:
        """One step of Adam on the mean squared error of these actions (at least one); the error before it."""
        with torch_threads(1):
            self._optimizer.param_groups[0]["lr"] = max(_LR * self._decay**self._updates, _LR_LEAST)
            self._updates += 1
            embedded = self._embed(torch.from_numpy(np.stack(actions)))
            error = (_through(embedded, self._fitness)[:, 0] - torch.tensor(fitness)).square().mean()
            for tensor, gradient in zip(self._weights, torch.autograd.grad(error, self._weights), strict=True):
                tensor.grad = gradient
            self._optimizer.step()
        return float(error.detach())

    def _in_parts(self, actions: Sequence[Members], *, fitness: bool) -> NDArray[np.float64]:
        found = []
        with torch_threads(1), torch.no_grad():
            for start in range(0, len(actions), _AT_ONCE):
                embedded = self._embed(torch.from_numpy(np.stack(actions[start : start + _AT_ONCE])))
                found.append((_through(embedded, self._fitness) if fitness else embedded).double().numpy())
        return np.concatenate(found)

    def _embed(self, members: torch.Tensor) -> torch.Tensor:
        """(n, 64) of members (n, d, n_groups)."""
        sides = torch.tensor_split(self._frequencies, [self._n_user_groups])
        rows = torch.cat(
            [_through(side, network) for side, network in zip(sides, (self._users, self._items), strict=True)]
        )
        counts = members.sum(2, keepdim=True)
        means = (members @ rows) / counts.clamp(min=1)
        sizes = self._sizes.expand(len(members), -1, -1)
        sets = _through(torch.cat([means, sizes], 2), self._sets)
        return (sets * counts).sum(1) / counts.sum(1) if self._by_rows else sets.mean(1)

    def _network(self, *widths: int) -> list[torch.Tensor]:
        """Weights and biases of its layers, uniform up to the root of what comes in, as torch's own layers begin."""
        made = []
        for into, out in pairwise(widths):
            for shape in ((into, out), (out,)):
                values = (torch.rand(shape, generator=self._generator) * 2 - 1) / into**0.5
                made.append(values.requires_grad_())
        return made


def _through(x: torch.Tensor, network: list[torch.Tensor]) -> torch.Tensor:
    """LeakyReLU after every layer, the last one too."""
    for weights, biases in zip(network[::2], network[1::2], strict=True):
        x = leaky_relu(x @ weights + biases)
    return x
