"""Rows of items that several ranks train: each rank owns some, with their moments, and fetches others that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.extras import require

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")

Numbers = NDArray[np.int32]
Rows = TypeVar("Rows", "torch.Tensor", NDArray[Any])

_DRAWN_AT_ONCE = 1 << 16
"""Rows that are drawn at once: a multiple of 16, as torch draws normal numbers by 16."""


class SharedRows:
    """The exchange of item rows (n_items, d) between the ranks that own them and those that train with them.

    All rows of one process are its own: `fetch` and `sum` return their argument. Every rank calls a method at once.

    Attributes:
        moved: number of rows that this rank has fetched from others and sent to them with `sum`, so far.
    """

    def __init__(self, train: Interactions) -> None:
        self._ranks, self._own = train.ranks, train.own_items
        starts = self._ranks.gather(np.array([self._own.start])).tolist()
        self._parts = [slice(*ends) for ends in pairwise([*starts, train.n_items])]
        self._table: torch.Tensor | None = None
        self.moved = 0

    def fetch(self, own: torch.Tensor, *needed: torch.Tensor) -> torch.Tensor:
        """Return a table (n_items, d), a leaf of the graph, in which the needed rows are those of their owners.

        Args:
            own: (k, d) the rank's rows.
            needed: rows, of any shape; the others of the table are outdated.
        """
        if self._ranks.count == 1:
            return own if own.is_leaf else own.detach().requires_grad_()
        if self._table is None:
            self._table = torch.zeros(self._parts[-1].stop, own.shape[1])
        mine, theirs = self._requests(*needed)
        values = own.detach().numpy()
        answers = [values[rows - self._own.start] for rows in theirs]
        found = self._ranks.exchange(answers, [len(rows) for rows in mine])
        self._table[np.concatenate(mine)] = torch.from_numpy(np.concatenate(found))
        return self._table.detach().requires_grad_()

    def fetch_all(self, own: torch.Tensor) -> torch.Tensor:
        """Return the rows (n_items, d) of all ranks."""
        return torch.from_numpy(self._ranks.gather(own.detach().numpy()))

    def sum(self, values: torch.Tensor, *touched: torch.Tensor) -> torch.Tensor:
        """Return the rank's rows (k, d) of the sum of the ranks' values (n_items, d), zero but for touched rows."""
        if self._ranks.count == 1:
            return values
        mine, theirs = self._requests(*touched)
        given = values.numpy()
        found = self._ranks.exchange([given[rows] for rows in mine], [len(rows) for rows in theirs])
        total = np.zeros_like(given[self._own])
        for rows, part in zip(theirs, found, strict=True):
            total[rows - self._own.start] += part
        return torch.from_numpy(total)

    def sum_all(self, values: torch.Tensor) -> torch.Tensor:
        """Return the rank's rows (k, d) of the sum of the ranks' values (n_items, d), all of which are sent."""
        given = values.numpy()
        n = self._own.stop - self._own.start
        found = self._ranks.exchange([given[part] for part in self._parts], [n] * self._ranks.count)
        return torch.from_numpy(np.sum(found, axis=0))

    def _requests(self, *needed: torch.Tensor) -> tuple[list[Numbers], list[Numbers]]:
        """Return the needed rows of each rank, ascending, and the own rows that each rank needs."""
        marks = np.zeros(self._parts[-1].stop, np.bool_)
        for rows in needed:
            marks[rows.numpy()] = True
        mine = [(np.flatnonzero(marks[part]) + part.start).astype(np.int32) for part in self._parts]
        self.moved += sum(len(rows) for rows in mine) - len(mine[self._ranks.rank])
        return mine, self._ranks.exchange(mine)


def within(rows: Rows, own: slice) -> Rows:
    """Return (n,) bool: True for rows (n,) of a range."""
    inside: Rows = (rows >= own.start) & (rows < own.stop)
    return inside


def own_interactions(train: Interactions) -> tuple[slice, int]:
    """Return the places of the rank's interactions among those of all ranks, and their number."""
    counts = train.all_user_counts()
    first = int(counts[: train.own_users.start].sum())
    return slice(first, first + len(train)), int(counts.sum())


def drawn_rows(n: int, d: int, own: Sequence[slice], generator: torch.Generator) -> torch.Tensor:
    """Return ranges of the rows that `torch.randn(n, d)` draws, in the memory of those alone."""
    found = torch.empty(sum(part.stop - part.start for part in own), d)
    starts = range(0, max(n - 15, 1), _DRAWN_AT_ONCE)  # torch draws fewer than 16 numbers in another way
    for first, end in pairwise([*starts, n]):
        drawn, at = torch.randn(end - first, d, generator=generator), 0
        for part in own:
            low, high = max(first, part.start), min(end, part.stop)
            if low < high:
                found[at + low - part.start : at + high - part.start] = drawn[low - first : high - first]
            at += part.stop - part.start
    return found


def table_rows(state: dict[str, NDArray[Any]], rows: dict[str, slice]) -> dict[str, NDArray[Any]]:
    """Return a state with the rank's rows of each named table and of its moments."""
    return {
        name: value[rows[table]] if (table := name.partition(".")[0]) in rows and value.ndim == 2 else value
        for name, value in state.items()
    }
