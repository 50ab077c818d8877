"""The end of a search: how many trainings there are, which of them ships, and that none is told twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.budget import Budget
from edgerec.methods.search.finalists import retrained
from edgerec.methods.search.history import DECILES, RETRAIN, SearchHistory
from edgerec.models import SizePlan, Vectors
from edgerec.training import FitResult
from tests.methods.search.conftest import MakeJob

SIZES = {side: [1.0] * DECILES for side in ("users", "items")}
KEPT = {"action": {}, "strategy": "greedy", "predicted": 0.5, "density": 0.1, "seconds": 1.0, "sizes": SIZES}


def result(plan: SizePlan, recall: float) -> FitResult:
    nothing = Vectors(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))
    metrics = {f"{name}@{k}": recall for name in ("recall", "ndcg") for k in (5, 10, 20)}
    return FitResult(nothing, plan, None, 3, metrics, [{"phase": "choose", "epoch": 1}])


@pytest.mark.parametrize("split", ["random:50/25/25", "random:80/20"])
def test_the_best_on_validation_ships(split: str, make_job: MakeJob, tmp_path: Path) -> None:
    """Only it is trained once more on all of train, where the split says so."""
    made: list[tuple[int, bool]] = []
    evals = {4: 0.2, 5: 0.4, 6: 0.3}

    def fit(plan: SizePlan, *, final: bool = True, **_: Any) -> FitResult:
        made.append((plan.d, final))
        return result(plan, evals[plan.d])

    job = replace(make_job(split=split), fit=fit)
    history = SearchHistory(tmp_path)
    for number in range(3):
        history.add({**KEPT, "iteration": number, "fitness": 0.9 - 0.1 * number})
    best = [(entry, SizePlan(4 + entry["iteration"])) for entry in history.evaluated]
    found = retrained(job, best, history)
    assert found.sizes.d == 5
    assert made == [(4, False), (5, False), (6, False), *([(5, True)] if split == "random:80/20" else [])]
    told = history.entries[3:]
    assert [(entry["strategy"], entry["eval"], entry["fitness"]) for entry in told] == [
        (RETRAIN, pytest.approx(evals[d]), None) for d in (4, 5, 6)
    ]
    assert [entry["phase"] for entry in found.history] == ["choose", *["search"] * 6]
    again = SearchHistory(tmp_path)
    assert retrained(job, best, again).history == found.history
    assert again.entries == history.entries


@pytest.mark.parametrize("better", [True, False])
def test_one_size_for_all_ships_where_validation_finds_nothing_better(
    better: bool, make_job: MakeJob, tmp_path: Path
) -> None:
    """It spends the whole budget, in sizes that differ by one at most, and the history tells of its training."""
    asked: list[SizePlan] = []

    def fit(plan: SizePlan, **_: Any) -> FitResult:
        asked.append(plan)
        return result(plan, 0.3 if plan.users is None else 0.4 if better else 0.3)

    job = replace(make_job(), fit=fit, budget=Budget.parse("30%"))
    history = SearchHistory(tmp_path)
    history.add({**KEPT, "iteration": 0, "fitness": 0.9})
    best = [(history.evaluated[0], SizePlan(5))]
    found = retrained(job, best, history, include_uniform_baseline=True)
    assert found.sizes is asked[1 if better else 0]
    assert asked[1].users is not None
    assert asked[1].items is not None
    sizes = np.concatenate([asked[1].users, asked[1].items])
    assert np.ptp(sizes) == 1
    assert sizes.sum() == job.values()
    told = history.entries[-1]
    assert (told["strategy"], told["iteration"], told["fitness"]) == (RETRAIN, 1, None)
    assert told["action"]["uniform"] == pytest.approx(sizes.mean(), abs=1e-4)
    assert told["density"] == job.values() / (sizes.size * job.d)
    again = SearchHistory(tmp_path)
    assert retrained(job, best, again, include_uniform_baseline=True).history == found.history
    assert again.entries == history.entries


def test_what_was_told_before_a_kill_is_not_told_again(make_job: MakeJob, tmp_path: Path) -> None:
    job = replace(make_job(), fit=lambda plan, **how: result(plan, 0.1 * plan.d))
    history = SearchHistory(tmp_path)
    history.add({**KEPT, "iteration": 0, "fitness": 0.9})
    best = [(history.evaluated[0], SizePlan(d)) for d in (4, 5)]
    retrained(job, best[:1], history)
    retrained(job, best, SearchHistory(tmp_path))
    assert [entry["eval"] for entry in SearchHistory(tmp_path).entries if entry["strategy"] == RETRAIN] == [
        pytest.approx(0.4),
        pytest.approx(0.5),
    ]
