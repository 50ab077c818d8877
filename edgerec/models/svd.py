"""Degree-normalised truncated SVD: a closed form with an item table only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.models.base import Backbone, SizePlan, State, Vectors, cut
from edgerec.models.encoder import Encoded, LinearEncoder
from edgerec.models.low_rank import DEFAULT_A, DEFAULT_B, STEPS, Krylov, krylov, scaled_matrix
from edgerec.models.quantizer import Quantizer, rotated
from edgerec.models.settings import check_ranges
from edgerec.tables.codes import in_bytes

_AXES: Mapping[str, Sequence[float]] = MappingProxyType(
    {
        "power": (0.0, 0.25, 0.5, 0.75, 1.0),
        "c": (0.15, 0.0, -0.15, -0.3, -0.45),
        "steps": (6, 8, 10, 12, STEPS),
        "b": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
        "a": (0.0, 0.2, 0.4, 0.6),
    }
)
"""The axes that need no decomposition come first. Power favours popular items, and a smaller c makes up for it."""

_Factors = tuple[NDArray[np.float32], NDArray[np.float32], float]
"""Singular values (d,), right vectors (n_items, d), and the share of the squared norm in them."""


@dataclass(frozen=True)
class SVDConfig:
    """Settings of the degree-normalised SVD.

    Attributes:
        a: users have the weight degree^-a in the factorised matrix; None to choose it on validation.
        b: items have the weight degree^-b; a larger one favours rare items; None to choose it on validation.
        c: scores of items have the additional factor degree^c; a smaller one favours rare items; None to choose it on
            validation.
        power: dimensions have the weight s^power, s the singular values relative to the largest; 0 weighs all alike;
            None to choose it on validation.
        steps: Lanczos steps, from 1 to 16. Fewer mix the dimensions with those after them, which helps where they are
            too few for the data, such as 64 on Gowalla; None to choose them on validation.
    """

    a: float | None = None
    b: float | None = None
    c: float | None = None
    power: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_ranges(self, -2, 2, "a", "b", "c", "power")
        check_ranges(self, 1, STEPS, "steps")


class _Decompositions:
    """Decompositions of the scaled matrix by exponents, of which the last is stored."""

    def __init__(self, train: Interactions, d: int, seed: int, device: str) -> None:
        self._train, self._d, self._seed, self._device = train, d, seed, device
        self._last: dict[tuple[float, float], _Decomposition] = {}
        self._degrees: NDArray[np.float32] | None = None

    def degrees(self, train: Interactions) -> NDArray[np.float32]:
        """Return the (n_items,) degrees of `train`; counting them again would take as long as a small cut."""
        if train is not self._train:
            return _degrees(train)
        if self._degrees is None:
            self._degrees = _degrees(train)
        return self._degrees

    def of(self, train: Interactions, a: float, b: float, steps: int) -> _Factors:
        """Return the factors of `train`; its decomposition is stored if it is that of these decompositions."""
        if train is not self._train:
            return self._decomposed(train, a, b).factors(steps)
        if (a, b) not in self._last:
            self._last.clear()
            self._last[a, b] = self._decomposed(train, a, b)
        return self._last[a, b].factors(steps)

    def _decomposed(self, train: Interactions, a: float, b: float) -> _Decomposition:
        scaled = scaled_matrix(train, a, b)
        found = krylov(scaled, self._d, np.random.default_rng(self._seed), train.ranks, self._device)
        return _Decomposition(found, self._d, float(train.ranks.sum(np.square(scaled.data).sum())))


class _Decomposition:
    """The factors of one scaled matrix by the number of steps, each computed once: a search makes thousands of cuts."""

    def __init__(self, space: Krylov, d: int, norm: float) -> None:
        self._space, self._d, self._norm = space, d, norm
        self._found: dict[int, _Factors] = {}

    def factors(self, steps: int) -> _Factors:
        """Return the factors after this many steps."""
        if steps not in self._found:
            s, v = self._space.right_vectors(self._d, steps)
            self._found[steps] = s, v, float(np.square(s).sum() / self._norm)
        return self._found[steps]


class SVDTrainer:
    """Decomposes R, with rows scaled by user degree^-a and columns by item degree^-b, into d right singular vectors V.

    The item table is P = V * S^(power/2) * degree^(b + c), S the singular values relative to the largest. A user is the
    sum over its history of degree_i^-(2b + c) * P[i], so that score = R V S^power V' degree^(b + c) up to a factor of
    the user. Rows are truncated after the decomposition: its dimensions are ordered by importance.
    """

    def __init__(
        self, train: Interactions, sizes: SizePlan, config: SVDConfig, seed: int, threads: int | None, device: str
    ) -> None:
        """Start a fit; `threads` is unused."""
        self._train, self._sizes, self._config = train, sizes, config
        self._decompositions = _Decompositions(train, sizes.d, seed, device)
        self._items = np.zeros((train.n_items, sizes.d), np.float32)

    def begin(self, start: Callable[[], _Decompositions]) -> None:
        self._decompositions = start()

    def epoch(self) -> dict[str, float]:
        """Make the whole fit. `energy`: the share of the scaled matrix's squared norm in d dimensions."""
        config = SVD().closed(self._config)
        s, v, energy = self._decompositions.of(self._train, config.a, config.b, config.steps)
        relative = (s / s[0]) ** np.float32(config.power / 2) if s[0] else s
        scales = self._decompositions.degrees(self._train) ** np.float32(config.b + config.c)
        self._items = v * relative * scales[:, None]
        return {"energy": energy}

    def rows(self) -> Vectors:
        """Return the items within their sizes and the encoder, without users."""
        items = cut(self._items, self._sizes.items)
        weights = _weights(self._decompositions.degrees(self._train), self._config)
        return Vectors(items[:0], items, LinearEncoder(weights))

    def vectors(self) -> Vectors:
        return self.rows().with_history(self._train)

    def state(self) -> State:
        return {"items": self._items[self._train.own_items].copy()}

    def restore(self, state: State) -> None:
        self._items = state["items"].copy()


