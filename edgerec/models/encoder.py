"""Encoders, which compute a user's vector from a history, for bundles without users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.errors import SettingError
from edgerec.models.base import Vectors, users_from_history
from edgerec.models.row_solver import RowSolver
from edgerec.models.settings import check_range
from edgerec.ranks import Ranks


class Encoder(Protocol):
    """Computes users' vectors from their histories and the item table.

    Attributes:
        kind: name of the encoder in runs and manifests.
    """

    kind: ClassVar[str]

    def users(
        self, history: Interactions, items: NDArray[np.float32], threads: int | None = None
    ) -> NDArray[np.float32]:
        """Return (n_users, d) float32 from items (n_items, d) float32; zeros for an empty history.

        `threads` is the maximum number, by default one a core; the result does not depend on it.
        """
        ...

    def turned(self, axes: NDArray[np.floating[Any]]) -> Encoder:
        """Return the encoder for items @ axes, whose users are this one's @ axes; axes (d, d) are orthonormal."""
        ...

    def settings(self) -> dict[str, float]:
        """Return the encoder's numbers, as JSON."""
        ...

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the encoder's arrays by name."""
        ...


@dataclass(frozen=True)
class Encoded:
    """An encoder, and its vectors of users that it was not fitted to.

    Attributes:
        encoder: the encoder that is exported.
        users: (n_users, d) float32 from the histories of train, each by an encoder that was fitted without that user;
            by the encoder itself if it is not fitted.
    """

    encoder: Encoder
    users: NDArray[np.float32]

    @classmethod
    def exactly(
        cls, encoder: Encoder, history: Interactions, items: NDArray[np.float32], threads: int | None = None
    ) -> Encoded:
        """Return the result of an encoder that is not fitted to users."""
        return cls(encoder, encoder.users(history, items, threads))


@dataclass(frozen=True)
class LinearEncoder:
    """u = (sum over the history of weights[i] * items[i]) / length^power @ matrix + bias; 0 for an empty history.

    Every number is finite.

    Attributes:
        weights: (n_items,) float32.
        power: exponent of the history's length, in -4..4; it changes no ranking, but scales the vectors of long and
            short histories to the lengths that the matrix was fitted to.
        matrix: (d, d) float32; None for the identity.
        bias: (d,) float32; None for zeros.
    """

    kind: ClassVar[str] = "linear"

    weights: NDArray[np.float32]
    power: float = 0.0
    matrix: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range, numbers that are not finite, and shapes that do not fit."""
        check_range("power", self.power, -4, 4)
        _check_array("weights", self.weights, ("n_items",))
        d = None if self.bias is None else np.size(self.bias)
        if self.matrix is not None:
            d = np.shape(self.matrix)[-1] if np.ndim(self.matrix) else 0
            _check_array("matrix", self.matrix, (d, d))
        if self.bias is not None:
            _check_array("bias", self.bias, (d,))

    def averages(self, history: Interactions, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (n_users, d) float32, the input of the matrix."""
        sums = users_from_history(history, items, self.weights)
        if self.power == 0:
            return sums
        lengths = np.maximum(history.user_counts(), 1).astype(np.float32)
        return np.asarray(sums / np.power(lengths, np.float32(self.power))[:, None], np.float32)

    def users(
        self, history: Interactions, items: NDArray[np.float32], threads: int | None = None
    ) -> NDArray[np.float32]:
        users = self.averages(history, items)
        if self.matrix is not None:
            users = users @ self.matrix
        if self.bias is not None:
            users = users + self.bias * (history.user_counts() > 0)[:, None]
        return users

    def turned(self, axes: NDArray[np.floating[Any]]) -> LinearEncoder:
        matrix = None if self.matrix is None else (axes.T @ self.matrix @ axes).astype(np.float32)
        return replace(self, matrix=matrix, bias=None if self.bias is None else (self.bias @ axes).astype(np.float32))

    def settings(self) -> dict[str, float]:
        return {"power": self.power}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        arrays = {"weights": self.weights, "matrix": self.matrix, "bias": self.bias}
        return {name: array for name, array in arrays.items() if array is not None}


@dataclass(frozen=True)
class LeastSquaresEncoder:
    """The fold-in of implicit ALS: (V'V + reg I + alpha X'X) u = (1 + alpha) X' 1, X the rows of the history
    (Hu, Koren and Volinsky 2008, section 4).

    Attributes:
        alpha: additional confidence of an observed item.
        reg: ridge penalty.
    """

    kind: ClassVar[str] = "ials"

    alpha: float
    reg: float

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_range("alpha", self.alpha, 1e-6, 1e6)
        check_range("reg", self.reg, 1e-6, 1e9)

    def users(
        self, history: Interactions, items: NDArray[np.float32], threads: int | None = None
    ) -> NDArray[np.float32]:
        solver = RowSolver(history.indptr, history.indices, history.n_items, items.shape[1])
        return solver.solve(items, self.alpha, self.reg, threads)[0]

    def turned(self, axes: NDArray[np.floating[Any]]) -> LeastSquaresEncoder:
        return self

    def settings(self) -> dict[str, float]:
        return {"alpha": self.alpha, "reg": self.reg}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {}


