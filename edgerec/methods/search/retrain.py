"""The end of a search: its best sizes are trained in full, and the best of them on validation ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgerec.methods.base import Job
from edgerec.methods.search.fitness import eval_of
from edgerec.methods.search.history import RETRAIN, SearchHistory, size_deciles
from edgerec.methods.search.shortlist import even_sizes
from edgerec.models import SizePlan
from edgerec.training import FitResult


def retrained(
    job: Job, best: Sequence[tuple[dict[str, Any], SizePlan]], history: SearchHistory, *, even: bool = False
) -> FitResult:
    """The fit within the plan that is best on validation, by eval, each trained until it gets no better.

    Each is told in the history. Where the split trains once more on all of train, only the best is.

    Args:
        best: plans, each with its entry in the history, the best first.
        even: one size for all is trained beside them, with all of the budget, so that nothing ships that validation
            finds worse: what a short training, of another model perhaps, likes best may be.

    Raises BudgetError where the budget leaves less than one value a row.
    """
    if even:
        best = [*best, _even(job, history)]
    told = len(history.entries) - len(history.judged)
    results, scores = [], []
    for number, (entry, plan) in enumerate(best):
        results.append(job.fit(plan, final=False))
        scores.append(float(eval_of(results[-1].validation)))
        if number >= told:
            history.add({**entry, "strategy": RETRAIN, "predicted": None, "fitness": None, "eval": scores[-1]})
    first = max(range(len(best)), key=lambda number: scores[number])
    result = job.fit(best[first][1], chosen=results[first]) if job.split.fit_all else results[first]
    return replace(result, history=[*result.history, *map(_brief, history.entries)])


def _even(job: Job, history: SearchHistory) -> tuple[dict[str, Any], SizePlan]:
    """One size for all, and what the history tells of it."""
    plan, counts = even_sizes(job), (job.split.train.user_counts(), job.split.train.item_counts())
    mean = sum(int(side.sum()) for side in (plan.users, plan.items) if side is not None) / job.n_rows
    entry = {"iteration": len(history.judged), "action": {"even": round(mean, 4)}, "strategy": RETRAIN}
    entry |= {"predicted": None, "fitness": None, "density": mean / plan.d, "seconds": 0.0}
    return {**entry, "sizes": size_deciles(plan, *counts)}, plan


def _brief(entry: dict[str, Any]) -> dict[str, Any]:
    """What a run tells of an action; all of it is in the search's own file."""
    kept = ("iteration", "episode", "strategy", "predicted", "fitness", "eval")
    return {"phase": "search", **{name: entry[name] for name in kept if name in entry}}
