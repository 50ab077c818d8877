"""Warm-start training: the tables of a segment start from those of the previous one, with rows cut or extended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions, Segment
from edgerec.data.ids import rows_of
from edgerec.errors import UnsupportedError
from edgerec.models import Backbone, SizePlan, State, Trainer, Vectors, check_choice, check_range, cut, prefix_mask
from edgerec.models.ials import IALSRefit
from edgerec.tables import PrefixTable
from edgerec.training import Start

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

NOISE = 0.01
"""Standard deviation of initial values of new rows and of new dimensions (SCALL's code)."""


def sides_of(plan: SizePlan) -> tuple[Ints, Ints]:
    """Return the (n_users,) and (n_items,) sizes of a plan. Raises ValueError if one is None."""
    if plan.users is None or plan.items is None:
        raise ValueError("a plan of a stream must size users and items")
    return plan.users, plan.items


@dataclass(frozen=True)
class CarriedTable:
    """The table of users or of items from which the next segment continues.

    Attributes:
        ids: (n,) raw ids.
        table: the table, within the budget.
    """

    ids: NDArray[Any]
    table: PrefixTable

    @classmethod
    def of(cls, ids: NDArray[Any], rows: Floats, sizes: Ints) -> CarriedTable:
        """Return the table of rows (n, d), each truncated to its size in `sizes` (n,)."""
        return cls(ids, PrefixTable.from_dense(rows, sizes))

    def places(self, ids: NDArray[Any]) -> Ints:
        """Return the (n,) positions of this table's ids in `ids`, which include them."""
        return rows_of(self.ids, ids)

    def moved(self, ids: NDArray[Any], sizes: Ints, d: int, rng: np.random.Generator) -> Floats:
        """Return (len(ids), d) rows of `sizes` (len(ids),): the first min(old, new) values of each, then noise.

        New rows are noise alone.
        """
        rows = (NOISE * rng.standard_normal((len(ids), d))).astype(np.float32)
        places = self.places(ids)
        rows[places] = np.where(prefix_mask(self.table.sizes(), d), self.table.dense(), rows[places])
        return cut(rows, sizes)

    def resized(self, ids: NDArray[Any], sizes: Ints) -> NDArray[np.bool_]:
        """Return (len(ids),) bool: True for a row that is new, or whose size changes."""
        changed = np.ones(len(ids), np.bool_)
        places = self.places(ids)
        changed[places] = sizes[places] != self.table.sizes()
        return changed


@dataclass(frozen=True)
class Carry:
    """The tables of users and items at the end of a segment."""

    users: CarriedTable
    items: CarriedTable

    @classmethod
    def of(cls, known: Interactions, plan: SizePlan, users: Floats, items: Floats) -> Carry:
        """Return the rows of the users and items of `known`, truncated to a plan that sizes both."""
        of_users, of_items = sides_of(plan)
        return cls(CarriedTable.of(known.user_ids, users, of_users), CarriedTable.of(known.item_ids, items, of_items))

    def moved(self, known: Interactions, plan: SizePlan, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return the (n_users, d) and (n_items, d) rows of all known ones (see `CarriedTable.moved`)."""
        of_users, of_items = sides_of(plan)
        users = self.users.moved(known.user_ids, of_users, plan.d, rng)
        return users, self.items.moved(known.item_ids, of_items, plan.d, rng)

    def means(self) -> Floats:
        """Return the (2 d,) mean user vector and mean item vector, concatenated."""
        return np.concatenate([side.table.dense().mean(0) for side in (self.users, self.items)])

    def state(self) -> State:
        """Return everything as arrays."""
        state: State = {"d": np.array(self.users.table.d)}
        for name, side in (("users", self.users), ("items", self.items)):
            state[f"{name}.ids"] = side.ids
            state |= {f"{name}.{key}": array for key, array in side.table.arrays().items()}
        return state

    @classmethod
    def from_state(cls, state: State) -> Carry:
        """Read the arrays of `state`. Raises KeyError, TableError if they are incomplete."""
        sides = []
        for name in ("users", "items"):
            arrays = {key.removeprefix(f"{name}."): state[key] for key in state if key.startswith(f"{name}.")}
            sides.append(CarriedTable(arrays["ids"], PrefixTable.from_arrays(arrays, int(state["d"]))))
        return cls(*sides)


BACKBONES = ("ials", "lightgcn")
EPOCHS = {"ials": (1, 1), "lightgcn": (60, 20)}
"""Epochs of the first segment and of each later one. A pass of iALS solves every
row exactly for the other table, and starts from singular vectors."""
PARTIAL = 2
"""Passes of iALS when it continues from the previous tables: new dimensions start as noise, and one pass is not enough
for them. With uniform sizes at 10 % and eight segments, the mean NDCG@20 on ML-100K was .172 after two passes and .163
after one, on ML-1M .110 and .109; a full training has .181 and .118."""
REFITS = ("full", "all", "touched", "active")


@dataclass(frozen=True)
class StreamTraining:
    """Settings of the training of every segment.

    Attributes:
        backbone: one of `BACKBONES`.
        config: config of the backbone.
        seed: seed of every random choice.
        threads: maximum number of threads; one makes the result reproducible to the bit.
        first, following: epochs of the first segment, and of each later one; None for `EPOCHS`.
        refit: rows that iALS solves from the previous tables: 'active' for rows of the segment and its replay,
            'touched' for those and rows whose size changes, 'all'; or 'full' to train as at the first segment.
    """

    backbone: Backbone
    config: Any
    seed: int = 0
    threads: int | None = None
    first: int | None = None
    following: int | None = None
    refit: str = "full"

    def __post_init__(self) -> None:
        """Raise UnsupportedError for a backbone that cannot continue, SettingError for values out of range."""
        if self.backbone.name not in BACKBONES:
            raise UnsupportedError(
                f"{self.backbone.name} cannot continue from a segment's tables; streams take {', '.join(BACKBONES)}"
            )
        # A stream has no part to choose settings on.
        object.__setattr__(self, "config", self.backbone.closed(self.config))
        check_range("epochs", self.first, 1, 1e6)
        check_range("epochs", self.following, 1, 1e6)
        check_choice("refit", self.refit, REFITS)

    def epochs(self, number: int) -> int:
        """Return the number of epochs of a segment."""
        first, following = EPOCHS[self.backbone.name]
        if self.backbone.name == "ials" and self.refit != "full":
            following = PARTIAL
        return (self.first or first) if number == 0 else (self.following or following)

    def start(self, segment: Segment, carry: Carry | None) -> Start:
        """Return a function that starts a fit of `segment` as `Backbone.trainer` does, from `carry` if there is one."""
        ials = self.backbone.name == "ials"
        if carry is None or (ials and self.refit == "full"):
            return self.backbone.trainer
        if ials:
            return partial(self._refit, segment, carry)
        return partial(self._continue_lightgcn, segment, carry)

    def trained(self, segment: Segment, plan: SizePlan, carry: Carry | None) -> Trainer:
        """Train a segment and return the trainer."""
        start = self.start(segment, carry)
        trainer = start(segment.known, plan, self.config, seed=self.seed, threads=self.threads, device="cpu")
        for _ in range(self.epochs(segment.number)):
            trainer.epoch()
        return trainer

    def carry_of(self, trainer: Trainer, segment: Segment, plan: SizePlan) -> Carry:
        """Return the tables for the next segment, truncated to their sizes; of LightGCN the ego rows."""
        state = trainer.state()
        if "ego" in state:
            users, items = np.split(state["ego"], [segment.known.n_users])
        else:
            users, items = state["users"], state["items"]
        return Carry.of(segment.known, plan, users, items)

    def _continue_lightgcn(
        self,
        segment: Segment,
        carry: Carry,
        known: Interactions,
        plan: SizePlan,
        config: Any,
        *,
        seed: int,
        threads: int | None = None,
        **options: Any,
    ) -> Trainer:
        """Train as SCALL's code does: on positives of the segment and its replay, with a new Adam."""
        # torch comes with the trainer; methods are listed without it.
        from edgerec.models.lightgcn import LightGCNTrainer

        config = replace(config, start="normal")
        trainer = LightGCNTrainer(known, plan, config, seed, threads, positives=segment.positives)
        rng = np.random.default_rng([seed, segment.number])
        trainer.restore({**trainer.state(), "ego": np.concatenate(carry.moved(known, plan, rng))})
        return trainer

    def _refit(
        self, segment: Segment, carry: Carry, known: Any, plan: SizePlan, config: Any, *, seed: int, **options: Any
    ) -> IALSRefit:
        users, items = carry.moved(known, plan, np.random.default_rng([seed, segment.number]))
        chosen = []
        sides = [(carry.users, known.user_ids), (carry.items, known.item_ids)]
        active = (segment.positives.user_counts() > 0, segment.positives.item_counts() > 0)
        for (side, ids), own, now in zip(sides, sides_of(plan), active, strict=True):
            if self.refit == "all":
                now = np.ones_like(now)
            elif self.refit == "touched":
                now = now | side.resized(ids, own)
            chosen.append(np.flatnonzero(now))
        return IALSRefit(known, plan, config, Vectors(users, items), (chosen[0], chosen[1]), options.get("threads"))


@dataclass(frozen=True)
class PastSegment:
    """A past segment as it was at its beginning, on which plans are evaluated.

    Attributes:
        training: settings of the training.
        segment: the segment; its test part is in the past, and may be used.
        carry: tables of the segment before it; None at the first.
    """

    training: StreamTraining
    segment: Segment
    carry: Carry | None

    def evaluate(self, plan: SizePlan) -> NDArray[np.float64]:
        """Train the segment within a plan and return the (n,) metric of each user of its test part.

        The metric is the mean of Recall@20 and NDCG@20; SCALL computes rewards from its mean over users. Training
        continues from `carry`; SCALL's code trains from scratch.
        """
        vectors = self.training.trained(self.segment, plan, self.carry).vectors()
        return self.segment.user_metric(vectors.users, vectors.items, threads=self.training.threads)
