"""Embedding sizes of a run against the popularity of its rows: bands over doublings of the interactions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RunError
from edgerec.training import Run

SHARES = (0.1, 0.5, 0.9)
"""The ends of a band and its middle: eight rows in ten lie inside."""


def size_bands(run: Run) -> dict[str, NDArray[np.float64]]:
    """The bands of 'items' and of 'users', each where the run has such a table and its counts.

    Returns (4, bins) by side: median interactions of a bin's rows, then the sizes that 10, 50 and 90 % of them do not
    exceed. A bin reaches from a power of two to below the next; empty ones are left out, and so are rows without an
    interaction, which have no place on a logarithmic axis.

    Raises RunError where counts and tables do not fit together.
    """
    return {side: _band(counts[counts > 0], sizes[counts > 0]) for side, counts, sizes in _sides(run) if counts.any()}


def unseen_rows(run: Run) -> int:
    """Rows of both sides without an interaction. Raises as `size_bands` does."""
    return sum(int((counts == 0).sum()) for _, counts, _ in _sides(run))


def _sides(run: Run) -> Iterator[tuple[str, NDArray[np.uint32], NDArray[np.int64]]]:
    for side, table, counts in (("items", run.items, run.item_counts), ("users", run.users, run.user_counts)):
        if table is None or counts is None:
            continue
        if counts.shape != (table.n_rows,):
            raise RunError(f"the run has {table.n_rows} {side} and counts {counts.size}: it is damaged; train it again")
        yield side, counts, table.sizes()


def _band(counts: NDArray[np.uint32], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    _, doublings = np.frexp(counts)
    bins = [doublings == number for number in np.unique(doublings)]
    return np.array([[np.median(counts[inside]), *np.quantile(sizes[inside], SHARES)] for inside in bins]).T
