"""LightGCN and NGCF in sparse form: scoring rows are computed from ego rows and truncated to their largest values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.methods.sparse.masks import Mask, mask_of_largest
from edgerec.methods.sparse.plan import Source
from edgerec.methods.sparse.table import Floats, GradientBlocks, Ints
from edgerec.models import State, Vectors
from edgerec.models.adam import Adam
from edgerec.models.graph_trainer import GraphConfig, singular_vectors
from edgerec.models.lightgcn import LightGCNConfig
from edgerec.models.losses import Batch, at_most
from edgerec.models.ngcf import LeaveOut, NGCFConfig, drawn_weights, named, scoring_rows, with_neighbours
from edgerec.models.propagation import Propagation, normalised_adjacency

if TYPE_CHECKING:
    import scipy.sparse
    import torch
else:
    torch = require("torch", "train")


_DIMENSIONS = 16
"""Number of dimensions propagated at once, which limits the memory of dense rows. 16 float32 values of a row fill a
cache line (64 bytes): a product with Gowalla's graph took 0.53 ms a dimension with 16 or 32 dimensions, and 0.72 with
8."""

Backward = Callable[[Floats, Ints], GradientBlocks]
"""Maps the gradient of scoring rows to the gradient of n ego rows."""


class GraphObjective(ABC):
    """A ranking loss of `edgerec.models.losses` on scoring rows that `_forward` computes from ego rows.

    The result has the largest values of the scoring rows, as many as the budget allows. With `mask_at` 'output', the
    default, they are selected before each epoch, and the loss of the epoch sees only these.

    Scoring rows and their gradients are computed for the rows of the batch only, which limits memory.
    """

    def __init__(
        self,
        train: Interactions,
        d: int,
        width: int,
        config: GraphConfig,
        weights: dict[str, torch.Tensor],
        seed: int,
        values: int | None,
    ) -> None:
        """Initialise the objective; `d` and `width` are the dimensions of a scoring row and of an ego row."""
        self._train, self._d, self._config, self._seed, self._values = train, d, config, seed, values
        self._n_rows = train.n_users + train.n_items
        self._graph = normalised_adjacency(train)
        self._ranking = config.ranking()
        self._weights, self._of_weights = Adam(weights), list[torch.Tensor]()
        self._output_mask: Mask | None = None
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
        return self._config.lr_at(epoch)

    def refresh_mask(self, table: Source) -> None:
        if self._config.mask_at == "output":
            self._output_mask = None
            self._output_mask = self._largest(self._output(table), table)

    def batches(self, table: Source, generator: torch.Generator) -> Iterator[Batch]:
        return self._config.batches(self._train, generator)

    def active_rows(self, batch: Batch) -> Ints:
        return np.arange(self._n_rows)

    def gradient(self, table: Source, batch: Batch, rows: Ints) -> tuple[float, GradientBlocks]:
        parts = [part.numpy() for part in (batch.users, batch.items, batch.negatives)]
        own, index = np.unique(np.concatenate(parts), return_inverse=True)
        users, items, negatives = torch.split(torch.from_numpy(index), [part.size for part in parts])
        output, backward = self._forward(table, own, batch)
        leaf = torch.from_numpy(self._masked(output, own)).requires_grad_()
        ranking = self._ranking(leaf, replace(batch, users=users, items=items, negatives=negatives))
        (of_output,) = torch.autograd.grad(ranking, [leaf])
        gradients = backward(self._masked(of_output.numpy(), own), rows)
        shares = np.sum([np.bincount(part, minlength=self._n_rows) / part.size for part in parts], axis=0)
        decay = (2 * self._config.decay * shares[rows, None]).astype(np.float32)
        return float(ranking.detach()), self._decayed(table, rows, decay, gradients)

    def _decayed(self, table: Source, rows: Ints, decay: Floats, gradients: GradientBlocks) -> GradientBlocks:
        """Add the gradient of the weight decay: the rows' values times `decay` (n, 1)."""
        for start, part in gradients:
            part += table.dimensions(start, start + part.shape[1])[rows] * decay
            yield start, part

    def step(self, lr: float) -> None:
        self._weights.step(self._of_weights, lr)

    @abstractmethod
    def _forward(self, table: Source, rows: Ints, batch: Any) -> tuple[Floats, Backward]:
        """Return the (n, d) scoring rows, before truncation, of a step, or for export if `batch` is None.

        The second value is the backward function.
        """

    def _output(self, table: Source) -> Floats:
        """Return all (n_rows, d) scoring rows, truncated to the output mask."""
        rows = np.arange(self._n_rows)
        with torch.no_grad():
            return self._masked(self._forward(table, rows, None)[0], rows)

    def _masked(self, output: Floats, rows: Ints) -> Floats:
        """Apply the output mask to those rows in place."""
        if self._output_mask is not None:
            output *= self._output_mask.at(rows)
        return output

    def _graph_of(self, rows: Ints) -> scipy.sparse.csr_array[Any, Any]:
        """Return rows of the graph."""
        return self._graph if rows.size == self._n_rows else self._graph[rows]

    def _by_dimensions(self, n: int, make: Callable[[slice], Floats]) -> Floats:
        """Return (n, width), computed a few dimensions at a time."""
        found = np.empty((n, self.width), np.float32)
        for start, part in self._parts(make):
            found[:, start : start + part.shape[1]] = part
        return found

    def _parts(self, make: Callable[[slice], Floats]) -> GradientBlocks:
        """Yield all dimensions, a few at a time."""
        for start in range(0, self.width, _DIMENSIONS):
            yield start, make(slice(start, min(start + _DIMENSIONS, self.width)))

    def _scattered(self, rows: Ints, values: Floats, dimensions: slice) -> Floats:
        """Return (n_rows, k) dimensions of all rows: those of `values` for `rows`, else zero."""
        found = np.zeros((self._n_rows, dimensions.stop - dimensions.start), np.float32)
        found[rows] = values[:, dimensions]
        return found

    def vectors(self, table: Source) -> Vectors:
        output = self._output(table)
        if self._output_mask is None:
            output *= self._largest(output, table).at(np.arange(self._n_rows))
        users, items = np.split(output, [self._train.n_users])
        return Vectors(users, items)

    def _largest(self, output: Floats, table: Source) -> Mask:
        return mask_of_largest(np.abs(output), self._values or table.count)

    def state(self) -> State:
        arrays: State = {}
        if (mask := self._output_mask) is not None:
            arrays = {"kept_columns": mask.columns.copy(), "kept_pointers": mask.pointers.copy()}
        return arrays | self._weights.state()

    def restore(self, state: State) -> None:
        if "kept_columns" in state:
            self._output_mask = Mask(state["kept_columns"].copy(), state["kept_pointers"].copy(), self._d)
        self._weights.restore(state)