class CodedSVDTrainer(SVDTrainer):
    """An SVD whose items are rounded to the codes that bundles store, after a random rotation from each width to the
    next, which changes no score before rounding; users follow from the rounded items and history weights.
    """

    def __init__(
        self,
        train: Interactions,
        sizes: SizePlan,
        config: SVDConfig,
        seed: int,
        threads: int | None,
        device: str,
        bits: NDArray[np.uint8],
        feedback: bool = True,
    ) -> None:
        """Start a fit.

        Args:
            bits: (n_items,) bits of each row's codes.
            feedback: False to round to nearest, which takes a tenth of the time.
        """
        super().__init__(train, sizes, config, seed, threads, device)
        self._own = np.full(train.n_items, sizes.d) if sizes.items is None else sizes.items
        self._seed, self._quantizer, self._feedback = seed, Quantizer(self._own, sizes.d, bits), feedback

    def rows(self) -> Vectors:
        plain = super().rows()
        turned = rotated(plain.items, self._own, np.random.default_rng(self._seed))
        encoder = LinearEncoder(in_bytes(_weights(self._decompositions.degrees(self._train), self._config)))
        gram = _gram(encoder.users(self._train, turned)) if self._feedback else None
        items, codes = self._quantizer.codes(turned, gram)
        return Vectors(plain.users, items, encoder, codes)


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

    axes: ClassVar[Mapping[str, Sequence[float]]] = _AXES
    typical: ClassVar[Mapping[str, float]] = MappingProxyType(
        {"power": 0.25, "c": 0.0, "steps": 12, "b": DEFAULT_B, "a": DEFAULT_A}
    )

    def shared_start(
        self, train: Interactions, d: int, config: SVDConfig, seed: int, device: str = "cpu"
    ) -> _Decompositions:
        return _Decompositions(train, d, seed, device)

    def encode(
        self, vectors: Vectors, train: Interactions, config: SVDConfig, *, threads: int | None = None
    ) -> Encoded:
        """Return the weighted sum over a history: the encoder of coded items, or one with the weights of `config`."""
        if vectors.codes is not None and vectors.encoder is not None:
            return Encoded.exactly(vectors.encoder, train, vectors.items)
        return Encoded.exactly(LinearEncoder(_weights(_degrees(train), config)), train, vectors.items)


def _degrees(train: Interactions) -> NDArray[np.float32]:
    return np.maximum(train.item_counts(), 1).astype(np.float32)


def _gram(users: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (d, d) mean of u u' over users of length 1: lengths change no ranking."""
    lengths = np.maximum(np.linalg.norm(users, axis=1, keepdims=True), np.float32(1e-12))
    users = users / lengths
    return np.asarray(users.T @ users / max(len(users), 1), np.float32)


def _weights(degrees: NDArray[np.float32], config: SVDConfig) -> NDArray[np.float32]:
    """Return (n_items,) weights of the items in a history, from their degrees."""
    closed = SVD().closed(config)
    weights: NDArray[np.float32] = degrees ** np.float32(-2 * closed.b - closed.c)
    return weights
