"""Implicit ALS: weighted least squares on every cell of the matrix, by exact row solves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.models.base import Backbone, SizePlan, State, Vectors, cut
from edgerec.models.encoder import Encoded, LeastSquaresEncoder
from edgerec.models.low_rank import DEFAULT_A, DEFAULT_B, scaled_matrix, truncated_svd
from edgerec.models.row_solver import RowSolver
from edgerec.models.settings import check_choice, check_range

_ALPHA, _REG = 3.0, 20.0
_STARTS = ("svd", "normal")
_NOISE = 0.1
"""Root mean square of a row's norm if it starts from noise."""
_ALPHA_GRID = (1.0, 3.0, 10.0)
_REG_GRID = (5.0, 10.0, 20.0, 40.0)

_Tables = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Tables of users and of items."""


@dataclass(frozen=True)
class IALSConfig:
    """Settings of implicit ALS.

    Attributes:
        alpha: additional confidence of an observed cell: 1 + alpha against 1; None to choose it on validation.
        reg: ridge penalty of every row; None to choose it on validation.
        start: 'svd' starts from the truncated SVD of the scaled matrix, 'normal' from noise.
    """

    alpha: float | None = _ALPHA
    reg: float | None = _REG
    start: str = "svd"

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_range("alpha", self.alpha, 1e-6, 1e6)
        check_range("reg", self.reg, 1e-6, 1e9)
        check_choice("start", self.start, _STARTS)


class IALSTrainer:
    """Alternates exact solves of the items and of the users, each within its prefix size.

    Users are solved last, so that each equals the fold-in of its history into the item table. By default training
    starts from the truncated SVD of the scaled matrix: on ML-1M (reg 0.1) 2 epochs from there reach what takes 10 from
    noise, and the dimensions are ordered by importance, as prefixes need it.
    """

    def __init__(
        self, train: Interactions, sizes: SizePlan, config: IALSConfig, seed: int, threads: int | None
    ) -> None:
        self._n, self._threads = len(train), threads
        self._alpha, self._reg = fixed(config)
        columns = train.matrix().T.tocsr()
        self._user_solver = RowSolver(train.indptr, train.indices, train.n_items, sizes.d, sizes.users)
        self._item_solver = RowSolver(columns.indptr, columns.indices, train.n_users, sizes.d, sizes.items)
        first = _singular_vectors if config.start == "svd" else _noise
        users, items = first(train, sizes.d, np.random.default_rng(seed))
        self._users, self._items = cut(users, sizes.users), cut(items, sizes.items)

    def epoch(self) -> dict[str, float]:
        """Solve the items, then the users. `loss`: the objective summed over all cells, by interaction."""
        self._items, _ = self._item_solver.solve(self._users, self._alpha, self._reg, self._threads)
        self._users, fit = self._user_solver.solve(self._items, self._alpha, self._reg, self._threads)
        ridge = self._reg * float(np.square(self._items, dtype=np.float64).sum())
        return {"loss": 1 + self._alpha + (ridge - fit) / self._n}

    def vectors(self) -> Vectors:
        return Vectors(self._users.copy(), self._items.copy())

    def state(self) -> State:
        return {"users": self._users.copy(), "items": self._items.copy()}

    def restore(self, state: State) -> None:
        self._users, self._items = state["users"].copy(), state["items"].copy()


class IALS(Backbone):
    """Collaborative filtering for implicit feedback (Hu, Koren and Volinsky 2008).

    Its confidence 1 + alpha is what the `implicit` package calls alpha.
    """

    name: ClassVar[str] = "ials"
    config: ClassVar[type[Any]] = IALSConfig
    trainer_class = IALSTrainer
    max_epochs: ClassVar[int] = 15
    patience: ClassVar[int] = 2

    def candidates(self, config: IALSConfig) -> Sequence[IALSConfig]:
        """Return every pair of the small grid for the settings that are None in `config`."""
        alphas = _ALPHA_GRID if config.alpha is None else (config.alpha,)
        regs = _REG_GRID if config.reg is None else (config.reg,)
        return [replace(config, alpha=alpha, reg=reg) for alpha, reg in product(alphas, regs)]

    def encode(
        self, vectors: Vectors, train: Interactions, config: IALSConfig, *, threads: int | None = None
    ) -> Encoded:
        """Return the final solve of training as an encoder, in all dimensions, whatever the users' sizes."""
        return Encoded.exactly(LeastSquaresEncoder(*fixed(config)), train, vectors.items, threads)


