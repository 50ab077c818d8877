"""LightGCN and NGCF in sparse form: ego rows are made into rows that score, of which the largest values ship."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.methods.sparse.dense_weights import DenseWeights
from edgerec.methods.sparse.masks import Mask, mask_of_largest
from edgerec.methods.sparse.plan import Source
from edgerec.methods.sparse.table import Floats, GradientBlocks, Ints
from edgerec.models import State, Vectors
from edgerec.models.graph_trainer import GraphConfig, singular_vectors
from edgerec.models.lightgcn import LightGCNConfig
from edgerec.models.losses import Batch, at_most, bpr, by_interaction, by_user, softmax
from edgerec.models.ngcf import LeaveOut, NGCFConfig, drawn_weights, named, scoring_rows, with_neighbours
from edgerec.models.propagation import Propagation, normalised_adjacency

if TYPE_CHECKING:
    import scipy.sparse
    import torch
else:
    torch = require("torch", "train")


_DIMENSIONS = 16
"""That go through the graph at once: of all rows in full, only so many exist. 64 bytes a row are a line of the cache: a
product with Gowalla's graph took 0.53 ms a dimension, and with 8 of them 0.72, with 32 again 0.53."""

Backward = Callable[[Floats, Ints], GradientBlocks]
"""The gradient by n ego rows, of the gradient by the rows that were made."""


