"""Search of settings on validation: steps on a lattice from the best point so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

Axes = Mapping[str, Sequence[float]]
"""Values to try of each open setting, in order. The best values of the first two rise together."""
Point = tuple[float, ...]
"""A value of each axis."""


def next_point(axes: Axes, start: Point, scores: Mapping[Point, float]) -> Point | None:
    """Return the point to try next, or None if no neighbour of the best one is left.

    The search climbs: it continues in the direction that led to the best point, else tries the best point's neighbours.
    It depends on the scores alone, so that a search that was stopped resumes to the same points.

    Args:
        start: the first point.
        scores: the score of each point that was tried, in the order of the trials.
    """
    if not scores:
        return start
    best = _first_best(scores)
    before = dict(list(scores.items())[: list(scores).index(best)])
    here = _places(axes, best)
    moves = list(_moves(len(axes)))
    if before:
        there = _places(axes, _first_best(before))
        moves.insert(0, tuple((now > then) - (now < then) for now, then in zip(here, there, strict=True)))
    for move in moves:
        places = [place + step for place, step in zip(here, move, strict=True)]
        if all(0 <= place < len(values) for place, values in zip(places, axes.values(), strict=True)):
            point = tuple(values[place] for place, values in zip(places, axes.values(), strict=True))
            if point not in scores:
                return point
    return None


def _first_best(scores: Mapping[Point, float]) -> Point:
    return max(scores, key=lambda point: scores[point])


def _places(axes: Axes, point: Point) -> list[int]:
    return [list(values).index(value) for value, values in zip(point, axes.values(), strict=True)]


def _moves(n_axes: int) -> Iterator[tuple[int, ...]]:
    """Yield steps along the first two axes, along both at once, and along each of the others."""
    axes = [(axis,) for axis in range(n_axes)]
    for moved in (*axes[:2], *([(0, 1)] if n_axes > 1 else []), *axes[2:]):
        for step in (1, -1):
            yield tuple(step if axis in moved else 0 for axis in range(n_axes))
