"""Propagation over the user-item graph: sparse products on threads, and their gradient as the same products."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.extras import require

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

    Threads share a product by blocks of rows with about equally many non-zeros; scipy releases the GIL. One thread sums
    a row in a fixed order, so that the bits do not depend on the number of threads.
    """

    def __init__(self, graph: scipy.sparse.csr_array[Any, Any], layers: int, threads: int | None = None) -> None:
        """Split `graph` (n, n), which must be symmetric, for at most `threads` threads; None for one a core."""
        self._layers = layers
        self._threads = threads or os.cpu_count() or 1
        parts = 1 if self._threads == 1 else _BLOCKS_A_THREAD * self._threads
        cuts = np.searchsorted(graph.indptr, np.linspace(0, graph.nnz, parts + 1)[1:-1]).tolist()
        self._blocks = [graph[start:stop] for start, stop in zip([0, *cuts], [*cuts, graph.shape[0]], strict=True)]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the mean over the layers of `values` (n, d) as a new array."""
        total, layer = values.copy(), values
        for _ in range(self._layers):
            layer = self._product(layer)
            total += layer
        total /= self._layers + 1
        return total

    def _product(self, values: NDArray[Any]) -> NDArray[Any]:
        if len(self._blocks) == 1:
            return np.asarray(self._blocks[0] @ values)
        with ThreadPoolExecutor(self._threads) as pool:
            return np.concatenate(list(pool.map(lambda block: block @ values, self._blocks)))


class _Propagate(Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, propagation: Propagation) -> torch.Tensor:
        ctx.propagation = propagation
        return torch.from_numpy(propagation(values.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.from_numpy(ctx.propagation(gradients[0].contiguous().numpy())), None


def propagate(values: torch.Tensor, propagation: Propagation) -> torch.Tensor:
    """Propagate values (n, d) on the CPU, with a gradient.

    A and its polynomial are symmetric, so that the gradient of a propagation is the propagation of the gradient.
    """
    result: torch.Tensor = _Propagate.apply(values, propagation)  # type: ignore[no-untyped-call]
    return result
