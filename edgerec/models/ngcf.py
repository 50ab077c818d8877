"""NGCF: rows from several layers of weighted sums and products with their neighbours in the user-item graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.extras import require
from edgerec.models.base import SizePlan
from edgerec.models.graph_trainer import GraphBackbone, GraphConfig, GraphTrainer
from edgerec.models.propagation import Propagation, normalised_adjacency

if TYPE_CHECKING:
    import torch
    from torch.nn.functional import leaky_relu, normalize
else:
    torch = require("torch", "train")
    leaky_relu, normalize = torch.nn.functional.leaky_relu, torch.nn.functional.normalize

LayerWeights = tuple["torch.Tensor", "torch.Tensor"]
"""The two weight matrices of a layer: for the sums and for the products."""
_SLOPE = 0.2
"""Slope of LeakyReLU below zero: TensorFlow's default, which the authors' code uses."""


@dataclass(frozen=True)
class NGCFConfig(GraphConfig):
    """Settings of NGCF; others are those of `LightGCNConfig`.

    Attributes:
        layers: products with the graph, 3 in the papers. The ego row and the layers share a row's dimensions: on
            ML-100K's validation part NDCG@20 was .287 with one, .280 with three; at 10 % by popularity .276, .258.
        lr, l2: step size and weight decay. Dense tables overfit with a larger `lr` and a smaller `l2`: with LightGCN's
            0.04 and 0.005 the best epoch is the third.
        dropout: share of a layer's values that a step drops (message dropout).
    """

    backbone: ClassVar[str] = "ngcf"

    layers: int = 1
    lr: float = 0.02
    l2: float = 0.02
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Raise UnsupportedError as `GraphConfig` does, and for a dropout outside [0, 1)."""
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise UnsupportedError(f"ngcf takes a share of dropout from 0 to below 1, got {self.dropout}")


class NGCFTrainer(GraphTrainer):
    """Trains layers E' = LeakyReLU((A + I) E W1 + (A E * E) W2), A the normalised graph.

    A scoring row joins the ego row and those of all layers, each of length one (Wang et al. 2019, arXiv 1905.08108,
    section 2.2).

    The ego row and L layers share the d dimensions of a row, d / (L + 1) each: it is the exported row, and so what a
    budget counts. They are interleaved dimension by dimension, so that a truncated row has some of each layer.
    """

    def __init__(
        self, train: Interactions, sizes: SizePlan, config: NGCFConfig, seed: int, threads: int | None, device: str
    ) -> None:
        parts = config.layers + 1
        ego_sizes = SizePlan(-(-sizes.d // parts), _shared(sizes.users, parts), _shared(sizes.items, parts))
        super().__init__(train, sizes, ego_sizes, config, seed, threads, device)
        self._d, self._dropout = sizes.d, config.dropout
        self._graph = Propagation(normalised_adjacency(train), 1, threads, device=self._device)
        self._weights = drawn_weights(config.layers, ego_sizes.d, self._generator, self._device)
        if self._weights:
            self._train_too(named(self._weights))

    def epoch(self) -> dict[str, float]:
        """Train as `GraphTrainer` does. `weights`: the number of the layers' values, which are not exported."""
        return {**super().epoch(), "weights": sum(a.numel() + b.numel() for a, b in self._weights)}

    def _output(self, ego: torch.Tensor, *, training: bool) -> torch.Tensor:
        leave_out = LeaveOut(self._dropout, self._generator) if training and self._dropout else None
        rows = scoring_rows(ego, self._weights, lambda rows: with_neighbours(rows, self._graph), leave_out)
        return rows[:, : self._d]


class NGCF(GraphBackbone):
    """Neural graph collaborative filtering (Wang, He, Wang, Feng and Chua 2019, arXiv 1905.08108)."""

    name: ClassVar[str] = "ngcf"
    config: ClassVar[type[Any]] = NGCFConfig
    trainer_class = NGCFTrainer


@dataclass(frozen=True)
class LeaveOut:
    """Message dropout: sets a share of a layer's values to zero and scales up the others."""

    share: float
    generator: torch.Generator

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        mask = torch.rand(rows.shape, generator=self.generator) >= self.share
        return rows * mask.to(rows.device) / (1 - self.share)


def scoring_rows(
    ego: torch.Tensor,
    weights: Sequence[LayerWeights],
    with_neighbours: Callable[[torch.Tensor], torch.Tensor],
    leave_out: LeaveOut | None,
) -> torch.Tensor:
    """Return (n, (L + 1) k) scoring rows, before truncation to d, of ego rows (n, k) and the weights of L layers.

    `with_neighbours` returns (A + I) E of a layer's input E; the first input is the ego rows.
    """
    layers, rows = [ego], ego
    for of_sum, of_product in weights:
        both = with_neighbours(rows)
        rows = leaky_relu(both @ of_sum + ((both - rows) * rows) @ of_product, _SLOPE)
        rows = rows if leave_out is None else leave_out(rows)
        layers.append(normalize(rows))
    return torch.stack(layers, 2).flatten(1)


def with_neighbours(rows: torch.Tensor, graph: Propagation) -> torch.Tensor:
    """Return (A + I) E of all rows; `graph` returns the mean over one layer, which is half of it."""
    return 2 * graph.differentiable(rows)


def drawn_weights(
    layers: int, width: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> list[LayerWeights]:
    """Draw each layer's weights, (width, width), uniform, with the variance of Glorot and Bengio (2010)."""

    def drawn() -> torch.Tensor:
        values = torch.rand(width, width, generator=generator) * 2 - 1
        return (values * math.sqrt(3 / width)).to(device).requires_grad_()

    return [(drawn(), drawn()) for _ in range(layers)]


def named(weights: Sequence[LayerWeights]) -> dict[str, torch.Tensor]:
    """Return all matrices by name."""
    return {
        f"layer{layer}.{kind}": matrix
        for layer, pair in enumerate(weights)
        for kind, matrix in zip(("sum", "product"), pair, strict=True)
    }


def _shared(sizes: NDArray[np.int64] | None, parts: int) -> NDArray[np.int64] | None:
    """Return the sizes of ego rows that have every `parts`-th dimension, from the first, of rows of `sizes`."""
    return None if sizes is None else -(-sizes // parts)
