"""Implicit ALS that continues from existing tables and solves chosen rows alone, for a stream's next segment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.models.base import SizePlan, State, Vectors
from edgerec.models.ials import IALSConfig, fixed
from edgerec.models.prefix import cut
from edgerec.models.row_solver import RowSolver

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
