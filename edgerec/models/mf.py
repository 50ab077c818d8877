"""Matrix factorisation trained by Bayesian personalised ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.extras import require
from edgerec.models.base import SizePlan, State, Vectors
from edgerec.models.prefix import check_sizes, prefix_mask

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MFConfig:
    """Settings of BPR matrix factorisation.

    Attributes:
        d: dimensions of a full row where nothing else decides them.
        lr: Adam's first step size.
        decay: factor on the step size after every epoch.
        batch: interactions in a step.
        l2: weight decay on the rows that a step touches, by interaction.
        std: standard deviation of the initial values.
    """

    d: int = 64
    lr: float = 0.03
    decay: float = 0.95
    batch: int = 10_000
    l2: float = 1e-3
    std: float = 0.1


class MFTrainer:
    """score(u, i) = p_u . q_i, trained on -ln sigmoid(score(u, i) - score(u, j)) for an item j drawn uniformly
    (Rendle et al. 2009, BPR-MF).

    Gradients are masked to the sizes and so are the initial values: Adam's moments stay zero past a row's size,
    and with them its values, exactly.
    """

    def __init__(
        self,
        train: Interactions,
        sizes: SizePlan,
        config: MFConfig,
        seed: int,
        threads: int | None,
        device: str,
    ) -> None:
        self._torch = torch = require("torch", "train")
        if threads is not None:
            torch.set_num_threads(threads)
        self._config, self._device = config, torch.device(device)
        # Drawn on the CPU whatever the device, so that both see the same samples.
        self._generator = torch.Generator().manual_seed(seed)
        self._pairs = [torch.from_numpy(rows.astype(np.int64)) for rows in (train.user_rows(), train.indices)]
        self._n_items = train.n_items
        self._users = self._table(train.n_users, sizes.d, sizes.users)
        self._items = self._table(train.n_items, sizes.d, sizes.items)
        self._optimizer = torch.optim.Adam([self._users, self._items], lr=config.lr, fused=True)
        self._epochs = 0

    def epoch(self) -> dict[str, float]:
        """Every interaction once, in a drawn order. `loss`: the mean ranking loss, without the decay."""
        torch, config = self._torch, self._config
        self._optimizer.param_groups[0]["lr"] = config.lr * config.decay**self._epochs
        users, items = self._pairs
        order = torch.randperm(len(users), generator=self._generator)
        negatives = torch.randint(self._n_items, (len(users),), generator=self._generator)
        total = torch.zeros((), device=self._device)
        for picked in order.split(config.batch):
            rows = (part[picked].to(self._device) for part in (users, items, negatives))
            total += self._step(*rows) * len(picked)
        self._epochs += 1
        return {"loss": float(total) / len(users)}

    def _step(self, users: torch.Tensor, items: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        functional = self._torch.nn.functional
        p = functional.embedding(users, self._users)
        q = functional.embedding(items, self._items)
        r = functional.embedding(negatives, self._items)
        ranking = functional.softplus(-(p * (q - r)).sum(1)).mean()
        decay = (p.square().sum() + q.square().sum() + r.square().sum()) / len(users)
        self._optimizer.zero_grad()
        (ranking + self._config.l2 * decay).backward()
        self._optimizer.step()
        result: torch.Tensor = ranking.detach()
        return result

    def _table(self, n: int, d: int, sizes: NDArray[np.int64] | None) -> torch.Tensor:
        torch = self._torch
        values = torch.randn(n, d, generator=self._generator) * self._config.std
        if sizes is None:
            return values.to(self._device).requires_grad_()
        mask = torch.from_numpy(prefix_mask(sizes, d).astype(np.float32)).to(self._device)
        table: torch.Tensor = (values.to(self._device) * mask).requires_grad_()
        table.register_hook(lambda gradient: gradient * mask)
        return table
