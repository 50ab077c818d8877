"""Matrix factorisation trained by Bayesian personalised ranking, on torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.models.adam import Adam
from edgerec.models.base import Backbone, SizePlan, State, Vectors, prefix_mask
from edgerec.models.encoder import Encoded, fit_linear
from edgerec.models.settings import check_range, check_ranges
from edgerec.models.shared_rows import SharedRows, drawn_rows, own_interactions, table_rows, within
from edgerec.models.torch_tools import device_of, torch_threads

if TYPE_CHECKING:
    import torch
    from torch.nn.functional import embedding, softplus
else:
    torch = require("torch", "train")
    embedding, softplus = torch.nn.functional.embedding, torch.nn.functional.softplus

_MIN_STEPS = 64
_BITS = 64
"""Bits of the filter for each interaction: one unobserved pair in 64 shares the bit of an observed one."""
_MOST_BITS = (1 << 31) - 1
_ODD = 0x9E3779B97F4A7C15 - (1 << 64)
"""2^64 over the golden ratio: the upper half of its product with a key is spread evenly (Knuth, volume 3, 6.4)."""


@dataclass(frozen=True)
class MFConfig:
    """Settings of BPR matrix factorisation.

    Attributes:
        lr: Adam's first step size.
        decay: factor on the step size after every epoch.
        batch: maximum number of interactions in a step; fewer if an epoch would have under 64 steps.
        negatives: items drawn for an interaction; the one with the highest score is the negative. 1 is plain BPR, more
            is dynamic negative sampling (Zhang et al. 2013).
        l2: weight decay on the rows that a step touches, by interaction.
        std: standard deviation of the initial values.
    """

    lr: float = 0.03
    decay: float = 0.85
    batch: int = 10_000
    negatives: int = 8
    l2: float = 0.015
    std: float = 0.1

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_ranges(self, 1e-9, 1e3, "lr", "std")
        check_range("decay", self.decay, 1e-3, 1)
        check_range("batch", self.batch, 1, 1e9)
        check_range("negatives", self.negatives, 1, 1e4)
        check_range("l2", self.l2, 0, 1e6)


class Observed:
    """An exact test of which pairs of a user and an item are observed.

    A bit for each pair is n_users * n_items / 8 bytes: ML-1M 3 MB, Gowalla 153 MB, 12 GB for a million users and
    100,000 items. If that is more than 64 bits an interaction, a hash maps pairs to 64 bits an interaction, and the few
    pairs whose bit is set are searched among the observed ones. Searching for every pair is far slower.

    Attributes:
        nbytes: bytes in memory.
    """

    def __init__(self, train: Interactions, device: torch.device | str = "cpu") -> None:
        cells = train.n_users * train.n_items
        self._n_items, self._bits = train.n_items, min(cells, _BITS * len(train), _MOST_BITS)
        self._alone = self._bits == cells
        pairs = train.user_rows().astype(np.int64) * train.n_items + train.indices
        keys = torch.from_numpy(np.sort(pairs, kind="stable"))  # in linear time if they are ascending, as most are
        places = self._places(keys).numpy()
        flags = np.zeros(-(-self._bits // 8), np.uint8)
        np.bitwise_or.at(flags, places >> 3, np.left_shift(1, places & 7).astype(np.uint8))
        self._flags = torch.from_numpy(flags).to(device)
        self._keys = keys[:0] if self._alone else keys.to(device)
        self.nbytes = self._flags.nbytes + self._keys.nbytes

    def __call__(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return bool for pairs of user and item rows, int64 of shapes that broadcast, on the device."""
        keys = users * self._n_items + items
        places = self._places(keys)
        found = ((self._flags[places >> 3] >> (places & 7)) & 1).bool()
        if not self._alone:
            hits = keys[found]
            at = torch.searchsorted(self._keys, hits).clamp_(max=len(self._keys) - 1)
            found[found.clone()] = self._keys[at] == hits
        return found

    def hardest(self, users: torch.Tensor, drawn: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return (n,) of the items drawn (negatives, n) the unobserved one of users (n,) with the highest score.

        `scores` (negatives, n) are changed.
        """
        scores.masked_fill_(self(users, drawn), -torch.inf)
        return drawn.gather(0, scores.argmax(0, keepdim=True))[0]

    def _places(self, keys: torch.Tensor) -> torch.Tensor:
        """Return the bit numbers of pairs."""
        return keys if self._alone else ((((keys * _ODD) >> 32) & 0xFFFFFFFF) * self._bits) >> 32


class MFTrainer:
    """Trains score(u, i) = p_u . q_i on -ln sigmoid(score(u, i) - score(u, j)) for an unobserved item j
    (Rendle et al. 2009, BPR-MF), here the hardest of a few drawn uniformly.

    Gradients and initial values are masked to the sizes, so Adam's moments and the values past a row's size stay
    exactly zero.
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
        """Start a fit. Raises UnsupportedError for a device that torch does not find."""
        self._config, self._threads, self._device = config, threads, device_of(device)
        # Drawn on the CPU whatever the device, so that both see the same samples.
        self._generator = torch.Generator().manual_seed(seed)
        self._pairs = [torch.from_numpy(rows.astype(np.int64)) for rows in (train.user_rows(), train.indices)]
        self._train, self._shared, self._places = train, SharedRows(train), own_interactions(train)
        self._observed = Observed(train, self._device) if config.negatives > 1 else None
        of_items = None if sizes.items is None else sizes.items[train.own_items]
        self._masks = (self._mask(sizes.users, sizes.d), self._mask(of_items, sizes.d))
        self._users = self._table(train.all_users, train.own_users, sizes.d, self._masks[0])
        self._items = self._table(train.n_items, train.own_items, sizes.d, self._masks[1])
        self._adam = Adam({"users": self._users, "items": self._items})
        self._epochs = 0

    def epoch(self) -> dict[str, float]:
        """Train on every interaction once, in a drawn order. `loss`: the mean ranking loss, without the decay."""
        config = self._config
        (users, items), (own, n) = self._pairs, self._places
        order = torch.randperm(n, generator=self._generator)
        total = torch.zeros((), device=self._device)
        batch = max(1, min(config.batch, n // _MIN_STEPS))
        with torch_threads(self._threads):
            for start in range(0, n, batch):
                picked = order[start : start + batch]
                shape = (config.negatives, len(picked))
                drawn = torch.randint(self._train.n_items, shape, generator=self._generator)
                mine = within(picked, own)
                places = picked[mine] - own.start
                rows = [part.to(self._device) for part in (users[places], items[places], drawn[:, mine])]
                total += self._step(rows[0], rows[1], rows[2], len(picked)) * len(picked)
        self._epochs += 1
        return {"loss": self._train.ranks.total(float(total)) / n}

    def _step(self, users: torch.Tensor, items: torch.Tensor, drawn: torch.Tensor, n: int) -> torch.Tensor:
        """Make one step on the rank's users (k,), items (k,) and candidate negatives (negatives, k).

        Returns the rank's part of the mean ranking loss of the n pairs of all ranks.
        """
        table = self._shared.fetch(self._items, items, drawn)
        p = embedding(users, self._users)
        q = embedding(items, table)
        hardest = self._hardest(p.detach(), users, drawn, table.detach())
        r = embedding(hardest, table)
        ranking = softplus(self._margin(p, q, r)).sum() / n
        decay = (p.square().sum() + q.square().sum() + r.square().sum()) / n
        others = self._adam.tensors[2:]
        of_users, of_items, *of_others = torch.autograd.grad(
            ranking + self._config.l2 * decay, [self._users, table, *others]
        )
        gradients = [of_users, self._shared.sum(of_items, items, hardest), *of_others]
        cut = [gradient if mask is None else gradient * mask for gradient, mask in zip_longest(gradients, self._masks)]
        self._adam.step(cut, self._rates())
        return ranking.detach()

    def _rates(self) -> float | list[float]:
        """Return the learning rate of the epoch, or those of all trained tensors."""
        return self._config.lr * self._config.decay**self._epochs

    def _margin(self, p: torch.Tensor, q: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        """Return (n,) scores of negatives r (n, d) minus those of items q (n, d) for users p (n, d)."""
        return (p * (r - q)).sum(1)

    def _of_drawn(self, p: torch.Tensor, drawn: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Return (negatives, n) scores of the items drawn (negatives, n) for users p (n, d), without a gradient."""
        return torch.stack([(p * table[row]).sum(1) for row in drawn])

    def _hardest(self, p: torch.Tensor, users: torch.Tensor, drawn: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Return (n,) of the items drawn (negatives, n) the unobserved one with the highest score for p (n, d)."""
        if self._observed is None:
            return drawn[0]
        return self._observed.hardest(users, drawn, self._of_drawn(p, drawn, table))

    def _mask(self, sizes: NDArray[np.int64] | None, d: int) -> torch.Tensor | None:
        if sizes is None:
            return None
        return torch.from_numpy(prefix_mask(sizes, d).astype(np.float32)).to(self._device)

    def _table(self, n: int, own: slice, d: int, mask: torch.Tensor | None) -> torch.Tensor:
        """Return the rank's rows of the n first rows."""
        values = drawn_rows(n, d, [own], self._generator).to(self._device) * self._config.std
        return (values if mask is None else values * mask).requires_grad_()

    def vectors(self) -> Vectors:
        users, items = (table.detach().cpu().numpy().copy() for table in (self._users, self._items))
        return Vectors(users, self._train.ranks.gather(items))

    def state(self) -> State:
        """Return the tables, Adam's moments and step counts by table, the generator and the epoch count."""
        state: State = {"generator": self._generator.get_state().numpy(), "epochs": np.array(self._epochs)}
        return state | self._adam.state()

    def restore(self, state: State) -> None:
        self._generator.set_state(torch.from_numpy(state["generator"].copy()))
        self._epochs = int(state["epochs"])
        own = {"users": self._train.own_users, "items": self._train.own_items}
        self._adam.restore(table_rows(state, own))


class MF(Backbone):
    """Matrix factorisation with the BPR loss (Rendle, Freudenthaler, Gantner and Schmidt-Thieme 2009)."""

    name: ClassVar[str] = "mf"
    config: ClassVar[type[Any]] = MFConfig
    max_epochs: ClassVar[int] = 25
    patience: ClassVar[int] = 5
    trainer_class: ClassVar[type[MFTrainer]] = MFTrainer

    def encode(
        self, vectors: Vectors, train: Interactions, config: Any, *, threads: int | None = None
    ) -> Encoded | None:
        """Return a linear encoder, fitted to the users' vectors."""
        return fit_linear(vectors, train)
