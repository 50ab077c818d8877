"""LightGCN in sparse form: forward and backward go through the graph a few dimensions at a time, and the last product
is made for the rows that are asked for alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.methods.pruning import prune
from edgerec.methods.sparse.objective import Source
from edgerec.methods.sparse.table import Floats, Rows
from edgerec.models import Vectors
from edgerec.models.lightgcn import LightGCNConfig, singular_vectors
from edgerec.models.losses import Batch, at_most, bpr, by_interaction, by_user, softmax
from edgerec.models.propagation import Propagation, normalised_adjacency

if TYPE_CHECKING:
    import scipy.sparse
    import torch
else:
    torch = require("torch", "train")

_DIMENSIONS = 8
"""That go through the graph at once: of all rows in full, only so many exist."""


class LightGCNObjective:
    """The loss of `edgerec.models.lightgcn.LightGCNTrainer` on a sparse table of ego rows.

    Where masks cut the output, the default, a propagated row keeps the active values of its ego row, in training and in
    what ships. Where they cut the ego rows alone, training sees propagated rows in full, and what ships are the largest
    of their values, as many as are active.

    A step's own rows and their gradients are (rows of the batch, d): what it ranks decides what they take.
    """

    def __init__(
        self, train: Interactions, d: int, config: LightGCNConfig, threads: int | None, rows: int | None
    ) -> None:
        self._train, self._d, self._config = train, d, config
        self._n_rows = train.n_users + train.n_items
        self._graph = normalised_adjacency(train)
        self._inner = Propagation(self._graph, max(config.layers - 1, 0), threads)
        self._ranking = bpr if config.loss == "bpr" else partial(softmax, temperature=config.temperature)
        self._cuts = config.mask_at == "output"
        if config.loss == "bpr":
            self.steps = -(-len(train) // at_most(config.batch, len(train)))
        else:
            n = int((train.user_counts() > 0).sum())
            self.steps = -(-n // at_most(config.users, n))

    def start(self, seed: int) -> Floats | float:
        if self._config.start == "normal":
            return self._config.std
        values = singular_vectors(self._train, self._d, seed)
        values *= np.float32(self._config.std / max(float(np.sqrt(np.square(values).mean())), 1e-12))
        return values

    def lr(self, epoch: int) -> float:
        return self._config.lr * max(1 - epoch / self._config.horizon, 0.01)

    def batches(self, table: Source, generator: torch.Generator) -> Iterator[Batch]:
        config = self._config
        if config.loss == "bpr":
            return by_interaction(self._train, config.batch, generator)
        return by_user(self._train, config.users, config.negatives, generator, config.popular)

    def touched(self, batch: Batch) -> Rows:
        return np.arange(self._n_rows)

    def gradient(self, table: Source, batch: Batch, rows: Rows) -> tuple[float, Floats]:
        parts = [part.numpy() for part in (batch.users, batch.items, batch.negatives)]
        own, index = np.unique(np.concatenate(parts), return_inverse=True)
        places = torch.split(torch.from_numpy(index), [part.size for part in parts])
        output = torch.from_numpy(self._output(table, own)).requires_grad_()
        users, items, negatives = places
        ranking = self._ranking(output, replace(batch, users=users, items=items, negatives=negatives))
        (of_output,) = torch.autograd.grad(ranking, [output])
        gradients = self._through(table, own, of_output.numpy(), rows)
        shares = np.sum([np.bincount(part, minlength=self._n_rows) / part.size for part in parts], axis=0)
        gradients += table.rows(rows) * (2 * self._config.l2 * shares[rows, None]).astype(np.float32)
        return float(ranking.detach()), gradients

    def _output(self, table: Source, rows: Rows) -> Floats:
        """(n, d) those propagated rows, cut where the output is."""
        last = self._last(rows)
        output = np.empty((rows.size, self._d), np.float32)
        for start in range(0, self._d, _DIMENSIONS):
            dimensions = slice(start, min(start + _DIMENSIONS, self._d))
            output[:, dimensions] = self._propagated(table.dimensions(start, dimensions.stop), rows, last)
        if self._cuts:
            output *= table.mask(rows)
        return output

    def _through(self, table: Source, own: Rows, of_output: Floats, rows: Rows) -> Floats:
        """(n, d) the gradient by the ego `rows`, of that by the propagated rows `own`.

        The graph is symmetric, so that the gradient of a propagation is the propagation of the gradient.
        """
        if self._cuts:
            of_output *= table.mask(own)
        last = self._last(rows)
        gradients = np.empty((rows.size, self._d), np.float32)
        for start in range(0, self._d, _DIMENSIONS):
            dimensions = slice(start, start + _DIMENSIONS)
            part = np.zeros((self._n_rows, of_output[:, dimensions].shape[1]), np.float32)
            part[own] = of_output[:, dimensions]
            gradients[:, dimensions] = self._propagated(part, rows, last)
        return gradients

    def _last(self, rows: Rows) -> scipy.sparse.csr_array[Any, Any]:
        """Those rows of the graph."""
        return self._graph if rows.size == self._n_rows else self._graph[rows]

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

    def vectors(self, table: Source) -> Vectors:
        rows = np.arange(self._n_rows)
        output = self._output(table, rows)
        if not self._cuts:
            output = prune(output, int(table.mask(rows).sum()), 1)
        users, items = np.split(output, [self._train.n_users])
        return Vectors(users, items)
