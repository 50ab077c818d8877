"""Ranks, the processes that train one run together; here the process that trains alone, and exchanges nothing.

Trainers are written for a rank: they hold the users of a range, and call these methods wherever numbers of all users
are needed. Alone each method returns its argument, so that there is one code path. The ranks of several processes are
`edgerec.training.ranks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array", bound=NDArray[Any])


class Ranks:
    """One of `count` processes. Every method is called by all of them, in the same order.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    def sum(self, array: Array) -> Array:
        """Return the sum of the ranks' arrays of one shape, the same to the bit on each rank."""
        return array

    def total(self, value: float) -> float:
        """Return the sum of the ranks' numbers, in float64."""
        return value

    def gather(self, rows: Array) -> Array:
        """Return the rows of all ranks (n, ...), in the order of ranks."""
        return rows

    def collect(self, rows: Array) -> Array:
        """Return the rows of all ranks on rank 0, and the rank's own on the others."""
        return rows

    def first(self, array: Array) -> Array:
        """Return the array of rank 0; those of the others have the same shape."""
        return array

    def exchange(self, parts: Sequence[Array], lengths: Sequence[int] | None = None) -> list[Array]:
        """Send `parts[r]` (n, ...) to each rank r; return what each rank sent to this one, of `lengths` if known."""
        return list(parts)

    def wait(self) -> None:
        """Return when all ranks have called this."""
        return


ALONE = Ranks()
"""The only rank of a process that trains alone."""


def balanced(costs: NDArray[Any], count: int) -> list[slice]:
    """Return `count` consecutive ranges of rows with about the same sum of `costs` (n,), none negative."""
    ends = np.cumsum(costs, dtype=np.float64)
    shares = np.arange(1, count) * (ends[-1] / count if len(ends) else 0.0)
    edges = [0, *np.minimum(np.searchsorted(ends, shares) + 1, len(ends)).tolist(), len(ends)]
    return [slice(first, end) for first, end in pairwise(edges)]
