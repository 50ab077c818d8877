"""The table of sparse methods: as many trials for each, chosen on validation, and a lead that is counted as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.experiments import sparse_quality
from bench.experiments.sparse_quality import (
    METHODS,
    REDUCED,
    QualityComparison,
    Reduced,
    leads,
    measured,
    reduced,
    trials,
)
from edgerec_bench.grid.rows import read_rows


def test_every_method_has_as_many_trials_and_the_same_epochs() -> None:
    wanted = {
        ("ml-1m", "mf"): (16, 4),
        ("gowalla", "mf"): (16, 5),
        ("ml-1m", "lightgcn"): (30, 3),
        ("gowalla", "lightgcn"): (12, 4),
    }
    for (data, backbone), (epochs, number) in wanted.items():
        tried = {method: trials(data, backbone, method) for method in METHODS}
        assert {len(those) for those in tried.values()} == {number}
        assert {tuple(trial.settings["l2"] for trial in those) for those in tried.values()} == {
            reduced(data, backbone).l2
        }
        plans = [sparse_quality.plan(data, backbone, name, those[0], ["10%"], [0], 64) for name, those in tried.items()]
        assert {plan.shared.epochs for plan in plans} == {epochs}


def test_a_setting_of_one_method_goes_into_each_of_its_trials() -> None:
    had = trials("ml-1m", "mf", "pep")
    more = trials("ml-1m", "mf", "pep", {"threshold": -4.0})
    assert [trial.settings for trial in more] == [trial.settings for trial in had]
    assert [trial.method_settings for trial in more] == [{**had[0].method_settings, "threshold": -4.0}] * len(had)


def row(method: str, *values: float, budget: str = "10%") -> dict[str, Any]:
    mean = sum(values) / len(values)
    stdev = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    ndcg = {"seeds": list(values), "mean": mean, "stdev": stdev}
    return {"data": "films", "backbone": "mf", "budget": budget, "method": method, "ndcg@20": ndcg}


def test_a_lead_counts_where_it_is_more_than_the_spread() -> None:
    clear, close = leads(
        [
            row("uniform", 0.30, 0.31, 0.32),
            row("set", 0.10, 0.10, 0.10),
            row("sparserec", 0.40, 0.41, 0.42),
            row("uniform", 0.30, 0.31, 0.32, budget="5%"),
            row("sparserec", 0.29, 0.32, 0.335, budget="5%"),
        ]
    )
    assert (clear["best_other"], clear["ahead"], clear["seeds_won"]) == ("uniform", True, 3)
    assert clear["lead"] == pytest.approx(0.1)
    assert clear["relative"] == pytest.approx(0.1 / 0.31)
    assert (close["ahead"], close["seeds_won"]) == (False, 2)
    assert close["lead"] > 0


def test_the_best_trial_on_validation_is_kept_and_the_table_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second trial learns nothing: decay takes all away."""
    monkeypatch.setitem(REDUCED, "mf", Reduced(2, {}, -8.0, l2=(0.001, 1000.0)))
    grid = tmp_path / "cells.jsonl"
    comparison = QualityComparison(("synthetic:80x50x1500",), ("mf",), ("uniform",), ("10%",), 1, 16, 2, grid)
    rows, tuned = measured(comparison)
    (told,) = tuned.values()
    assert [trial["l2"] for trial in told] == [0.001, 1000.0]
    assert told[0]["ndcg@20"] > told[1]["ndcg@20"]
    assert rows[0]["settings"] == {"l2": 0.001}
    before = grid.read_bytes()
    assert len(read_rows(grid)) == 2
    again, _ = measured(comparison)
    assert again == rows
    assert grid.read_bytes() == before
