"""The end of a search: its best sizes are trained in full, and the best of them on validation ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgerec.methods.base import Job
from edgerec.methods.search.fitness import eval_of
from edgerec.methods.search.history import RETRAIN, SearchHistory
from edgerec.models import SizePlan
from edgerec.training import FitResult


def retrained(job: Job, best: Sequence[tuple[dict[str, Any], SizePlan]], history: SearchHistory) -> FitResult:
    """The fit within the plan that is best on validation, by eval, each trained until it gets no better.

    Each is told in the history. Where the split trains once more on all of train, only the best is.

    Args:
        best: plans, each with its entry in the history, the best first.
    """
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


def _brief(entry: dict[str, Any]) -> dict[str, Any]:
    """What a run tells of an action; all of it is in the search's own file."""
    kept = ("iteration", "episode", "strategy", "predicted", "fitness", "eval")
    return {"phase": "search", **{name: entry[name] for name in kept if name in entry}}
