"""Quality per byte: the front of bundles that no other beats in both, and its knee, the one to ship."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")
SAME = 0.01
"""The knee is the smallest of the front whose quality is at most this share below the best."""


def front(among: Iterable[T], *, nbytes: Callable[[T], float], score: Callable[[T], float]) -> list[T]:
    """Return those that no other equals in bytes and score or beats, smallest first; of equals the first."""
    best: list[T] = []
    for one in sorted(among, key=lambda one: (nbytes(one), -score(one))):
        if not best or score(one) > score(best[-1]):
            best.append(one)
    return best


def knee(best: Sequence[T], *, score: Callable[[T], float]) -> T | None:
    """Return the knee of a front, whose last has the highest score; None if it is empty."""
    return next((one for one in best if score(one) >= (1 - SAME) * score(best[-1])), None)