def _singular_vectors(train: Interactions, d: int, rng: np.random.Generator) -> _Tables:
    u, s, v = truncated_svd(scaled_matrix(train, DEFAULT_A, DEFAULT_B), d, rng)
    return u * np.sqrt(s), v * np.sqrt(s)


def _noise(train: Interactions, d: int, rng: np.random.Generator) -> _Tables:
    users, items = (rng.standard_normal((n, d), dtype=np.float32) for n in train.shape)
    scale = np.float32(_NOISE / np.sqrt(d))
    return users * scale, items * scale


def fixed(config: IALSConfig) -> tuple[float, float]:
    """Return alpha and reg, by default those of the class."""
    return (_ALPHA if config.alpha is None else config.alpha), (_REG if config.reg is None else config.reg)


Chosen = NDArray[np.int64]


class IALSRefit:
    """Alternates exact solves of chosen users and items, each from all its interactions; other rows stay unchanged.

    Users are solved before the first epoch, so that items are not solved against uninitialised new users.
    """

    def __init__(
        self,
        train: Interactions,
        sizes: SizePlan,
        config: IALSConfig,
        start: Vectors,
        chosen: tuple[Chosen, Chosen],
        threads: int | None = None,
    ) -> None:
        """Start a refit of `start` to `train` within `sizes`.

        Args:
            start: (n_users, d) and (n_items, d), truncated to their sizes here.
            chosen: the user rows and item rows to solve.

        Raises TableError for sizes that do not fit the rows.
        """
        sizes.check(train)
        self._threads, self._chosen = threads, chosen
        self._alpha, self._reg = fixed(config)
        columns = train.matrix().T.tocsr()
        self._solvers = (
            _solver(train.indptr, train.indices, train.n_items, sizes.d, sizes.users, chosen[0]),
            _solver(columns.indptr, columns.indices, train.n_users, sizes.d, sizes.items, chosen[1]),
        )
        self._tables = [cut(start.users, sizes.users), cut(start.items, sizes.items)]
        self._solve(0)

    def epoch(self) -> dict[str, float]:
        """Solve the chosen items, then the chosen users. `moved`: the root mean square change of the items."""
        before = self._tables[1].copy()
        self._solve(1)
        self._solve(0)
        return {"moved": float(np.sqrt(np.square(self._tables[1] - before).mean()))}

    def _solve(self, side: int) -> None:
        if self._chosen[side].size:
            solved, _ = self._solvers[side].solve(self._tables[1 - side], self._alpha, self._reg, self._threads)
            self._tables[side][self._chosen[side]] = solved

    def vectors(self) -> Vectors:
        return Vectors(self._tables[0].copy(), self._tables[1].copy())

    def state(self) -> State:
        return {"users": self._tables[0].copy(), "items": self._tables[1].copy()}

    def restore(self, state: State) -> None:
        self._tables = [state["users"].copy(), state["items"].copy()]


def _solver(
    indptr: NDArray[np.integer[Any]],
    indices: NDArray[np.integer[Any]],
    n_columns: int,
    d: int,
    sizes: Chosen | None,
    rows: Chosen,
) -> RowSolver:
    """Return a solver of `rows` alone."""
    counts = np.diff(indptr)[rows]
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.arange(pointers[-1]) + np.repeat(indptr[rows] - pointers[:-1], counts)
    return RowSolver(pointers, indices[places], n_columns, d, None if sizes is None else sizes[rows])
