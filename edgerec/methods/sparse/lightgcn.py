"""LightGCN in sparse form: forward and backward go through the graph a few dimensions at a time, and the last product
is made for the rows that are asked for alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgerec.data import Interactions
from edgerec.methods.sparse.beside import Weights
from edgerec.methods.sparse.graph import Backward, GraphObjective
from edgerec.methods.sparse.objective import Source
from edgerec.methods.sparse.table import Floats, Parts, Rows
from edgerec.models.lightgcn import LightGCNConfig
from edgerec.models.propagation import Propagation

if TYPE_CHECKING:
    import scipy.sparse


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
        super().__init__(train, d, d, config, Weights({}), seed, values)
        self._inner = Propagation(self._graph, max(config.layers - 1, 0), threads)

    def _made(self, table: Source, rows: Rows, batch: Any) -> tuple[Floats, Backward]:
        last = self._graph_of(rows)

        def output(dimensions: slice) -> Floats:
            return self._propagated(table.dimensions(dimensions.start, dimensions.stop), rows, last)

        def backward(of_output: Floats, wanted: Rows) -> Parts:
            # The graph is symmetric, so that the gradient of a propagation is the propagation of the gradient.
            last = self._graph_of(wanted)

            def gradients(dimensions: slice) -> Floats:
                return self._propagated(self._spread(rows, of_output, dimensions), wanted, last)

            return self._parts(gradients)

        return self._by_dimensions(rows.size, output), backward

    def _propagated(self, values: Floats, rows: Rows, last: scipy.sparse.csr_array[Any, Any]) -> Floats:
        """(n, k) those rows of the mean over the layers of `values` (n_rows, k): by Horner's rule v + A (v + A (...)),
        whose last product needs those rows of A alone."""
        layers = self._config.layers
        if layers == 0:
            return values[rows]
        inner = self._inner(values)
        inner *= layers
        total: Floats = (values[rows] + last @ inner) / np.float32(layers + 1)
        return total