class LightGCNObjective(GraphObjective):
    """The loss of `edgerec.models.lightgcn.LightGCNTrainer` on a sparse table of ego rows.

    NDCG@20 on ML-100K at 10 % was .403 with masks on the scoring rows, .397 with masks on the ego rows alone and
    training on full scoring rows, and .387 if a scoring row has the mask of its ego row.
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
        super().__init__(train, d, d, config, {}, seed, values)
        self._inner = Propagation(self._graph, max(config.layers - 1, 0), threads)

    def _forward(self, table: Source, rows: Ints, batch: Any) -> tuple[Floats, Backward]:
        last = self._graph_of(rows)

        def output(dimensions: slice) -> Floats:
            return self._propagated(table.dimensions(dimensions.start, dimensions.stop), rows, last)

        def backward(of_output: Floats, ego_rows: Ints) -> GradientBlocks:
            # The graph is symmetric, so that the gradient of a propagation is the propagation of the gradient.
            last = self._graph_of(ego_rows)

            def gradients(dimensions: slice) -> Floats:
                return self._propagated(self._scattered(rows, of_output, dimensions), ego_rows, last)

            return self._parts(gradients)

        return self._by_dimensions(rows.size, output), backward

    def _propagated(self, values: Floats, rows: Ints, last: scipy.sparse.csr_array[Any, Any]) -> Floats:
        """Return (n, k) rows of the mean over the layers of `values` (n_rows, k).

        Horner's rule v + A (v + A (...)) needs only those rows of A in the last product.
        """
        layers = self._config.layers
        if layers == 0:
            return values[rows]
        inner = self._inner(values)
        inner *= layers  # `Propagation` returns the mean of `layers` terms; Horner's rule needs their sum
        total: Floats = (values[rows] + last @ inner) / np.float32(layers + 1)
        return total


@dataclass(frozen=True)
class DropoutBatch(Batch):
    """A batch with the seed of its dropout."""

    seed: int = 0


class NGCFObjective(GraphObjective):
    """The loss of `edgerec.models.ngcf.NGCFTrainer` on a sparse table of ego rows, with dense weights of the layers.

    An ego row has ceil(d / (layers + 1)) dimensions, as in `NGCFTrainer`; the table has as many active values as the
    result, or is full if it has fewer.

    The layers' weights mix dimensions, so that the rows of a layer are dense. With one layer these are the rows of a
    step; with more, every layer but the last needs all rows, and so does its gradient. Gradients of ego rows are
    computed for the requested rows alone in any case.
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
        super().__init__(train, d, width, config, named(self._layers), seed, values)
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

        def backward(of_output: Floats, ego_rows: Ints) -> GradientBlocks:
            inputs = [ego, sums] if self._layers else [ego]
            given = torch.autograd.grad(output, [*inputs, *self._weights.tensors], torch.from_numpy(of_output))
            self._of_weights = list(given[len(inputs) :])
            of_ego, *of_sums = (gradient.numpy() for gradient in given[: len(inputs)])
            graph = self._graph_of(ego_rows)

            def gradients(dimensions: slice) -> Floats:
                found = self._scattered(needed, of_ego, dimensions)[ego_rows]
                for more in of_sums:
                    found += graph @ self._scattered(needed, more, dimensions)
                return found

            return self._parts(gradients)

        return output.detach().numpy().copy(), backward
