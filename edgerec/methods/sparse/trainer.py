"""Dynamic sparse training: values are dropped and grown during training, and their number is constant."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.methods.sparse.growth import Accumulator, LastBatch, at_random, weakest
from edgerec.methods.sparse.masks import begin
from edgerec.methods.sparse.plan import Objective, SparsePlan
from edgerec.methods.sparse.table import ActiveTable, Floats, GradientBlocks, Ints
from edgerec.models import State, Vectors, torch_threads
from edgerec.models.losses import draw, inclusion_chances

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")


_IMPORTANCE_DECAY = 0.9
"""Decay of the running mean of gradient norms: the weight of the old value at an update."""


class RowSampler:
    """Draws rows by importance, the running mean of their gradients' norms, initially their popularity.

    A uniform share gives every row a chance. Choices of ours: the paper (SparseRec) says that a subset of important
    vectors is sampled, but not how.

    Attributes:
        importance: (n_rows,) float32, positive.
    """

    def __init__(self, popularity: NDArray[np.int64], uniform: float) -> None:
        """Initialise importances by popularity; `uniform`, 0 to 1, is the weight of a uniform draw mixed with them."""
        self.importance = np.maximum(popularity, 1).astype(np.float32)
        self._uniform = uniform

    def chances(self, rows: Ints, count: int) -> NDArray[np.float64]:
        """Return the (n,) inclusion probabilities in a draw of `count` of `rows`, proportional to weights, at most
        1."""
        own = self.importance[rows].astype(np.float64)
        return inclusion_chances((1 - self._uniform) * own / own.sum() + self._uniform / rows.size, count)

    def update(self, rows: Ints, norms: Floats) -> None:
        """Update the importances of rows from their gradients' norms (n,); the sum of these importances is constant."""
        if (total := norms.sum()) > 0:
            own = self.importance[rows]
            self.importance[rows] = _IMPORTANCE_DECAY * own + (1 - _IMPORTANCE_DECAY) * norms * (own.sum() / total)

    def state(self) -> State:
        """Return a copy of the importances."""
        return {"importance": self.importance.copy()}

    def restore(self, state: State) -> None:
        """Restore from `state()`."""
        self.importance = state["importance"].copy()


Begin = Callable[[np.random.Generator], ActiveTable]
"""Returns the initial table of a training."""


