"""NCF: neural matrix factorisation, in which a small network scores two rows, trained by BPR."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.models.adam import Adam
from edgerec.models.base import SizePlan, Vectors
from edgerec.models.mf import MF, MFConfig, MFTrainer
from edgerec.models.scorer import NeuMFScorer
from edgerec.models.settings import check_range

if TYPE_CHECKING:
    import torch
    from torch.nn.functional import relu
else:
    torch = require("torch", "train")
    relu = torch.nn.functional.relu

GRAPH_VALUES = 512
"""Upper bound, in float32 values, of the additional bytes of an NCF bundle's graphs and manifest."""


@dataclass(frozen=True)
class NCFConfig(MFConfig):
    """Settings of NCF: those of BPR matrix factorisation, and the network's.

    Attributes:
        negatives, l2: as in `MFConfig`. On ML-100K's validation part NDCG@20 was .292 with 4 and 0.03, .258 with the 8
            and 0.015 of matrix factorisation; at 10 % by popularity .282 and .278.
        hidden: width of the perceptron's hidden layer, one as in CIESS and BET. 16 are as good as 32 there.
        products: share of an average row, 0 to 1, for the products; the perceptron has the rest.
        rate: ratio of the network's step size to that of the tables.
    """

    negatives: int = 4
    l2: float = 0.03
    hidden: int = 16
    products: float = 0.75
    rate: float = 0.1

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        super().__post_init__()
        check_range("hidden", self.hidden, 1, 1e5)
        check_range("products", self.products, 0, 1)
        check_range("rate", self.rate, 0, 1e3)


@dataclass(frozen=True)
class Network:
    """The network that scores rows whose first m values are products and whose others are the perceptron's.

    Attributes:
        arrays: arrays by the names of `NeuMFScorer.arrays`, without the last bias, which changes no ranking.
    """

    arrays: dict[str, torch.Tensor]

    @classmethod
    def drawn(cls, m: int, d: int, hidden: int, generator: torch.Generator, device: torch.device) -> Network:
        """Return a network to train, for rows (n, d).

        Products have the weight one; the perceptron's weights are drawn uniformly, with the variance of Glorot and
        Bengio (2010).
        """
        shapes = {"weights0": (2 * (d - m), hidden), "weights1": (hidden, 1)}
        arrays = {"gmf": torch.ones(m), "biases0": torch.zeros(hidden)}
        for name, shape in shapes.items():
            arrays[name] = (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(6 / sum(shape))
        return cls({name: value.to(device).requires_grad_() for name, value in arrays.items()})

    def detached(self) -> Network:
        """Return the same network without gradients."""
        return Network({name: value.detach() for name, value in self.arrays.items()})

    def margin(self, p: torch.Tensor, q: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        """Return (n,) scores of negatives r (n, d) minus those of items q (n, d) for users p (n, d)."""
        own = self.own(p)
        one, other = (self.score(p, own, rows, self.its(rows)) for rows in (q, r))
        return other - one

    def own(self, p: torch.Tensor) -> torch.Tensor:
        """Return (n, hidden) inputs of the hidden layer from user rows p (n, d)."""
        return torch.addmm(self.arrays["biases0"], p[:, self._m :], self.arrays["weights0"][: p.shape[1] - self._m])

    def its(self, q: torch.Tensor) -> torch.Tensor:
        """Return (n, hidden) inputs of the hidden layer from item rows q (n, d)."""
        return q[:, self._m :] @ self.arrays["weights0"][q.shape[1] - self._m :]

    def score(self, p: torch.Tensor, own: torch.Tensor, q: torch.Tensor, its: torch.Tensor) -> torch.Tensor:
        """Return (n,) scores of rows p and q (n, d), whose hidden inputs are `own` and `its` (n, hidden)."""
        m = self._m
        return (p[:, :m] * q[:, :m]) @ self.arrays["gmf"] + relu(own + its) @ self.arrays["weights1"][:, 0]

    def scorer(self) -> NeuMFScorer:
        """Return copies of the weights as a scorer for export."""
        found = {name: value.detach().cpu().numpy().copy() for name, value in self.arrays.items()}
        return NeuMFScorer.from_arrays({**found, "biases1": np.zeros(1, np.float32)})

    @property
    def _m(self) -> int:
        return len(self.arrays["gmf"])


class NCFTrainer(MFTrainer):
    """Trains score(u, i) = h . (p_u[:m] * q_i[:m]) + w . ReLU(W [p_u[m:], q_i[m:]] + b): the sum of generalised matrix
    factorisation and a perceptron (He et al. 2017, arXiv 1708.05031, section 3.4, NeuMF), both in one row.

    The loss is BPR, as in CIESS and BET, with the masks of `MFTrainer`. With truncated rows the products take a share
    of the average size, so that most rows have values of both branches, as in BET (authors' code).
    """

    def __init__(
        self, train: Interactions, sizes: SizePlan, config: NCFConfig, seed: int, threads: int | None, device: str
    ) -> None:
        super().__init__(train, sizes, config, seed, threads, device)
        m = products(train, sizes, config.products)
        self._network = Network.drawn(m, sizes.d, config.hidden, self._generator, self._device)
        self._adam = Adam({**self._adam.named, **self._network.arrays})
        self._rate = config.rate

    def epoch(self) -> dict[str, float]:
        """Train on every interaction once. `loss`: the mean ranking loss without decay; `weights`: network values."""
        return {**super().epoch(), "weights": self._network.scorer().n_weights}

    def _rates(self) -> list[float]:
        lr = self._config.lr * self._config.decay**self._epochs
        return [lr, lr, *([self._rate * lr] * len(self._network.arrays))]

    def _margin(self, p: torch.Tensor, q: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return self._network.margin(p, q, r)

    def _of_drawn(self, p: torch.Tensor, drawn: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        network = self._network.detached()
        own, its = network.own(p), network.its(table)
        return torch.stack([network.score(p, own, table[row], its[row]) for row in drawn])

    def vectors(self) -> Vectors:
        return replace(super().vectors(), scorer=self._network.scorer())


class NCF(MF):
    """Neural collaborative filtering (He, Liao, Zhang, Nie, Hu and Chua 2017, arXiv 1708.05031), as NeuMF."""

    name: ClassVar[str] = "ncf"
    config: ClassVar[type[Any]] = NCFConfig
    max_epochs: ClassVar[int] = 40
    trainer_class = NCFTrainer

    def encode(self, vectors: Vectors, train: Interactions, config: Any, *, threads: int | None = None) -> None:
        """Return None: no encoder of histories is known for the network."""

    def extra_parameters(self, d: int, config: NCFConfig) -> int:
        """Return an upper bound of the network's values and of its larger graph."""
        return 2 * d * config.hidden + 2 * config.hidden + 1 + d + GRAPH_VALUES


def products(train: Interactions, sizes: SizePlan, share: float) -> int:
    """Return the number of product dimensions: a share of the average row that leaves the perceptron at least one."""
    pairs = ((sizes.users, train.n_users), (sizes.items, train.n_items))
    stored = sum(sizes.d * n if given is None else int(given.sum()) for given, n in pairs)
    return min(round(share * stored / (train.n_users + train.n_items)), sizes.d - 1)
