"""The finalists of a search: sizes within the budget that are trained in full; the best on validation is the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import MOST_WIDTHS, SizeBudget, project_sizes
from edgerec.methods.base import Job
from edgerec.methods.search.evaluator import eval_of
from edgerec.methods.search.history import RETRAIN, SearchHistory, size_deciles
from edgerec.models import SizePlan
from edgerec.training import FitResult

_LEAST = 1e-3
"""The smallest weight, since weights must be positive."""


def searched_budget(job: Job) -> SizeBudget:
    """Return the job's budget for searched sizes, with few widths for a budget in bytes.

    Raises BudgetError if the budget leaves less than one value a row.
    """
    in_bytes = job.budget is not None and job.budget.kind == "bytes"
    widths = MOST_WIDTHS if in_bytes else None
    return job.size_budget(user_widths=widths, item_widths=widths)


def projected(job: Job, pair: tuple[NDArray[Any], NDArray[Any]]) -> SizePlan:
    """Project the sizes `pair` of users and items onto the job's budget, with one factor for both tables.

    The plan spends the budget exactly, or for a budget in bytes at most, with at most 16 widths a table.

    Raises BudgetError if the budget leaves less than one value a row.
    """
    budget = searched_budget(job)
    weights = np.concatenate([side.astype(np.float64) for side in pair]).clip(_LEAST)
    sizes = project_sizes(weights, budget.total, 1, job.d)
    users, items = np.split(sizes, [len(pair[0])])
    if not budget.exact:
        own = np.split(weights, [len(pair[0])])
        users = budget.user_sizes(own[0], int(users.sum()))
        items = budget.item_sizes(own[1], int(items.sum()))
    return SizePlan(job.d, users, items)


def uniform_sizes(job: Job) -> SizePlan:
    """Return the job's budget divided evenly: sizes that differ by at most one. Raises as `projected` does."""
    users, items = job.train.shape
    return projected(job, (np.ones(users), np.ones(items)))


def retrained(
    job: Job,
    best: Sequence[tuple[dict[str, Any], SizePlan]],
    history: SearchHistory,
    *,
    include_uniform_baseline: bool = False,
) -> FitResult:
    """Train each plan in full and return the best fit on validation, by eval.

    The history gets an entry for each plan. If the split has a final training on all of train, only the best plan gets
    it.

    Args:
        best: plans, each with its entry in the history, the best first.
        include_uniform_baseline: train one size for all rows too, with the whole budget, so that the result is at least
            as good on validation; the best sizes of short trainings, perhaps of another model, may be worse.

    Raises BudgetError if the budget leaves less than one value a row.
    """
    if include_uniform_baseline:
        best = [*best, _uniform(job, history)]
    known = len(history.entries) - len(history.evaluated)
    results, scores = [], []
    for number, (entry, plan) in enumerate(best):
        results.append(job.fit(plan, final=False))
        scores.append(float(eval_of(results[-1].validation)))
        if number >= known:
            history.add({**entry, "strategy": RETRAIN, "predicted": None, "fitness": None, "eval": scores[-1]})
    first = max(range(len(best)), key=lambda number: scores[number])
    result = job.fit(best[first][1], chosen=results[first]) if job.split.fit_all else results[first]
    return replace(result, history=[*result.history, *map(brief_entry, history.entries)])


def _uniform(job: Job, history: SearchHistory) -> tuple[dict[str, Any], SizePlan]:
    """Return one size for all rows, with its history entry."""
    plan, counts = uniform_sizes(job), (job.split.train.user_counts(), job.split.train.item_counts())
    mean = sum(int(side.sum()) for side in (plan.users, plan.items) if side is not None) / job.n_rows
    entry = {"iteration": len(history.evaluated), "action": {"uniform": round(mean, 4)}, "strategy": RETRAIN}
    entry |= {"predicted": None, "fitness": None, "density": mean / plan.d, "seconds": 0.0}
    return {**entry, "sizes": size_deciles(plan, *counts)}, plan


def brief_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the part of an entry for the run's history; the search's file has all of it."""
    names = ("iteration", "episode", "strategy", "predicted", "fitness", "eval")
    return {"phase": "search", **{name: entry[name] for name in names if name in entry}}
