"""The shared trainer of LightGCN and NGCF: a table of ego rows, from which each step computes the scoring rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.extras import require
from edgerec.models.adam import Adam
from edgerec.models.base import Backbone, SizePlan, State, Vectors, prefix_mask
from edgerec.models.encoder import Encoded, fit_linear
from edgerec.models.losses import Batch, bpr, by_interaction, by_user, softmax
from edgerec.models.low_rank import scaled_matrix, truncated_svd
from edgerec.models.shared_rows import Rows, SharedRows, drawn_rows
from edgerec.models.torch_tools import device_of, torch_threads

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")

_ITEMS = "items."
"""Prefix of the names of items' rows in the states of several ranks."""
TYPICAL_L2 = 0.01
"""The weight decay of a training that chooses none."""
_CHOICES = {"loss": ("softmax", "bpr"), "mask_at": ("output", "ego"), "start": ("svd", "normal")}


@dataclass(frozen=True)
class GraphConfig:
    """Settings that the trainers over the graph share; `LightGCNConfig` documents them."""

    backbone: ClassVar[str] = "graph"

    layers: int = 3
    loss: str = "softmax"
    mask_at: str = "output"
    lr: float = 0.04
    horizon: int = 100
    users: int = 4096
    negatives: int = 2048
    popular: float = 0.0
    temperature: float = 1.0
    batch: int = 65_536
    l2: float | None = None
    start: str = "svd"
    std: float = 0.1

    def __post_init__(self) -> None:
        """Raise UnsupportedError for an unknown choice, a negative number of layers, or a share outside 0..1."""
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UnsupportedError(
                    f"{self.backbone} has no {name} {getattr(self, name)!r}; choose {' or '.join(known)}"
                )
        if self.layers < 0:
            raise UnsupportedError(f"{self.backbone} takes 0 or more layers, got {self.layers}")
        if not 0 <= self.popular <= 1:
            raise UnsupportedError(
                f"{self.backbone} takes a share of popular negatives from 0 to 1, got {self.popular}"
            )

    @property
    def decay(self) -> float:
        """`l2`, or its typical value if it is open."""
        return TYPICAL_L2 if self.l2 is None else self.l2

    def ranking(self) -> Callable[[torch.Tensor, Batch], torch.Tensor]:
        """Return the ranking loss of scoring rows and a batch."""
        return bpr if self.loss == "bpr" else partial(softmax, temperature=self.temperature)

    def batches(self, train: Interactions, generator: torch.Generator) -> Iterator[Batch]:
        """Return the batches of an epoch over the interactions of `train`."""
        if self.loss == "bpr":
            return by_interaction(train, self.batch, generator)
        return by_user(train, self.users, self.negatives, generator, self.popular)

    def lr_at(self, epoch: int) -> float:
        """Return the step size of an epoch, counted from 0."""
        return self.lr * max(1 - epoch / self.horizon, 0.01)


