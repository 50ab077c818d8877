"""Scorers of two rows, for backbones whose score is not their inner product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HIDDEN_AT_ONCE = 1 << 20
"""Maximum number of values of a hidden layer in memory: 4 MiB in float32."""


@dataclass(frozen=True)
class NeuMFScorer:
    """The score gmf . (u[:m] * i[:m]) + MLP([u[m:], i[m:]]), without the sigmoid, which changes no ranking.

    Neural matrix factorisation (He et al. 2017, arXiv 1708.05031, section 3.4): a row holds the m dimensions of the
    generalised matrix factorisation, then those of the perceptron. With m = 0 it is the paper's MLP alone.

    Attributes:
        gmf: (m,) float32.
        layers: weights (in, out) and biases (out,) float32, ReLU between them; the first layer has 2 (d - m) inputs,
            the user's before the item's, the last one output.
    """

    gmf: NDArray[np.float32]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def __post_init__(self) -> None:
        """Raise ValueError if the shapes of the layers do not fit together."""
        width = None
        for weights, biases in self.layers:
            if weights.ndim != 2 or biases.shape != weights.shape[1:] or width not in (None, weights.shape[0]):
                raise ValueError(f"a layer of shapes {weights.shape} and {biases.shape} does not follow one of {width}")
            width = weights.shape[1]
        if width != 1 or self.gmf.ndim != 1 or self.layers[0][0].shape[0] % 2:
            raise ValueError("the last layer makes one value, and the first takes as many of the user as of the item")

    @property
    def d(self) -> int:
        """Number of dimensions of a row."""
        return int(self.gmf.size + self.layers[0][0].shape[0] // 2)

    @property
    def n_weights(self) -> int:
        """Number of values of all arrays."""
        return sum(array.size for array in self.arrays().values())

    def scores(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[Any]:
        """Return (B, n) scores of rows (B, d) and (n, d), computed in their type, with bounded hidden layers."""
        m, kind = self.gmf.size, users.dtype
        (first, bias), *rest = ((weights.astype(kind), biases.astype(kind)) for weights, biases in self.layers)
        of_users, of_items = np.split(first, 2)
        own, its = users[:, m:] @ of_users + bias, items[:, m:] @ of_items
        total: NDArray[Any] = (users[:, :m] * self.gmf.astype(kind)) @ items[:, :m].T
        step = max(1, _HIDDEN_AT_ONCE // max(1, its.size))
        for start in range(0, len(users), step):
            hidden = own[start : start + step, None] + its
            for weights, biases in rest:
                hidden = np.maximum(hidden, 0, out=hidden) @ weights + biases
            total[start : start + step] += hidden[..., 0]
        return total

    def magnitudes(self) -> NeuMFScorer:
        """Return the scorer whose scores of the rows' magnitudes bound every intermediate sum of this one's scores."""
        layers = tuple((np.abs(weights), np.abs(biases)) for weights, biases in self.layers)
        return NeuMFScorer(np.abs(self.gmf), layers)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays by name, as `from_arrays` takes them."""
        named = {"gmf": self.gmf}
        for number, (weights, biases) in enumerate(self.layers):
            named |= {f"weights{number}": weights, f"biases{number}": biases}
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float32]]) -> NeuMFScorer:
        """Return the scorer of these `arrays`. Raises KeyError, ValueError if they form none."""
        layers = [(arrays[f"weights{n}"], arrays[f"biases{n}"]) for n in range(len(arrays) // 2)]
        return cls(arrays["gmf"], tuple(layers))
