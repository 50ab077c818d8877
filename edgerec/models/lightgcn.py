"""LightGCN: vectors averaged over the layers of the user-item graph, trained by sampled softmax or by BPR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.extras import require
from edgerec.models.base import SizePlan, State, Vectors
from edgerec.models.encoder import Encoded
from edgerec.models.fitted_encoder import fit_linear
from edgerec.models.losses import Batch, bpr, by_interaction, by_user, softmax
from edgerec.models.low_rank import scaled_matrix, truncated_svd
from edgerec.models.prefix import check_sizes, prefix_mask
from edgerec.models.propagation import Propagation, normalised_adjacency, propagate
from edgerec.models.torch_threads import torch_threads

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")

_CHOICES = {"loss": ("softmax", "bpr"), "mask_at": ("output", "ego"), "start": ("svd", "normal")}


@dataclass(frozen=True)
class LightGCNConfig:
    """Settings of LightGCN.

    Attributes:
        layers: products with the graph; 0 is matrix factorisation.
        loss: 'softmax', or 'bpr' as in the paper.
        mask_at: where sizes cut: 'output' cuts the propagated rows in training, so that what is trained is what
            ships; 'ego' cuts the rows before propagation, as CIESS and BET do, and what ships is cut afterwards. On
            ML-100K at 10 % by popularity that keeps 99.7 % of the squared norm: NDCG@20 .383, and .382 with 'output'.
        lr: Adam's first step size.
        horizon: epochs over which the step size falls linearly to a hundredth of `lr`, where it stays.
        users: users in a step of the softmax, each with all its interactions; fewer where an epoch would have
            under 8 steps, for `batch` as well.
        negatives: items drawn for a step of the softmax, shared by its users.
        popular: share of the negatives, 0 to 1, that the root of an item's popularity draws, with a correction. No
            matter where `negatives` are all items. On Gowalla's validation part 4,096 negatives with 0.5 gave in 235 s
            of the processor an NDCG@20 of .1327 and a recall@20 of .2020 (in 377 s .1339 and .2023), 2,048 with 0 in
            264 s .1317 and .2019. With 2,048 for both, at l2 0.01, it was .1242 and .1239.
        temperature: that the softmax divides scores by.
        batch: interactions in a step of BPR.
        l2: weight decay on the ego rows that a step touches, by interaction. It decides more than any other setting:
            0.005 was the best of 0.002 to 0.05 on ML-100K's validation part; on Gowalla's NDCG@20 after 150 epochs
            was .1257 with 0.01, .1309 with 0.015 and .1317 with 0.02, and .1096 with 0.04 after 100.
        start: 'svd' starts from the graph's leading singular vectors, 'normal' from noise as in the paper.
        std: root mean square of the initial values.
    """

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
        """Raises UnsupportedError for a choice that does not exist, a negative number of layers, or no share."""
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UnsupportedError(f"lightgcn has no {name} {getattr(self, name)!r}; choose {' or '.join(known)}")
        if self.layers < 0:
            raise UnsupportedError(f"lightgcn takes 0 or more layers, got {self.layers}")
        if not 0 <= self.popular <= 1:
            raise UnsupportedError(f"lightgcn takes a share of popular negatives from 0 to 1, got {self.popular}")


class LightGCNTrainer:
    """One table E of ego rows, users first; score(u, i) is the dot product of two rows of (E + A E + ... + A^L E)
    / (L + 1), A the normalised graph (He et al. 2020, arXiv 2002.02126, section 3.1).

    A step costs its 2 L sparse products, almost whatever it ranks, so that steps are large: on Gowalla and two cores
    0.16 s with 2,048 interactions, 0.20 s with 65,536.
    """

    def __init__(
        self,
        train: Interactions,
        sizes: SizePlan,
        config: LightGCNConfig,
        seed: int,
        threads: int | None,
    ) -> None:
        self._train, self._config, self._threads = train, config, threads
        self._generator = torch.Generator().manual_seed(seed)
        self._propagation = Propagation(normalised_adjacency(train), config.layers, threads)
        self._mask = _mask(train, sizes)
        self._masks_ego = config.mask_at == "ego" and self._mask is not None
        self._ranking = bpr if config.loss == "bpr" else partial(softmax, temperature=config.temperature)
        start = singular_vectors(train, sizes.d, seed) if config.start == "svd" else self._noise(sizes.d)
        start *= config.std / max(float(np.sqrt(np.square(start).mean())), 1e-12)
        self._ego = self._cut(torch.from_numpy(start), self._masks_ego).requires_grad_()
        self._optimizer = torch.optim.Adam([self._ego], lr=config.lr, fused=True)
        self._epochs = 0

    def epoch(self) -> dict[str, float]:
        """Every interaction once. `loss`: the mean ranking loss, without the decay. Where sizes cut the ego rows,
        `kept` is the share of the propagated tables' squared norm that is left when they are cut to the sizes."""
        config = self._config
        self._optimizer.param_groups[0]["lr"] = config.lr * max(1 - self._epochs / config.horizon, 0.01)
        total, n = torch.zeros(()), 0
        with torch_threads(self._threads):
            for batch in self.batches():
                total += self.step(batch) * len(batch.users)
                n += len(batch.users)
        self._epochs += 1
        told = {"loss": float(total) / n}
        return {**told, "kept": self._shipped()[1]} if self._masks_ego else told

    def batches(self) -> Iterator[Batch]:
        """The steps of the next epoch."""
        config = self._config
        if config.loss == "bpr":
            return by_interaction(self._train, config.batch, self._generator)
        return by_user(self._train, config.users, config.negatives, self._generator, config.popular)

    def step(self, batch: Batch) -> torch.Tensor:
        """One step of Adam on the propagated rows; the ranking loss before it."""
        ranking, decay = self._objective(self._ego, batch)
        (self._ego.grad,) = torch.autograd.grad(ranking + self._config.l2 * decay, [self._ego])
        self._optimizer.step()
        return ranking.detach()

    def _objective(self, ego: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The ranking loss of the propagated rows, and the mean squared norms of the ego rows that it touches.

        Masks are part of it, so gradients past a size are zero; with them Adam's moments, and the values, stay so.
        """
        ego = self._cut(ego, self._masks_ego)
        output = self._cut(propagate(ego, self._propagation), not self._masks_ego)
        norms = ego.square().sum(1)
        return self._ranking(output, batch), norms[batch.users].mean() + norms[batch.items].mean() + norms[
            batch.negatives
        ].mean()

    def _cut(self, rows: torch.Tensor, wanted: bool = True) -> torch.Tensor:
        return rows * self._mask.to(rows.dtype) if wanted and self._mask is not None else rows

    def _noise(self, d: int) -> NDArray[np.float32]:
        return torch.randn(self._train.n_users + self._train.n_items, d, generator=self._generator).numpy()

    def vectors(self) -> Vectors:
        shipped, _ = self._shipped()
        users, items = np.split(shipped, [self._train.n_users])
        return Vectors(users.copy(), items.copy())

    def _shipped(self) -> tuple[NDArray[np.float32], float]:
        """(n, d) the propagated rows cut to their sizes, and the share of their squared norm that this keeps.

        Where training did not cut them, both tables are first turned to the principal axes of the items, which
        changes no score, if more is kept in this way.
        """
        output = torch.from_numpy(self._propagation(self._ego.detach().numpy()))
        cuts = [self._cut(output)]
        with torch_threads(1):
            if self._masks_ego:
                items = output[self._train.n_users :]
                cuts.append(self._cut(output @ torch.linalg.eigh(items.T @ items).eigenvectors.flip(1)))
            whole, *kept = (float(rows.square().sum()) for rows in (output, *cuts))
        best = int(np.argmax(kept))
        return cuts[best].numpy(), kept[best] / whole

    def state(self) -> State:
        """The ego table, Adam's moments and step count, the generator, the epoch count."""
        moments = {f"ego.{key}": value.numpy().copy() for key, value in self._optimizer.state[self._ego].items()}
        return {
            "ego": self._ego.detach().numpy().copy(),
            "generator": self._generator.get_state().numpy(),
            "epochs": np.array(self._epochs),
            **moments,
        }

    def restore(self, state: State) -> None:
        self._generator.set_state(torch.from_numpy(state["generator"].copy()))
        self._epochs = int(state["epochs"])
        self._ego.data.copy_(torch.from_numpy(state["ego"]))
        self._optimizer.state[self._ego] = {
            key.removeprefix("ego."): torch.from_numpy(value.copy())
            for key, value in state.items()
            if key.startswith("ego.")
        }


class LightGCN:
    """Light graph convolution (He, Deng, Wang, Li, Zhang and Wang 2020, arXiv 2002.02126)."""

    name: ClassVar[str] = "lightgcn"
    config: ClassVar[type[Any]] = LightGCNConfig
    user_table: ClassVar[bool] = True
    max_epochs: ClassVar[int] = 100
    patience: ClassVar[int] = 15

    def candidates(self, config: LightGCNConfig) -> Sequence[LightGCNConfig]:
        return [config]

    def trainer(
        self,
        train: Interactions,
        sizes: SizePlan,
        config: LightGCNConfig,
        *,
        seed: int,
        threads: int | None = None,
        device: str = "cpu",
    ) -> LightGCNTrainer:
        """Start a fit. `threads` None: one a core for the sparse products, one for torch.

        Raises:
            UnsupportedError: a device other than the CPU.
            TableError: sizes that do not fit the rows.
        """
        if device != "cpu":
            raise UnsupportedError(f"lightgcn runs on the CPU only, not on {device!r}; leave the device out")
        check_sizes(sizes.users, train.n_users, sizes.d, "user")
        check_sizes(sizes.items, train.n_items, sizes.d, "item")
        return LightGCNTrainer(train, sizes, config, seed, threads)

    def encode(
        self, vectors: Vectors, train: Interactions, config: LightGCNConfig, *, threads: int | None = None
    ) -> Encoded:
        """A linear encoder, fitted to the users' vectors."""
        return fit_linear(vectors, train)


def _mask(train: Interactions, sizes: SizePlan) -> torch.Tensor | None:
    """(n_users + n_items, d) bool prefix mask, or None where all rows are full."""
    if sizes.users is None and sizes.items is None:
        return None
    pairs = ((sizes.users, train.n_users), (sizes.items, train.n_items))
    full = [np.full(n, sizes.d) if given is None else given for given, n in pairs]
    return torch.from_numpy(prefix_mask(np.concatenate(full), sizes.d))


def singular_vectors(train: Interactions, d: int, seed: int) -> NDArray[np.float32]:
    """(n, d) the leading singular vectors of D^-1/2 R D^-1/2 by the root of their values, the rows by the root of
    their degrees: on Gowalla's validation part this scores .122 of Recall@20 before training, and .115 without
    the degrees."""
    u, s, v = truncated_svd(scaled_matrix(train, 0.5, 0.5), d, np.random.default_rng(seed))
    degrees = np.concatenate([train.user_counts(), train.item_counts()])
    rows: NDArray[np.float32] = np.concatenate([u, v]) * np.sqrt(s) * np.sqrt(degrees)[:, None].astype(np.float32)
    return rows
