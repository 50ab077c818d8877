"""From what a search has visited to the sizes that are worth a full training within one budget, met exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import project_sizes, snap_sizes
from edgerec.errors import BudgetError
from edgerec.methods.base import Job
from edgerec.methods.ciess import ORIGINS
from edgerec.methods.search.visits import Pair, Visits
from edgerec.models import SizePlan

Scores = NDArray[np.float64]

VISITED, PROJECTED, PROPOSED, SMOOTHED = ORIGINS
_UNSPENT = 0.1
"""Of the budget, that visited sizes may leave: with less they had better be projected."""
_WIDTHS = 16
"""Distinct sizes a table where the budget is of a bundle in bytes: each is a block, which costs bytes too."""
_LEAST = 1e-3
_GROUPS = 20
"""Of rows of like popularity: with so few, what a visit did to single rows is lost in the mean of hundreds."""


@dataclass(frozen=True)
class Candidate:
    """Sizes within the budget.

    Attributes:
        plan: they keep to the budget; exactly, but for visited ones and where the budget is in bytes.
        origin: 'visited' as they are; 'projected', visited sizes brought to the budget; 'proposed', what the actors
            proposed without noise, brought to the budget; or 'smoothed', what visited sizes of rows of like popularity
            have in common, brought to the budget.
        visit: their number in the search.
        score: as the search measured it; None where it has not, since they have been changed.
    """

    plan: SizePlan
    origin: str
    visit: int
    score: float | None


def candidates(job: Job, visits: Visits, scores: Scores, origins: tuple[str, ...], count: int) -> list[Candidate]:
    """Visited sizes that are within the budget and spend it, and of each other origin the `count` that did best for
    their size and were near to the budget: a factor of e off it weighs as much as a standard deviation of
    scores (ours).

    Args:
        scores: (visits,) by which visits are ranked.

    Raises BudgetError where there is none: nothing visited spends the budget, and no other origin is asked for.
    """
    better = _better_than_its_size(visits, scores)
    found = list(_visited(job, visits, scores)) if VISITED in origins else []
    for origin, pairs in ((PROJECTED, visits.sizes), (PROPOSED, visits.proposed), (SMOOTHED, visits.sizes)):
        if origin in origins:
            found += _promising(job, origin, pairs, better, count)
    if not found:
        raise BudgetError(
            "the search visited no sizes that spend this budget; leave ship open, so that others are projected on it, "
            "or give the search more episodes"
        )
    return found


def _visited(job: Job, visits: Visits, scores: Scores) -> Iterator[Candidate]:
    total, widths = allowed(job)
    for number, pair in enumerate(visits.sizes):
        sizes = [side.astype(np.int64) for side in pair]
        few = widths is None or all(np.unique(side).size <= widths for side in sizes)
        spent = sum(int(side.sum()) for side in sizes)
        if few and (1 - _UNSPENT) * total <= spent <= total:
            yield Candidate(SizePlan(job.d, *sizes), VISITED, number, float(scores[number]))


def _promising(job: Job, origin: str, pairs: list[Pair], better: Scores, count: int) -> Iterator[Candidate]:
    total, _ = allowed(job)
    sums = np.array([sum(float(side.sum(dtype=np.float64)) for side in pair) for pair in pairs])
    order = np.argsort(np.abs(np.log(sums / total)) - better, kind="stable")
    users, items = job.split.train.user_counts(), job.split.train.item_counts()
    for number in order[:count].tolist():
        pair = pairs[number]
        if origin == SMOOTHED:
            pair = smoothed(pair[0], users), smoothed(pair[1], items)
        yield Candidate(projected(job, pair), origin, number, None)


def smoothed(sizes: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) what the `sizes` (n,) of rows with about as many interactions have in common: the geometric means of 20
    groups of rows by their `counts` (n,), and between these what lies on lines over the logarithm of the counts."""
    order = np.argsort(counts, kind="stable")
    seen, logs = np.log1p(counts.astype(np.float64)), np.log(sizes.astype(np.float64))
    groups = [group for group in np.array_split(order, _GROUPS) if group.size]
    # Groups that begin within one popularity end in it: they are one.
    at, inverse = np.unique([float(seen[group].mean()) for group in groups], return_inverse=True)
    rows = np.array([group.size for group in groups], np.float64)
    totals = np.bincount(inverse, [float(logs[group].sum()) for group in groups])
    level: NDArray[np.float64] = np.exp(np.interp(seen, at, totals / np.bincount(inverse, rows)))
    return level


def _better_than_its_size(visits: Visits, scores: Scores) -> Scores:
    """(visits,) by how many standard deviations the score of a visit is above that of others as large: above a
    parabola over the logarithm of the kept share."""
    x = np.log(visits.kept())
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    beyond = scores - design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    better: Scores = beyond / max(float(beyond.std()), 1e-9)
    return better


def projected(job: Job, pair: Pair) -> SizePlan:
    """Sizes in proportion to `pair`'s, brought to the job's budget by one factor for both tables: as many values as it
    allows, or where it is in bytes at most as many, of at most 16 widths a table.

    Raises BudgetError where the budget leaves less than one value a row.
    """
    total, widths = allowed(job)
    weights = np.concatenate([side.astype(np.float64) for side in pair]).clip(_LEAST)
    sizes = project_sizes(weights, total, 1, job.d)
    users, items = np.split(sizes, [len(pair[0])])
    if widths is not None:
        own = np.split(weights, [len(pair[0])])
        users, items = (
            snap_sizes(weight, int(side.sum()), 1, job.d, widths)
            for weight, side in zip(own, (users, items), strict=True)
        )
    return SizePlan(job.d, users, items)


def even_sizes(job: Job) -> SizePlan:
    """One size for all rows, with all of the job's budget: sizes that differ by one at most. Raises as `projected`."""
    users, items = job.train.shape
    return projected(job, (np.ones(users), np.ones(items)))


def allowed(job: Job) -> tuple[int, int | None]:
    """Values in all, and distinct sizes a table, None for any number."""
    in_bytes = job.budget is not None and job.budget.kind == "bytes"
    return job.values(blocks=2 * _WIDTHS), _WIDTHS if in_bytes else None
