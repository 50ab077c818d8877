"""NCF in sparse form: rows as matrix factorisation has them, and a network that is trained in full beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.methods.sparse.beside import Weights
from edgerec.methods.sparse.mf import MFObjective
from edgerec.methods.sparse.objective import Source
from edgerec.methods.sparse.table import Floats, Rows
from edgerec.models import SizePlan, Vectors
from edgerec.models.ncf import NCFConfig, Network, products

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")


class NCFObjective(MFObjective):
    """The loss of `edgerec.models.ncf.NCFTrainer` on a sparse table: a row's products and its perceptron's values share
    the d dimensions as there where rows are full, and active values stand in either.

    Gradients by the network are of the whole batch at every step, whichever rows have one.
    """

    def __init__(
        self,
        train: Interactions,
        d: int,
        config: NCFConfig,
        threads: int | None,
        rows: int | None,
        *,
        seed: int = 0,
        values: int | None = None,
    ) -> None:
        super().__init__(train, d, config, threads, rows, seed=seed, values=values)
        m = products(train, SizePlan(d), config.products)
        generator = torch.Generator().manual_seed(seed)
        self._network = Network.drawn(m, d, config.hidden, generator, torch.device("cpu"))
        self._weights = Weights(self._network.arrays)
        self._rate = config.rate

    @property
    def weights(self) -> int:
        return self._network.scorer().n_weights

    def step(self, lr: float) -> None:
        super().step(self._rate * lr)

    def _behind(self, p: torch.Tensor, q: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return self._network.behind(p, q, r)

    def _scores(self, table: Source, users: Rows) -> Callable[[Rows], Floats]:
        network, p = self._network.detached(), torch.from_numpy(table.rows(users))
        own = network.own(p)

        def scores(items: Rows) -> Floats:
            q = torch.from_numpy(table.rows(items))
            found: Floats = network.score(p, own, q, network.its(q)).numpy()
            return found

        return scores

    def vectors(self, table: Source) -> Vectors:
        return replace(super().vectors(table), scorer=self._network.scorer())
