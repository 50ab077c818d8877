"""CIESS as a method: budgets met from one search, and what it tells."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import TrainRequest, train_request
from edgerec.budget import Budget
from edgerec.data import Interactions
from edgerec.errors import BudgetError, DataError, RunError, SettingError, StorageError
from edgerec.methods.ciess.config import VARIANTS, CIESSConfig
from edgerec.methods.ciess.visits import Visits
from edgerec.methods.search.evaluator import SizeEvaluator
from edgerec.methods.search.history import FILE_NAME, read_history
from edgerec.tables import PrefixTable
from edgerec.training import FitOptions, Run, Step
from edgerec_export import export, from_run

QUICK: dict[str, Any] = {
    "episodes": 2,
    "iterations": 3,
    "batch": 64,
    "n_finalists": 3,
    "updates": 2,
    "candidate_sources": "smoothed",
}
OPTIONS = FitOptions(seed=3, threads=1, max_epochs=3)
SPLIT = "random:50/25/25"


def request(budget: str = "20%", backbone: str = "ials", split: str = SPLIT, **settings: Any) -> TrainRequest:
    return TrainRequest.make(
        backbone,
        "ciess",
        budget=budget,
        dimensions=16,
        split=split,
        settings={"alpha": 3.0, "reg": 20.0} if backbone == "ials" else None,
        method_settings={**QUICK, **settings},
        **vars(OPTIONS),
    )


def values(run: Run) -> int:
    assert run.users is not None
    return run.items.n_values + run.users.n_values


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("budget", ["20%", "10%", "1234"])
def test_the_budget_is_met_exactly(variant: str, budget: str, interactions: Interactions) -> None:
    run = train_request(
        interactions, request(budget, variant=variant, epochs=1, iterations=2, candidate_sources="projected")
    )
    assert values(run) == Budget.parse(budget).values(500, 16)
    assert run.method_settings["candidate_sources"] == "projected"
    assert isinstance(run.items, PrefixTable)
    assert 1 <= run.items.sizes().min() <= run.items.sizes().max() <= 16


def test_a_budget_in_bytes_has_few_widths_and_holds_for_the_bundle(interactions: Interactions, tmp_path: Path) -> None:
    run = train_request(interactions, replace(request("30KiB"), dimensions=64))
    assert run.users is not None
    assert max(np.unique(table.sizes()).size for table in (run.users, run.items)) <= 16
    done = export(from_run(run), tmp_path / "bundle", layout="mixed")
    assert done.nbytes <= 30 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["lightgcn", "mf", "ncf", "ngcf"])
@pytest.mark.parametrize("proxy", ["backbone", "ials"])
def test_every_backbone_is_searched(backbone: str, proxy: str, interactions: Interactions) -> None:
    run = train_request(interactions, request(backbone=backbone, proxy=proxy, epochs=1, episodes=1, retrain=1))
    assert run.method_settings["candidate_sources"] == "smoothed"
    assert values(run) == Budget.parse("20%").values(500, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "found"),
    [
        ("default", {"smoothed"}),
        ("paper", {"walk", "projected"}),
        ("authors_code", {"walk", "projected"}),  # or one of them
    ],
)
def test_each_variant_ships_its_kinds_of_sizes(
    variant: str, found: set[str], interactions: Interactions, tmp_path: Path
) -> None:
    """Visited sizes are evaluated already, as a 'walk'."""
    sources = VARIANTS[variant].candidate_sources.removesuffix(",uniform")
    settings = {"variant": variant, "epochs": 1, "retrain": 6, "candidate_sources": sources}
    run = train_request(interactions, request("60%", **settings), out=tmp_path)
    told = read_history(tmp_path / FILE_NAME)
    origin = {entry["iteration"]: entry["strategy"] for entry in told if entry["strategy"] != "retrain"}
    assert {origin[entry["iteration"]] for entry in told if entry["strategy"] == "retrain"} <= found
    assert run.method_settings["candidate_sources"].replace("visited", "walk") in found


def test_kinds_of_sizes_compete_where_several_are_asked_for(interactions: Interactions, tmp_path: Path) -> None:
    run = train_request(
        interactions, request(candidate_sources="visited, projected,proposed,uniform", retrain=3), out=tmp_path
    )
    told = read_history(tmp_path / FILE_NAME)
    kinds = {entry["iteration"]: entry["strategy"] for entry in told if entry["strategy"] != "retrain"}
    full = [entry for entry in told if entry["strategy"] == "retrain"]
    found = [kinds.get(entry["iteration"], "uniform").replace("walk", "visited") for entry in full]
    assert {"visited", "proposed", "uniform"} <= set(found)
    assert run.method_settings["candidate_sources"] == found[int(np.argmax([entry["eval"] for entry in full]))]


def test_rows_as_popular_ship_as_large(interactions: Interactions) -> None:
    """Nothing that the search has learned of single rows, but for the values that are left when sizes are rounded."""
    run = train_request(interactions, request())
    assert run.users is not None
    for table, counts in ((run.users, run.user_counts), (run.items, run.item_counts)):
        sizes = table.sizes()
        assert np.unique(sizes).size > 1
        assert all(np.ptp(sizes[np.asarray(counts) == count]) <= 1 for count in np.unique(counts))


def test_one_size_for_all_ships_where_nothing_better_was_found(interactions: Interactions, tmp_path: Path) -> None:
    """A search of one visit has found nothing yet."""
    run = train_request(
        interactions, request(episodes=1, iterations=1, candidate_sources="smoothed,uniform"), out=tmp_path
    )
    full = [entry for entry in read_history(tmp_path / FILE_NAME) if entry["strategy"] == "retrain"]
    assert max(full, key=lambda entry: entry["eval"]) == full[-1]
    assert run.method_settings["candidate_sources"] == "uniform"
    assert run.users is not None
    sizes = np.concatenate([run.users.sizes(), run.items.sizes()])
    assert np.ptp(sizes) == 1
    assert sizes.mean() == pytest.approx(full[-1]["action"]["uniform"], abs=1e-4)
    assert values(run) == Budget.parse("20%").values(500, 16)
    # What a run tells of itself makes the same again, without a search.
    again = train_request(interactions, request(**run.method_settings))
    assert np.array_equal(again.items.dense(), run.items.dense())


def test_visited_sizes_ship_as_they_are(interactions: Interactions, tmp_path: Path) -> None:
    """Where they spend the budget and no more, in the paper's sense."""
    shared = {"budgets": "40%", "search": str(tmp_path / "searches")}
    train_request(interactions, request(**shared), out=tmp_path / "run")
    (path,) = (tmp_path / "searches").iterdir()
    visited = [np.load(path)[f"sizes.{side}"].astype(int) for side in ("users", "items")]
    spent = int(visited[0][0].sum() + visited[1][0].sum())
    run = train_request(interactions, request(str(spent + 20), candidate_sources="visited", **shared))
    assert run.users is not None
    shipped = [
        np.array_equal(users, run.users.sizes()) and np.array_equal(items, run.items.sizes())
        for users, items in zip(*visited, strict=True)
    ]
    assert sum(shipped) == 1
    assert 0.9 * (spent + 20) <= values(run) <= spent + 20
    with pytest.raises(BudgetError, match="candidate_sources"):
        train_request(interactions, request("97%", candidate_sources="visited", **shared))