class SparseTrainer:
    """Trains an objective's active values within a plan.

    All random draws of an epoch depend only on the seed and the epoch, so that the state holds no generator.
    """

    def __init__(
        self,
        objective: Objective,
        plan: SparsePlan,
        popularity: NDArray[np.int64],
        begin: Begin,
        *,
        seed: int,
        threads: int | None,
    ) -> None:
        """Prepare a fit.

        Args:
            popularity: (n_rows,) interactions of each row.
            begin: returns the initial table at first use; not called by a resumed fit.
        """
        self._objective, self._plan, self._seed, self._threads = objective, plan, seed, threads
        self._begin = begin
        self._table: ActiveTable | None = None
        self.sampler = RowSampler(popularity, plan.uniform)
        self.accumulator: Accumulator | None = None
        self._epochs = 0

    @property
    def table(self) -> ActiveTable:
        """The trained table."""
        return self._table or self._set_table(self._begin(np.random.default_rng(self._seed)))

    def _set_table(self, table: ActiveTable) -> ActiveTable:
        self._table = table
        if self._plan.grow == "accumulated":
            slots = min(max(table.values.size // table.n_rows, 1), table.d)
            self.accumulator = Accumulator(table.n_rows, table.d, slots)
        return table

    def epoch(self) -> dict[str, float]:
        """Train on every interaction once.

        `loss`: mean loss of the steps; `changed`: share of the values that were replaced; `weights`: number of values
        outside the table, if there are any.
        """
        generator = torch.Generator().manual_seed(int(self._rng().integers(1 << 63)))
        lr, losses, replaced = self._objective.lr(self._epochs), [], 0
        with torch_threads(self._threads):
            self._objective.refresh_mask(self.table)
            for batch in self._objective.batches(self.table, generator):
                due = self._is_due(self.table.steps + 1)
                growth = self._growth(due)
                losses.append(self._step(batch, lr, generator, growth))
                replaced += self._change(growth) if due else 0
        self._epochs += 1
        values = {"loss": float(np.mean(losses)), "changed": replaced / self.table.values.size}
        weights = self._objective.weights
        return {**values, "weights": weights} if weights else values

    def _growth(self, due: bool) -> Accumulator | LastBatch | None:
        """Return the object that collects gradients of inactive values in the next step; None if none are needed."""
        if not self._mask_may_change():
            return None
        if self._plan.grow == "last-batch":
            return LastBatch(self._plan.bounds, self._drop_counts(), self.table.d) if due else None
        return self.accumulator

    def _step(self, batch: Any, lr: float, generator: torch.Generator, growth: Accumulator | LastBatch | None) -> float:
        rows = self._objective.active_rows(batch)
        chances = np.ones(rows.size)
        sampled = self._plan.backward == "sampled"
        if sampled and rows.size > self._plan.rows:
            chances = self.sampler.chances(rows, self._plan.rows)
            chosen = np.sort(draw(torch.from_numpy(chances), generator).numpy())
            rows, chances = rows[chosen], chances[chosen]
        loss, gradients = self._objective.gradient(self.table, batch, rows)
        squares = np.zeros(rows.size, np.float32)

        def seen() -> GradientBlocks:
            for start, part in gradients:
                if sampled:
                    squares[:] += np.einsum("nk,nk->n", part, part)
                    # Divided by the inclusion probability, so that its expected value is the gradient of all rows.
                    part /= chances[:, None].astype(np.float32)
                if growth is not None:
                    growth.add(self.table, rows, start, part)
                yield start, part

        self.table.step(rows, seen(), lr, lazy=sampled)
        if sampled:
            self.sampler.update(rows, np.sqrt(squares))
        self._objective.step(lr)
        return loss

    def _mask_may_change(self) -> bool:
        """Return True in epochs before the horizon, after which the mask is fixed."""
        return self._epochs < self._plan.horizon and self._plan.fraction > 0

    def _is_due(self, step: int) -> bool:
        # By default in the middle of an epoch, so that grown values are trained before the validation at its end.
        every = self._plan.every or self._objective.steps
        return self._mask_may_change() and step % every == every // 2

    def _drop_counts(self) -> list[int]:
        """Return the maximum number of values that a change in this epoch drops in each of the row ranges.

        The fraction follows a cosine over the epochs, and every row keeps at least one value.
        """
        plan = self._plan
        cosine = (1 + np.cos(np.pi * self._epochs / plan.horizon)) / 2
        fraction = plan.last_fraction + (plan.fraction - plan.last_fraction) * cosine
        bounds = zip(plan.bounds, plan.counts, strict=True)
        return [min(int(fraction * count), count - (stop - start)) for (start, stop), count in bounds]

    def _change(self, growth: Accumulator | LastBatch | None) -> int:
        """Drop the smallest values, activate as many others, with value zero, and return their number."""
        replaced = 0
        dropped, rows, columns = [], [], []
        for (start, stop), count in zip(self._plan.bounds, self._drop_counts(), strict=True):
            if growth is None:
                grown = at_random(self.table, start, stop, count, self._rng(self.table.steps))
            else:
                grown = growth.strongest(start, stop, count)
            dropped.append(weakest(self.table, start, stop, grown[0].size))
            rows.append(grown[0])
            columns.append(grown[1])
            replaced += grown[0].size
        self.table.replace(np.concatenate(dropped), np.concatenate(rows), np.concatenate(columns))
        if self.accumulator is not None:
            self.accumulator.clear()
        return replaced

    def _rng(self, step: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._epochs, step])

    def vectors(self) -> Vectors:
        return self._objective.vectors(self.table)

    def state(self) -> State:
        """Return the active values with their moments, the sums, the importances and the epoch count."""
        grown = self.accumulator.state() if self.accumulator is not None else {}
        own = {**self.table.state(), **self.sampler.state(), **self._objective.state()}
        return {**own, **grown, "epochs": np.array(self._epochs)}

    def restore(self, state: State) -> None:
        self._set_table(ActiveTable.restored(state))
        self.sampler.restore(state)
        self._objective.restore(state)
        if self.accumulator is not None:
            self.accumulator.restore(state)
        self._epochs = int(state["epochs"])


def trainer_of(
    train: Interactions, objective: Objective, plan: SparsePlan, *, seed: int, threads: int | None
) -> SparseTrainer:
    """Return a trainer with the plan's initial mask."""
    popularity = np.concatenate([train.user_counts(), train.item_counts()])
    start = partial(begin, train, objective, plan)
    return SparseTrainer(objective, plan, popularity, start, seed=seed, threads=threads)