def _check_array(name: str, array: Any, shape: tuple[int | str | None, ...]) -> None:
    """Raise SettingError unless `array` has finite numbers and this shape; a text stands for any length."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        raise SettingError(
            f"the encoder's {name} must be an array of numbers, got {getattr(array, 'dtype', type(array))}"
        )
    fits = [isinstance(length, str) or length == got for got, length in zip(array.shape, shape, strict=False)]
    if array.ndim != len(shape) or not all(fits):
        raise SettingError(f"the encoder's {name} has the shape {array.shape}, expected ({', '.join(map(str, shape))})")
    if not np.isfinite(array).all():
        raise SettingError(f"the encoder's {name} must be finite, got {array[~np.isfinite(array)][0]}")


def encoder_from(kind: str, settings: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> Encoder:
    """Return the encoder of a kind, settings and arrays. Raises KeyError, TypeError, SettingError if they form none."""
    kinds: dict[str, Any] = {encoder.kind: encoder for encoder in (LinearEncoder, LeastSquaresEncoder)}
    encoder: Encoder = kinds[kind](**settings, **arrays)
    return encoder


_EXPONENTS = (0.0, 0.25, 0.5)
_RIDGES = (1e-3, 1e-2)
_FOLDS = 10
_TINY = 1e-9
"""Penalty that keeps the normal equations solvable without users or with vectors of zeros."""

Matrix = NDArray[np.float64]
Products = tuple[Matrix, Matrix]
"""The left and the right side of normal equations."""


@dataclass(frozen=True)
class _Fit:
    """The fit of one exponent and ridge.

    Attributes:
        plain: the encoder of the means.
        matrix: (d + 1, d), the bias in its last row, fitted to all users.
        left_out: (n, d) vectors of users with a history, by fits without them.
        error: squared error of their scores of all items.
    """

    plain: LinearEncoder
    matrix: Matrix
    left_out: Matrix
    error: float


def fit_linear(vectors: Vectors, train: Interactions) -> Encoded:
    """Fit u = mean over the history of counts[i]^-a * items[i], times a matrix, plus a bias, in closed form.

    Each of several ranks has its users, and returns the same encoder.

    Exponent and ridge (a share of the means' mean square) are chosen from a small grid by ten-fold cross-validation
    over users: the smallest squared error of the scores of all items. The returned encoder is fitted to all users. On
    ML-1M's mf the bias is worth 0.03 of NDCG@20, and means are better than sums, or sums over the root of the length.
    """
    known = np.flatnonzero(train.user_counts())
    best = min(_fits(vectors, train, known), key=lambda fit: fit.error)
    matrix = best.matrix.astype(np.float32)
    users = np.zeros_like(vectors.users)
    users[known] = best.left_out
    return Encoded(LinearEncoder(best.plain.weights, best.plain.power, matrix[:-1], matrix[-1]), users)


def _fits(vectors: Vectors, train: Interactions, known: NDArray[np.int64]) -> Iterator[_Fit]:
    """Yield the fits of the grid one at a time: each is as large as the users' table."""
    counts, ranks = np.maximum(train.item_counts(), 1).astype(np.float32), train.ranks
    before = int(ranks.gather(np.array([len(known)]))[: ranks.rank].sum())
    users = vectors.users[known].astype(np.float64)
    gram = vectors.items.T.astype(np.float64) @ vectors.items
    for exponent in _EXPONENTS:
        plain = LinearEncoder(counts ** np.float32(-exponent), power=1)
        means = plain.users(train, vectors.items)[known]
        inputs = np.hstack([means, np.ones((len(known), 1))]).astype(np.float64)
        products, of_folds = _products(inputs, users, before, ranks)
        for ridge in _RIDGES:
            found = np.empty_like(users)
            for fold, (left, right) in zip(_folds(before), of_folds, strict=True):
                found[fold] = inputs[fold] @ _solved(products[0] - left, products[1] - right, ridge)
            error = ranks.total(float(np.einsum("nd,nd->", (found - users) @ gram, found - users)))
            yield _Fit(plain, _solved(*products, ridge), found, error)


def _folds(before: int) -> list[slice]:
    """Return the rank's users of each fold, `before` the number of users of the ranks before it."""
    return [slice((fold - before) % _FOLDS, None, _FOLDS) for fold in range(_FOLDS)]


def _products(inputs: Matrix, users: Matrix, before: int, ranks: Ranks) -> tuple[Products, list[Products]]:
    """Return the normal equations of inputs (n, d + 1) and users (n, d) of all ranks, and the part of each fold."""

    def of(rows: slice) -> Products:
        own = inputs[rows]
        return ranks.sum(own.T @ own), ranks.sum(own.T @ users[rows])

    return of(slice(None)), [of(fold) for fold in _folds(before)]


def _solved(left: Matrix, right: Matrix, ridge: float) -> Matrix:
    """Return (d + 1, d), the solution of the normal equations; the last row, the bias, is not penalised."""
    penalties = np.full(len(left), _TINY)
    penalties[:-1] += ridge * np.trace(left[:-1, :-1]) / (len(left) - 1)
    solved = np.linalg.solve(left + np.diag(penalties), right)
    return solved.astype(np.float64)