@pytest.mark.slow
def test_one_search_serves_three_budgets(
    interactions: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    evaluator = SizeEvaluator.each

    def counting(self: SizeEvaluator, plans: Any) -> Any:
        asked.append(len(plans))
        return evaluator(self, plans)

    monkeypatch.setattr(SizeEvaluator, "each", counting)
    shared = {"search": str(tmp_path / "searches"), "budgets": "20%,10%,5%"}
    alone = {
        budget: train_request(interactions, request(budget, budgets=shared["budgets"])) for budget in ("20%", "10%")
    }
    asked.clear()
    n_finalists = []
    for budget in ("10%", "20%", "7%"):
        run = train_request(interactions, request(budget, **shared), out=tmp_path / budget.strip("%"))
        n_finalists.append(asked[-1])
        told = read_history(tmp_path / budget.strip("%") / FILE_NAME)
        assert [entry["strategy"] for entry in told[:6]] == ["walk"] * 6
        assert abs(values(run) - Budget.parse(budget).values(500, 16)) <= 0.1 * values(run)
        if budget in alone:  # the same as where nothing was there
            assert np.array_equal(run.items.dense(), alone[budget].items.dense())
            assert run.metrics == alone[budget].metrics
    assert sum(asked) == 6 + sum(n_finalists)
    assert len(list((tmp_path / "searches").iterdir())) == 1
    # Another seed is another search, beside the first.
    train_request(interactions, replace(request("10%", **shared), options=replace(OPTIONS, seed=4)))
    assert len(list((tmp_path / "searches").iterdir())) == 2


def test_a_folder_of_searches_that_cannot_be_written_is_told_before_the_search(
    interactions: Interactions, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    steps: list[Step] = []
    with pytest.raises(StorageError, match=r"cannot write .*file/searches: Not a directory"):
        train_request(interactions, request(search=str(tmp_path / "file" / "searches")), progress=steps.append)
    assert {step.phase for step in steps} <= {"full"}


def test_many_sizes_are_visited(interactions: Interactions, tmp_path: Path) -> None:
    train_request(interactions, request(cost=0.1), out=tmp_path)
    visits = np.load(tmp_path / "visited.npz")
    for side in ("users", "items"):
        assert np.unique(visits[f"sizes.{side}"]).size > 12
    train_request(interactions, TrainRequest.make("ials", "uniform", budget="20%"), out=tmp_path, overwrite=True)
    assert not (tmp_path / "visited.npz").exists()


@pytest.mark.slow
def test_walk_and_noise_change_the_search(interactions: Interactions, tmp_path: Path) -> None:
    """With the same seed: other sizes from the first visit on, all of them sizes."""
    firsts = []
    for number, settings in enumerate(({}, {"walk": False}, {"noise": "ou"}, {"noise": "uniform"})):
        out = tmp_path / str(number)
        train_request(interactions, request(**settings), out=out)
        sizes = np.load(out / "visited.npz")["sizes.users"]
        assert sizes.min() >= 1
        assert sizes.max() <= 16
        firsts.append(sizes[0].tobytes())
    assert len(set(firsts)) == 4


def test_the_history_tells_of_every_judgement(interactions: Interactions, tmp_path: Path) -> None:
    steps: list[Step] = []
    run = train_request(interactions, request(), out=tmp_path, progress=steps.append)
    told = read_history(tmp_path / FILE_NAME)
    evaluation = [entry for entry in told if entry["strategy"] != "retrain"]
    assert len(evaluation) == 6 + sum(entry["strategy"] != "walk" for entry in evaluation)
    assert len(told) - len(evaluation) == 3
    for entry in evaluation:
        assert 0 < entry["density"] <= 1
        assert 0 <= entry["quality"] <= 1
        for side in ("users", "items"):
            quantiles = entry["action"]["quantiles"][side]
            assert quantiles == sorted(quantiles)
            assert len(quantiles) == 5
            assert len(entry["sizes"][side]) == 10
        json.dumps(entry, allow_nan=False)
    n_finalists = [entry for entry in evaluation if entry["strategy"] == "smoothed"]
    assert n_finalists
    assert all(math.isclose(entry["density"], 0.2) for entry in n_finalists)
    searched = [step for step in steps if step.phase == "search"]
    bests = [step.values["best"] for step in searched]
    assert bests == sorted(bests)
    assert searched[-1].epoch == searched[-1].max_epochs == len(evaluation)
    within = [entry["fitness"] for entry in evaluation if entry["within"]]
    assert bests[-1] == max(within)
    assert [entry["phase"] for entry in run.history].count("search") == len(told)


def test_visits_are_read_as_they_were_written(interactions: Interactions, tmp_path: Path) -> None:
    train_request(interactions, request(search=str(tmp_path)))
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        key = json.loads(arrays["about"].tobytes())["key"]
    visits = Visits.load(path, key)
    assert len(visits) == 6
    assert visits.densities() == pytest.approx([entry["density"] for entry in visits.entries])
    with pytest.raises(RunError, match="another search"):
        Visits.load(path, {**key, "seed": 99})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match="damaged"):
        Visits.load(path, key)


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": "pink"},
        {"ranked_by": "luck"},
        {"candidate_sources": "nothing"},
        {"candidate_sources": "smoothed,"},
        {"episodes": 0},
        {"cost": -1.0},
        {"episodes": 3, "parallel_episodes": 2},
        {"proxy": "svd"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        CIESSConfig(**wrong)


def test_budgets_are_shares() -> None:
    assert CIESSConfig(budgets="20%, 5%").shares() == (0.2, 0.05)
    for wrong in ("512KiB", "20%,many"):
        with pytest.raises(BudgetError):
            CIESSConfig(budgets=wrong)


def test_nothing_to_judge_by_is_refused(interactions: Interactions) -> None:
    few = Interactions.from_pairs(np.arange(40) % 8, np.arange(40) // 8)
    with pytest.raises(DataError):
        train_request(few, request("50%", split="leave-last-out", backbone="ials"))
    with pytest.raises(BudgetError, match="smallest"):
        train_request(interactions, request("1%"))
