"""Scorers: how two rows make a score where it is more than their inner product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NeuMFScorer:
    """score(u, i) = gmf . (u[:m] * i[:m]) + MLP([u[m:], i[m:]]), without the sigmoid, which changes no ranking.

    Neural matrix factorisation (He et al. 2017, arXiv 1708.05031, section 3.4): a row holds the m dimensions of the
    generalised matrix factorisation, then those of the perceptron. With m = 0 it is the paper's MLP alone.

    Attributes:
        gmf: (m,) float32.
        layers: weights (in, out) and biases (out,) float32, ReLU between them; the first takes 2 (d - m) values, the
            user's before the item's, the last makes one.
    """

    gmf: NDArray[np.float32]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def __post_init__(self) -> None:
        """Raises ValueError where the shapes do not follow from each other."""
        width = None
        for weights, biases in self.layers:
            if weights.ndim != 2 or biases.shape != weights.shape[1:] or width not in (None, weights.shape[0]):
                raise ValueError(f"a layer of shapes {weights.shape} and {biases.shape} does not follow one of {width}")
            width = weights.shape[1]
        if width != 1 or self.gmf.ndim != 1 or self.layers[0][0].shape[0] % 2:
            raise ValueError("the last layer makes one value, and the first takes as many of the user as of the item")

    @property
    def d(self) -> int:
        """Dimensions of a row."""
        return int(self.gmf.size + self.layers[0][0].shape[0] // 2)

    def scores(self, users: NDArray[np.float64], items: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, n) scores of rows (B, d) and (n, d)."""
        m = self.gmf.size
        (first, bias), *rest = self.layers
        of_users, of_items = np.split(first.astype(np.float64), 2)
        hidden = (users[:, m:] @ of_users + bias)[:, None] + (items[:, m:] @ of_items)[None]
        for weights, biases in rest:
            hidden = np.maximum(hidden, 0) @ weights.astype(np.float64) + biases
        total: NDArray[np.float64] = hidden[..., 0] + (users[:, :m] * self.gmf) @ items[:, :m].T
        return total
