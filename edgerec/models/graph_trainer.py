"""The shared trainer of LightGCN and NGCF: a table of ego rows, from which each step computes the scoring rows.

Rows propagate over the user-item graph by sparse products on threads; their gradient is the same products.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from edgerec.models.on_device import sparse_tensor
from edgerec.models.shared_rows import Rows, SharedRows, drawn_rows
from edgerec.models.torch_tools import device_of, torch_threads
from edgerec.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import scipy.sparse
    import torch
    from torch.autograd import Function
else:
    torch = require("torch", "train")
    Function = torch.autograd.Function

_BLOCKS_A_THREAD = 4
"""Blocks a thread. With one, a delayed thread delays all: 24 ms a product of Gowalla's graph, and 18 ms with 4."""
_ITEMS = "items."
"""Prefix of the names of items' rows in the states of several ranks."""
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
    l2: float = 0.005
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


def normalised_adjacency(train: Interactions) -> scipy.sparse.csr_array[Any, Any]:
    """Return D^-1/2 A D^-1/2 of the graph A of interactions between users and items, D its degrees.

    LightGCN, section 3.1.3 (He et al. 2020, arXiv 2002.02126).

    Returns:
        (n, n) float32 with int32 indices, n = n_users + n_items, users first. A row without an interaction is zero.
    """
    sparse = require("scipy.sparse", "train")
    degrees = np.maximum(np.concatenate([train.user_counts(), train.item_counts()]), 1)
    scale = np.sqrt(1 / degrees).astype(np.float32)
    matrix = train.matrix()
    graph: scipy.sparse.csr_array[Any, Any] = sparse.csr_array(
        sparse.block_array([[None, matrix], [matrix.T, None]], format="csr")
    )
    graph.data *= np.repeat(scale, np.diff(graph.indptr)) * scale[graph.indices]
    # int64 indices make a product 1.7 times as slow.
    graph.indptr, graph.indices = graph.indptr.astype(np.int32), graph.indices.astype(np.int32)
    return graph


class Propagation:
    """The map E -> (E + A E + ... + A^L E) / (L + 1) for a symmetric sparse A: LightGCN's layers with equal weights.

    Each of several ranks has the rows of its users and of all items, and the edges between them: a product gives its
    users, and a part of the items, which is summed.

    Threads share a product by blocks of rows with about equally many non-zeros; scipy releases the GIL. One thread sums
    a row in a fixed order, so that the bits do not depend on the number of threads.
    """

    def __init__(
        self,
        graph: scipy.sparse.csr_array[Any, Any],
        layers: int,
        threads: int | None = None,
        ranks: Ranks = ALONE,
        n_users: int = 0,
        device: torch.device | None = None,
    ) -> None:
        """Split `graph` (n, n), which must be symmetric, for at most `threads` threads; None for one a core.

        `n_users` is the number of the users of this one of several ranks; `device` multiplies tensors of its own.
        """
        self._layers, self._ranks, self._n_users = layers, ranks, n_users
        self._threads = threads or os.cpu_count() or 1
        if device is not None and device.type != "cpu":
            self._blocks: list[Any] = [sparse_tensor(graph, device)]
            return
        parts = 1 if self._threads == 1 else _BLOCKS_A_THREAD * self._threads
        cuts = np.searchsorted(graph.indptr, np.linspace(0, graph.nnz, parts + 1)[1:-1]).tolist()
        self._blocks = [graph[start:stop] for start, stop in zip([0, *cuts], [*cuts, graph.shape[0]], strict=True)]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the mean over the layers of `values` (n, d), an array or, on a device, a tensor, as a new one."""
        total, layer = 1 * values, values
        for _ in range(self._layers):
            layer = self._summed(self._product(layer))
            total += layer
        total /= self._layers + 1
        return total

    def backward(self, gradient: NDArray[Any]) -> NDArray[Any]:
        """Return the rank's part of the gradient of the values, of its part of that of their mean over the layers."""
        total, layer = 1 * gradient, gradient
        for _ in range(self._layers):
            layer = self._product(self._summed(layer))
            total += layer
        total /= self._layers + 1
        return total

    def differentiable(self, values: torch.Tensor) -> torch.Tensor:
        """Propagate values (n, d) with a gradient.

        A and its polynomial are symmetric, so that the gradient of a propagation is the propagation of the gradient.
        """
        result: torch.Tensor = _Propagate.apply(values, self)  # type: ignore[no-untyped-call]
        return result

    def _summed(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values (n, d) with the items' rows summed over the ranks."""
        if self._ranks.count == 1:
            return values
        return np.concatenate([values[: self._n_users], self._ranks.sum(values[self._n_users :])])

    def _product(self, values: NDArray[Any]) -> NDArray[Any]:
        if len(self._blocks) == 1:
            product: NDArray[Any] = self._blocks[0] @ values
            return product
        with ThreadPoolExecutor(self._threads) as pool:
            return np.concatenate(list(pool.map(lambda block: block @ values, self._blocks)))


class _Propagate(Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, propagation: Propagation) -> torch.Tensor:
        ctx.propagation = propagation
        return _run(propagation, values.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _run(ctx.propagation.backward, gradients[0].contiguous()), None


def _run(propagate: Callable[[Any], Any], values: torch.Tensor) -> torch.Tensor:
    """Return what a function of arrays on the CPU, or of tensors on another device, returns for `values`."""
    on_cpu = values.device.type == "cpu"
    result: torch.Tensor = torch.from_numpy(propagate(values.numpy())) if on_cpu else propagate(values)
    return result


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
        of_table, *of_others = torch.autograd.grad(ranking + self._config.l2 * decay, [table, *others])
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