class GraphObjective(ABC):
    """A ranking loss of `edgerec.models.losses` of rows that `_forward` makes of ego rows.

    What ships are the largest values of the rows that score, as many as the budget has. Where masks cut the output, the
    default, they are chosen anew before each epoch, and training sees no others.

    A step's own rows and their gradients are (rows of the batch, d): what it ranks decides what they take.
    """

    def __init__(
        self,
        train: Interactions,
        d: int,
        width: int,
        config: GraphConfig,
        weights: DenseWeights,
        seed: int,
        values: int | None,
    ) -> None:
        """`d`: dimensions of a row that scores; `width`: of an ego row."""
        self._train, self._d, self._config, self._seed, self._values = train, d, config, seed, values
        self._n_rows = train.n_users + train.n_items
        self._graph = normalised_adjacency(train)
        self._ranking = bpr if config.loss == "bpr" else partial(softmax, temperature=config.temperature)
        self._weights = weights
        self._kept: Mask | None = None
        self.width, self.std = width, config.std
        if config.loss == "bpr":
            self.steps = -(-len(train) // at_most(config.batch, len(train)))
        else:
            n = int((train.user_counts() > 0).sum())
            self.steps = -(-n // at_most(config.users, n))

    @property
    def weights(self) -> int:
        return self._weights.count

    def start(self) -> Floats | float:
        if self._config.start == "normal":
            return self.std
        values = singular_vectors(self._train, self.width, self._seed)
        values *= np.float32(self.std / max(float(np.sqrt(np.square(values).mean())), 1e-12))
        return values

    def lr(self, epoch: int) -> float:
        return self._config.lr * max(1 - epoch / self._config.horizon, 0.01)

    def refresh_mask(self, table: Source) -> None:
        if self._config.mask_at == "output":
            self._kept = None
            self._kept = self._largest(self._output(table), table)

    def batches(self, table: Source, generator: torch.Generator) -> Iterator[Batch]:
        config = self._config
        if config.loss == "bpr":
            return by_interaction(self._train, config.batch, generator)
        return by_user(self._train, config.users, config.negatives, generator, config.popular)

    def active_rows(self, batch: Batch) -> Ints:
        return np.arange(self._n_rows)

    def gradient(self, table: Source, batch: Batch, rows: Ints) -> tuple[float, GradientBlocks]:
        parts = [part.numpy() for part in (batch.users, batch.items, batch.negatives)]
        own, index = np.unique(np.concatenate(parts), return_inverse=True)
        users, items, negatives = torch.split(torch.from_numpy(index), [part.size for part in parts])
        output, backward = self._forward(table, own, batch)
        leaf = torch.from_numpy(self._cut(output, own)).requires_grad_()
        ranking = self._ranking(leaf, replace(batch, users=users, items=items, negatives=negatives))
        (of_output,) = torch.autograd.grad(ranking, [leaf])
        gradients = backward(self._cut(of_output.numpy(), own), rows)
        shares = np.sum([np.bincount(part, minlength=self._n_rows) / part.size for part in parts], axis=0)
        decay = (2 * self._config.l2 * shares[rows, None]).astype(np.float32)
        return float(ranking.detach()), self._decayed(table, rows, decay, gradients)

    def _decayed(self, table: Source, rows: Ints, decay: Floats, gradients: GradientBlocks) -> GradientBlocks:
        """With the share `decay` (n, 1) of the rows' own values."""
        for start, part in gradients:
            part += table.dimensions(start, start + part.shape[1])[rows] * decay
            yield start, part

    def step(self, lr: float) -> None:
        self._weights.step(lr)

    @abstractmethod
    def _forward(self, table: Source, rows: Ints, batch: Any) -> tuple[Floats, Backward]:
        """(n, d) those rows as they score in a step, or in what ships where `batch` is None, before they are cut; and
        what makes ego rows' gradients of theirs."""

    def _output(self, table: Source) -> Floats:
        """(n_rows, d) all rows as they score, cut to what is kept."""
        rows = np.arange(self._n_rows)
        with torch.no_grad():
            return self._cut(self._forward(table, rows, None)[0], rows)

    def _cut(self, output: Floats, rows: Ints) -> Floats:
        """What is kept of those rows; in place."""
        if self._kept is not None:
            output *= self._kept.at(rows)
        return output

    def _graph_of(self, rows: Ints) -> scipy.sparse.csr_array[Any, Any]:
        """Those rows of the graph."""
        return self._graph if rows.size == self._n_rows else self._graph[rows]

    def _by_dimensions(self, n: int, make: Callable[[slice], Floats]) -> Floats:
        """(n, width), made a few dimensions at a time."""
        found = np.empty((n, self.width), np.float32)
        for start, part in self._parts(make):
            found[:, start : start + part.shape[1]] = part
        return found

    def _parts(self, make: Callable[[slice], Floats]) -> GradientBlocks:
        """All dimensions, a few at a time."""
        for start in range(0, self.width, _DIMENSIONS):
            yield start, make(slice(start, min(start + _DIMENSIONS, self.width)))

    def _spread(self, rows: Ints, values: Floats, dimensions: slice) -> Floats:
        """(n_rows, k) of all rows those dimensions, which are zero but for `rows`; they have them of `values`."""
        found = np.zeros((self._n_rows, dimensions.stop - dimensions.start), np.float32)
        found[rows] = values[:, dimensions]
        return found

    def vectors(self, table: Source) -> Vectors:
        output = self._output(table)
        if self._kept is None:
            output *= self._largest(output, table).at(np.arange(self._n_rows))
        users, items = np.split(output, [self._train.n_users])
        return Vectors(users, items)

    def _largest(self, output: Floats, table: Source) -> Mask:
        return mask_of_largest(np.abs(output), self._values or table.count)

    def state(self) -> State:
        kept: State = {}
        if self._kept is not None:
            kept = {"kept_columns": self._kept.columns.copy(), "kept_pointers": self._kept.pointers.copy()}
        return kept | self._weights.state()

    def restore(self, state: State) -> None:
        if "kept_columns" in state:
            self._kept = Mask(state["kept_columns"].copy(), state["kept_pointers"].copy(), self._d)
        self._weights.restore(state)


class LightGCNObjective(GraphObjective):
    """The loss of `edgerec.models.lightgcn.LightGCNTrainer` on a sparse table of ego rows.

    NDCG@20 on ML-100K at 10 % was .403 where the output is cut, .397 where masks cut the ego rows alone and training
    saw propagated rows in full, and .387 where a propagated row kept the places of its ego row.
    """

    def __init__(
        self,
        train: Interactions,
        d: int,
        config: LightGCNConfig,
        threads: int | None,
        rows: int | None,
        *,
        seed: int = 0,
        values: int | None = None,
    ) -> None:
        super().__init__(train, d, d, config, DenseWeights({}), seed, values)
        self._inner = Propagation(self._graph, max(config.layers - 1, 0), threads)

    def _forward(self, table: Source, rows: Ints, batch: Any) -> tuple[Floats, Backward]:
        last = self._graph_of(rows)

        def output(dimensions: slice) -> Floats:
            return self._propagated(table.dimensions(dimensions.start, dimensions.stop), rows, last)

        def backward(of_output: Floats, wanted: Ints) -> GradientBlocks:
            # The graph is symmetric, so that the gradient of a propagation is the propagation of the gradient.
            last = self._graph_of(wanted)

            def gradients(dimensions: slice) -> Floats:
                return self._propagated(self._spread(rows, of_output, dimensions), wanted, last)

            return self._parts(gradients)

        return self._by_dimensions(rows.size, output), backward

    def _propagated(self, values: Floats, rows: Ints, last: scipy.sparse.csr_array[Any, Any]) -> Floats:
        """(n, k) those rows of the mean over the layers of `values` (n_rows, k): by Horner's rule v + A (v + A (...)),
        whose last product needs those rows of A alone."""
        layers = self._config.layers
        if layers == 0:
            return values[rows]
        inner = self._inner(values)
        inner *= layers
        total: Floats = (values[rows] + last @ inner) / np.float32(layers + 1)
        return total


@dataclass(frozen=True)
class DropoutBatch(Batch):
    """A batch, and the seed of what it leaves out."""

    seed: int = 0


class NGCFObjective(GraphObjective):
    """The loss of `edgerec.models.ngcf.NGCFTrainer` on a sparse table of ego rows; the layers' weights train beside it.

    An ego row has the share of d that it has there, so that the table holds as many values as ship, or all of its own
    where these are fewer.

    DenseWeights mix dimensions, so that a layer's rows are there in full. With one layer these are the rows that a step
    ranks; with more every layer but the last needs all rows, and so does its gradient. Gradients by ego rows are formed
    for the rows that are asked for in any case.
    """

    def __init__(
        self,
        train: Interactions,
        d: int,
        config: NGCFConfig,
        threads: int | None,
        rows: int | None,
        *,
        seed: int = 0,
        values: int | None = None,
    ) -> None:
        width = -(-d // (config.layers + 1))
        self._layers = drawn_weights(config.layers, width, torch.Generator().manual_seed(seed))
        super().__init__(train, d, width, config, DenseWeights(named(self._layers)), seed, values)
        self._dropout = config.dropout
        self._propagation = Propagation(self._graph, 1, threads)

    def batches(self, table: Source, generator: torch.Generator) -> Iterator[DropoutBatch]:
        for batch in super().batches(table, generator):
            own = {field.name: getattr(batch, field.name) for field in fields(batch)}
            yield DropoutBatch(**own, seed=int(torch.randint(1 << 62, (), generator=generator)))

    def _forward(self, table: Source, rows: Ints, batch: Any) -> tuple[Floats, Backward]:
        needed = rows if len(self._layers) < 2 else np.arange(self._n_rows)
        graph = self._graph_of(needed)
        ego = torch.from_numpy(table.rows(needed)).requires_grad_()
        sums = torch.from_numpy(
            self._by_dimensions(needed.size, lambda at: graph @ table.dimensions(at.start, at.stop))
        ).requires_grad_()

        def neighbours(values: torch.Tensor) -> torch.Tensor:
            return values + sums if values is ego else with_neighbours(values, self._propagation)

        leave_out = None
        if batch is not None and self._dropout:
            leave_out = LeaveOut(self._dropout, torch.Generator().manual_seed(batch.seed))
        output = scoring_rows(ego, self._layers, neighbours, leave_out)[:, : self._d]
        if needed is not rows:
            output = output[torch.from_numpy(rows)]

        def backward(of_output: Floats, wanted: Ints) -> GradientBlocks:
            inputs = [ego, sums] if self._layers else [ego]
            given = torch.autograd.grad(output, [*inputs, *self._weights.tensors], torch.from_numpy(of_output))
            self._weights.set_gradients(given[len(inputs) :])
            of_ego, *of_sums = (gradient.numpy() for gradient in given[: len(inputs)])
            graph = self._graph_of(wanted)

            def gradients(dimensions: slice) -> Floats:
                found = self._spread(needed, of_ego, dimensions)[wanted]
                for more in of_sums:
                    found += graph @ self._spread(needed, more, dimensions)
                return found

            return self._parts(gradients)

        return output.detach().numpy().copy(), backward
