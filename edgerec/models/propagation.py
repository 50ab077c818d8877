"""Products with the user-item graph on threads, whose gradient is the same products."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.models.on_device import sparse_tensor
from edgerec.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import scipy.sparse
    import torch
    from torch.autograd import Function
else:
    torch = require("torch", "train")
    Function = torch.autograd.Function

_BLOCKS_A_THREAD = 4
"""Blocks a thread. With one, a delayed thread delays all: 24 ms a product of Gowalla's graph, and 18 ms with 4."""


def normalised_adjacency(train: Interactions) -> scipy.sparse.csr_array[Any, Any]:
    """Return D^-1/2 A D^-1/2 of the graph A of interactions between users and items, D its degrees.

    LightGCN, section 3.1.3 (He et al. 2020, arXiv 2002.02126).

    Returns:
        (n, n) float32 with int32 indices, n = n_users + n_items, users first. A row without an interaction is zero.
    """
    sparse = require("scipy.sparse", "train")
    degrees = np.maximum(np.concatenate([train.user_counts(), train.item_counts()]), 1)
    scale = np.sqrt(1 / degrees).astype(np.float32)
    matrix = train.matrix()
    graph: scipy.sparse.csr_array[Any, Any] = sparse.csr_array(
        sparse.block_array([[None, matrix], [matrix.T, None]], format="csr")
    )
    graph.data *= np.repeat(scale, np.diff(graph.indptr)) * scale[graph.indices]
    # int64 indices make a product 1.7 times as slow.
    graph.indptr, graph.indices = graph.indptr.astype(np.int32), graph.indices.astype(np.int32)
    return graph


class Propagation:
    """The map E -> (E + A E + ... + A^L E) / (L + 1) for a symmetric sparse A: LightGCN's layers with equal weights.

    Each of several ranks has the rows of its users and of all items, and the edges between them: a product gives its
    users, and a part of the items, which is summed.

    Threads share a product by blocks of rows with about equally many non-zeros; scipy releases the GIL. One thread sums
    a row in a fixed order, so that the bits do not depend on the number of threads.
    """

    def __init__(
        self,
        graph: scipy.sparse.csr_array[Any, Any],
        layers: int,
        threads: int | None = None,
        ranks: Ranks = ALONE,
        n_users: int = 0,
        device: torch.device | None = None,
    ) -> None:
        """Split `graph` (n, n), which must be symmetric, for at most `threads` threads; None for one a core.

        `n_users` is the number of the users of this one of several ranks; `device` multiplies tensors of its own.
        """
        self._layers, self._ranks, self._n_users = layers, ranks, n_users
        self._threads = threads or os.cpu_count() or 1
        if device is not None and device.type != "cpu":
            self._blocks: list[Any] = [sparse_tensor(graph, device)]
            return
        parts = 1 if self._threads == 1 else _BLOCKS_A_THREAD * self._threads
        cuts = np.searchsorted(graph.indptr, np.linspace(0, graph.nnz, parts + 1)[1:-1]).tolist()
        self._blocks = [graph[start:stop] for start, stop in zip([0, *cuts], [*cuts, graph.shape[0]], strict=True)]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the mean over the layers of `values` (n, d), an array or, on a device, a tensor, as a new one."""
        total, layer = 1 * values, values
        for _ in range(self._layers):
            layer = self._summed(self._product(layer))
            total += layer
        total /= self._layers + 1
        return total

    def backward(self, gradient: NDArray[Any]) -> NDArray[Any]:
        """Return the rank's part of the gradient of the values, of its part of that of their mean over the layers."""
        total, layer = 1 * gradient, gradient
        for _ in range(self._layers):
            layer = self._product(self._summed(layer))
            total += layer
        total /= self._layers + 1
        return total

    def differentiable(self, values: torch.Tensor) -> torch.Tensor:
        """Propagate values (n, d) with a gradient.

        A and its polynomial are symmetric, so that the gradient of a propagation is the propagation of the gradient.
        """
        result: torch.Tensor = _Propagate.apply(values, self)  # type: ignore[no-untyped-call]
        return result

    def _summed(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values (n, d) with the items' rows summed over the ranks."""
        if self._ranks.count == 1:
            return values
        return np.concatenate([values[: self._n_users], self._ranks.sum(values[self._n_users :])])

    def _product(self, values: NDArray[Any]) -> NDArray[Any]:
        if len(self._blocks) == 1:
            product: NDArray[Any] = self._blocks[0] @ values
            return product
        with ThreadPoolExecutor(self._threads) as pool:
            return np.concatenate(list(pool.map(lambda block: block @ values, self._blocks)))


class _Propagate(Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, propagation: Propagation) -> torch.Tensor:
        ctx.propagation = propagation
        return _run(propagation, values.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _run(ctx.propagation.backward, gradients[0].contiguous()), None


def _run(propagate: Callable[[Any], Any], values: torch.Tensor) -> torch.Tensor:
    """Return what a function of arrays on the CPU, or of tensors on another device, returns for `values`."""
    on_cpu = values.device.type == "cpu"
    result: torch.Tensor = torch.from_numpy(propagate(values.numpy())) if on_cpu else propagate(values)
    return result