class GraphTrainer(ABC):
    """Trains ego rows, users first; score(u, i) is the dot product of two rows of `_output`.

    A step costs its propagation, almost whatever it ranks, so steps are large.
    """

    def __init__(
        self,
        train: Interactions,
        sizes: SizePlan,
        ego_sizes: SizePlan,
        config: GraphConfig,
        seed: int,
        threads: int | None,
        device: str,
    ) -> None:
        """Start a fit; `sizes` are those of the scoring rows, `ego_sizes` those of their ego rows."""
        self._train, self._positives, self._config, self._threads = train, train, config, threads
        self._shared, self._device = SharedRows(train), device_of(device)
        # Everything is drawn on the CPU whatever the device, so that all see the same samples.
        self._generator = torch.Generator().manual_seed(seed)
        self._mask, self._ego_mask = _mask(train, sizes, self._device), None
        if config.mask_at == "ego":
            self._ego_mask = _mask(train, ego_sizes, self._device)
        self._ranking = config.ranking()
        d = ego_sizes.d
        start = singular_vectors(train, d, seed, device) if config.start == "svd" else self._noise(d)
        squares = train.ranks.total(float(np.square(self._counted(start)).sum()))
        mean = np.float32(squares) / (d * (train.all_users + train.n_items))
        start *= config.std / max(float(np.sqrt(mean)), 1e-12)
        self._ego = self._own(_cut(torch.from_numpy(start).to(self._device), self._ego_mask)).requires_grad_()
        self._adam = Adam({"ego": self._ego})
        self._epochs = 0

    def _train_too(self, weights: dict[str, torch.Tensor]) -> None:
        """Train these weights together with the ego rows."""
        self._adam = Adam({"ego": self._ego, **weights})

    @abstractmethod
    def _output(self, ego: torch.Tensor, *, training: bool) -> torch.Tensor:
        """Return (n, d) scoring rows, before they are truncated, of ego rows (n, ego's d), with a gradient."""

    def epoch(self) -> dict[str, float]:
        """Train on every interaction once. `loss`: the mean ranking loss, without the decay.

        With masks on the ego rows, "kept" is the share of the propagated tables' squared norm that remains after they
        are truncated to their sizes.
        """
        total, n = torch.zeros((), device=self._device), 0
        with torch_threads(self._threads):
            for batch in self.batches():
                total += self.step(batch) * batch.counts[0]
                n += batch.counts[0]
        self._epochs += 1
        values = {"loss": self._train.ranks.total(float(total)) / n}
        return values if self._ego_mask is None else {**values, "kept": self._shipped()[2]}

    def _own(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows that this rank trains, its users and its items, of those of its users and all items."""
        if self._train.ranks.count == 1:
            return rows
        n = self._train.n_users
        return torch.cat([rows[:n], rows[n:][self._train.own_items]])

    def _table(self) -> torch.Tensor:
        """Return the ego rows of the rank's users and of all items."""
        if self._train.ranks.count == 1:
            return self._ego
        ego, n = self._ego.detach(), self._train.n_users
        return torch.cat([ego[:n], self._shared.fetch_all(ego[n:])]).requires_grad_()

    def _counted(self, rows: Rows) -> Rows:
        """Return the rows, of the rank's users and all items, that this rank adds to sums over all ranks."""
        return rows if self._train.ranks.rank == 0 else rows[: self._train.n_users]

    def batches(self) -> Iterator[Batch]:
        """Return the batches of the next epoch."""
        return (batch.to(self._device) for batch in self._config.batches(self._positives, self._generator))

    def step(self, batch: Batch) -> torch.Tensor:
        """Make one step of Adam on everything trained; return the rank's part of the ranking loss before it."""
        table = self._table()
        ranking, decay = self._objective(table, batch)
        others = self._adam.tensors[1:]
        of_table, *of_others = torch.autograd.grad(ranking + self._config.decay * decay, [table, *others])
        if self._train.ranks.count > 1:
            n = self._train.n_users
            of_table = torch.cat([of_table[:n], self._shared.sum_all(of_table[n:])])
        self._adam.step([of_table, *of_others], self._config.lr_at(self._epochs))
        return ranking.detach()

    def _objective(self, ego: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ranking loss of the scoring rows, and the mean squared norms of its ego rows.

        Masks are part of the loss, so gradients past a size are zero, and Adam's moments and the values stay zero.
        """
        ego = _cut(ego, self._ego_mask)
        output = _cut(self._output(ego, training=True), self._mask if self._ego_mask is None else None)
        norms, (n, n_negatives) = ego.square().sum(1), batch.counts
        of_pairs = norms[batch.users].sum() / n + norms[batch.items].sum() / n
        return self._ranking(output, batch), of_pairs + norms[batch.negatives].sum() / n_negatives

    def _noise(self, d: int) -> NDArray[np.float32]:
        n_users, n = self._train.all_users, self._train.all_users + self._train.n_items
        return drawn_rows(n, d, [self._train.own_users, slice(n_users, n)], self._generator).numpy()

    def vectors(self) -> Vectors:
        whole, shipped, _ = self._shipped()
        found = self._by_side(shipped)
        return found if self._ego_mask is None else replace(found, untruncated=self._by_side(whole))

    def _by_side(self, rows: NDArray[np.float32]) -> Vectors:
        users, items = np.split(rows, [self._train.n_users])
        return Vectors(users.copy(), items.copy())

    def _shipped(self) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """Return (n, d) scoring rows, the same truncated to their sizes, and the retained share of their squared norm.

        If training did not truncate them, both tables are first rotated to the principal axes of the items, which
        changes no score, if that retains more.
        """
        with torch_threads(self._threads), torch.no_grad():
            output = self._output(self._table(), training=False)
        truncations = [_cut(output, self._mask)]
        with torch_threads(1):
            if self._ego_mask is not None:
                items = output[self._train.n_users :]
                axes = torch.linalg.eigh(items.T @ items).eigenvectors.flip(1)
                rotated = output @ torch.from_numpy(self._train.ranks.first(axes.cpu().numpy())).to(self._device)
                truncations.append(_cut(rotated, self._mask))
            tables = map(self._counted, (output, *truncations))
            whole, *norms = (self._train.ranks.total(float(rows.square().sum())) for rows in tables)
        best = int(np.argmax(norms))
        return output.cpu().numpy(), truncations[best].cpu().numpy(), norms[best] / whole

    def state(self) -> State:
        """Return trained arrays, Adam's moments and step counts by name, the generator and the epoch count."""
        state: State = {"generator": self._generator.get_state().numpy(), "epochs": np.array(self._epochs)}
        state |= self._adam.state()
        if self._train.ranks.count > 1:  # a checkpoint joins the users of all ranks, and their items
            for name in _tables(state):
                state[name], state[_ITEMS + name] = np.split(state[name], [self._train.n_users])
        return state

    def restore(self, state: State) -> None:
        self._generator.set_state(torch.from_numpy(state["generator"].copy()))
        self._epochs = int(state["epochs"])
        for name in _tables(state):
            whole = np.concatenate([state[name], state[_ITEMS + name]]) if _ITEMS + name in state else state[name]
            users, items = np.split(whole, [self._train.all_users])
            state = {**state, name: np.concatenate([users[self._train.own_users], items[self._train.own_items]])}
        self._adam.restore(state)


class GraphBackbone(Backbone):
    """Base class of backbones with a `GraphTrainer`; subclasses set name, config and trainer."""

    max_epochs: ClassVar[int] = 100
    patience: ClassVar[int] = 15
    trial_epochs: ClassVar[int] = 20

    def trial(self, config: Any, max_epochs: int) -> tuple[Any, int]:
        """Return a training in short: a fifth of the epochs, over which the step size falls to its end.

        With the step size of the first epochs of the whole training, every weight decay looks alike.
        """
        epochs = max(1, min(self.trial_epochs, max_epochs // 5))
        return replace(config, horizon=epochs), epochs

    def encode(self, vectors: Vectors, train: Interactions, config: Any, *, threads: int | None = None) -> Encoded:
        """Return a linear encoder, fitted to the users' vectors."""
        return fit_linear(vectors, train)


def _tables(state: State) -> list[str]:
    """Return the names of the ego rows and of their moments."""
    return [name for name, value in state.items() if name.partition(".")[0] == "ego" and value.ndim == 2]


def _cut(rows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return rows if mask is None else rows * mask.to(rows.dtype)


def _mask(train: Interactions, sizes: SizePlan, device: torch.device) -> torch.Tensor | None:
    """Return the (n_users + n_items, d) bool prefix mask, or None if all rows are full."""
    if sizes.users is None and sizes.items is None:
        return None
    pairs = ((sizes.users, train.n_users), (sizes.items, train.n_items))
    full = [np.full(n, sizes.d) if given is None else given for given, n in pairs]
    return torch.from_numpy(prefix_mask(np.concatenate(full), sizes.d)).to(device)


def singular_vectors(train: Interactions, d: int, seed: int, device: str = "cpu") -> NDArray[np.float32]:
    """Return (n, d) leading singular vectors of D^-1/2 R D^-1/2, scaled by the roots of their values and the degrees.

    On Gowalla's validation part they have a Recall@20 of .122 before LightGCN's training, and .115 without the degrees.
    """
    u, s, v = truncated_svd(scaled_matrix(train, 0.5, 0.5), d, np.random.default_rng(seed), train.ranks, device)
    degrees = np.concatenate([train.user_counts(), train.item_counts()])
    rows: NDArray[np.float32] = np.concatenate([u, v]) * np.sqrt(s) * np.sqrt(degrees)[:, None].astype(np.float32)
    return rows
