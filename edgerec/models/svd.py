"""Degree-normalised truncated SVD: a closed form with an item table only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.models.base import Backbone, SizePlan, State, Vectors, cut
from edgerec.models.encoder import Encoded, LinearEncoder
from edgerec.models.low_rank import DEFAULT_A, DEFAULT_B, scaled_matrix, truncated_svd
from edgerec.models.settings import check_ranges

_A_GRID = (0.2, 0.5)
_B_GRID = (0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class SVDConfig:
    """Settings of the degree-normalised SVD.

    Attributes:
        a: users have the weight degree^-a in the factorised matrix; None to choose it on validation.
        b: items have the weight degree^-b; a larger one favours rare items; None to choose it on validation.
    """

    a: float | None = None
    b: float | None = None

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_ranges(self, -2, 2, "a", "b")


class SVDTrainer:
    """Decomposes R, with rows scaled by user degree^-a and columns by item degree^-b, into d right singular vectors V.

    The item table is P = V * degree^b. A user is the sum over its history of degree_i^-2b * P[i], so that
    score = R V V' degree^b up to a factor of the user. Rows are truncated after the decomposition: its dimensions
    are ordered by importance.
    """

    def __init__(self, train: Interactions, sizes: SizePlan, config: SVDConfig, seed: int, threads: int | None) -> None:
        """Start a fit; `threads` is unused."""
        self._train, self._sizes, self._seed = train, sizes, seed
        self._a, self._b = _fixed(config)
        self._item_degrees = _degrees(train)
        self._items = np.zeros((train.n_items, sizes.d), np.float32)

    def epoch(self) -> dict[str, float]:
        """Make the whole fit. `energy`: the share of the scaled matrix's squared norm in d dimensions."""
        scaled = scaled_matrix(self._train, self._a, self._b)
        _, s, v = truncated_svd(scaled, self._sizes.d, np.random.default_rng(self._seed))
        self._items = v * (self._item_degrees**self._b)[:, None]
        return {"energy": float(np.square(s).sum() / np.square(scaled.data).sum())}

    def vectors(self) -> Vectors:
        items = cut(self._items, self._sizes.items)
        encoder = LinearEncoder(_weights(self._item_degrees, self._b))
        return Vectors(encoder.users(self._train, items), items, encoder)

    def state(self) -> State:
        return {"items": self._items.copy()}

    def restore(self, state: State) -> None:
        self._items = state["items"].copy()


class SVD(Backbone):
    """PureSVD (Cremonesi, Koren and Turrin 2010) on a degree-normalised matrix.

    With a = b = 0.5 it is the ideal low-pass filter of GF-CF (Shen et al. 2021, arXiv 2108.07567, section 4).
    """

    name: ClassVar[str] = "svd"
    config: ClassVar[type[Any]] = SVDConfig
    trainer_class = SVDTrainer
    user_table: ClassVar[bool] = False
    max_epochs: ClassVar[int] = 1
    patience: ClassVar[int] = 1

    def candidates(self, config: SVDConfig) -> Sequence[SVDConfig]:
        """Return every pair of the small grid for the settings that are None in `config`."""
        grid_a = _A_GRID if config.a is None else (config.a,)
        grid_b = _B_GRID if config.b is None else (config.b,)
        return [replace(config, a=a, b=b) for a, b in product(grid_a, grid_b)]

    def encode(
        self, vectors: Vectors, train: Interactions, config: SVDConfig, *, threads: int | None = None
    ) -> Encoded:
        """Return the weighted sum over a history, with the weights of `config`, as an encoder."""
        _, b = _fixed(config)
        weights = _weights(_degrees(train), b)
        return Encoded.exactly(LinearEncoder(weights), train, vectors.items)


def _degrees(train: Interactions) -> NDArray[np.float32]:
    return np.maximum(train.item_counts(), 1).astype(np.float32)


def _weights(degrees: NDArray[np.float32], b: float) -> NDArray[np.float32]:
    """Return (n_items,) weights of the items in a history."""
    weights: NDArray[np.float32] = degrees ** np.float32(-2 * b)
    return weights


def _fixed(config: SVDConfig) -> tuple[float, float]:
    return (DEFAULT_A if config.a is None else config.a), (DEFAULT_B if config.b is None else config.b)
