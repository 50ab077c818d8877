"""NGCF in sparse form: the first product with the graph, and its gradient, are made for the rows that are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.methods.sparse.beside import Weights
from edgerec.methods.sparse.graph import Backward, GraphObjective
from edgerec.methods.sparse.objective import Source
from edgerec.methods.sparse.table import Floats, Parts, Rows
from edgerec.models.losses import Batch
from edgerec.models.ngcf import LeaveOut, NGCFConfig, drawn_weights, named, scoring_rows, with_neighbours
from edgerec.models.propagation import Propagation

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")


@dataclass(frozen=True)
class Step(Batch):
    """A batch, and the seed of what it leaves out."""

    seed: int = 0


class NGCFObjective(GraphObjective):
    """The loss of `edgerec.models.ngcf.NGCFTrainer` on a sparse table of ego rows; the layers' weights train beside it.

    An ego row has the share of d that it has there, so that the table holds as many values as ship, or all of its own
    where these are fewer.

    Weights mix dimensions, so that a layer's rows are there in full. With one layer these are the rows that a step
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
        super().__init__(train, d, width, config, Weights(named(self._layers)), seed, values)
        self._dropout = config.dropout
        self._propagation = Propagation(self._graph, 1, threads)

    def batches(self, table: Source, generator: torch.Generator) -> Iterator[Step]:
        for batch in super().batches(table, generator):
            own = {field.name: getattr(batch, field.name) for field in fields(batch)}
            yield Step(**own, seed=int(torch.randint(1 << 62, (), generator=generator)))

    def _made(self, table: Source, rows: Rows, batch: Any) -> tuple[Floats, Backward]:
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

        def backward(of_output: Floats, wanted: Rows) -> Parts:
            inputs = [ego, sums] if self._layers else [ego]
            given = torch.autograd.grad(output, [*inputs, *self._weights.tensors], torch.from_numpy(of_output))
            self._weights.told(given[len(inputs) :])
            of_ego, *of_sums = (gradient.numpy() for gradient in given[: len(inputs)])
            graph = self._graph_of(wanted)

            def gradients(dimensions: slice) -> Floats:
                found = self._spread(needed, of_ego, dimensions)[wanted]
                for more in of_sums:
                    found += graph @ self._spread(needed, more, dimensions)
                return found

            return self._parts(gradients)

        return output.detach().numpy().copy(), backward
