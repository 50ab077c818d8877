"""The papers' protocol: what is printed beside ours, the cells, what is made of them, and a trial from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgerec.cli.app import run
from edgerec.errors import BenchError, EdgeRecError, RequestError, SettingError
from edgerec.methods import METHODS
from edgerec_bench import reproduce
from edgerec_bench.reproduce import (
    BUDGETS,
    COMPARED,
    METRICS,
    PAPERS,
    ReproductionPlan,
    for_searches,
    outcome,
    published,
    shown,
    verdicts,
)

SMALL = "synthetic:60x50x1200"


def test_published_figures_are_those_of_the_papers() -> None:
    """Cells at the corners of the tables, and those that stand in another order there."""
    ciess, bet = published("ciess", "ml-1m", "lightgcn"), published("bet", "gowalla", "lightgcn")
    assert ciess["20%", "ciess"] == {"recall@5": 0.0920, "recall@20": 0.2436, "ndcg@5": 0.4854, "ndcg@20": 0.4257}
    assert bet["10%", "bet"] == {"recall@5": 0.0736, "recall@20": 0.1620, "ndcg@5": 0.1212, "ndcg@20": 0.1376}
    assert published("ciess", "yelp2018", "ncf")["5%", "random"]["ndcg@20"] == 0.0216
    assert published("bet", "gowalla", "ngcf")["5%", "bet"]["ndcg@20"] == 0.0998  # printed as .9980
    assert published("bet", "yelp2018", "lightgcn")["5%", "ciess"]["recall@20"] == 0.0657  # printed as .6570
    assert published("bet", "ml-1m", "lightgcn") == published("ciess", "ml-1m", "mf") == {}


@pytest.mark.parametrize("backbone", ["lightgcn", "ngcf", "ncf"])
@pytest.mark.parametrize(
    ("paper", "data"), [("ciess", "ml-1m"), ("ciess", "yelp2018"), ("bet", "gowalla"), ("bet", "yelp2018")]
)
def test_published_tables_are_whole(paper: str, data: str, backbone: str) -> None:
    table = published(paper, data, backbone)
    methods = ("pep", "uniform", "random", "ciess", *(["bet"] if paper == "bet" else []))
    assert set(table) == {(budget, name) for budget in BUDGETS for name in methods}
    for figures in table.values():
        assert set(figures) == set(METRICS)
        assert 0 < figures["recall@5"] < figures["recall@20"] < 0.3


def test_both_papers_share_uniform_and_random_on_yelp() -> None:
    one, other = (published(paper, "yelp2018", "lightgcn") for paper in PAPERS)
    for key in ((budget, name) for budget in BUDGETS for name in ("uniform", "random")):
        assert one[key] == other[key]


def test_the_plan_is_the_papers() -> None:
    settings = for_searches(COMPARED, "lightgcn", {"proxy": "ials", "retrain": 2, "episodes": None})
    cells, notes = ReproductionPlan("ciess", SMALL, method_settings=settings).plan().cells()
    assert not notes
    assert len(cells) == len(COMPARED) * 3 * 3
    assert {cell.budget for cell in cells} == set(BUDGETS)
    assert {cell.seed for cell in cells} == {0, 1, 2}
    assert {cell.shared.split for cell in cells} == {"random:50+25/25"}
    assert {cell.shared.dimensions for cell in cells} == {128}
    (bet,) = {json.dumps(cell.method_settings) for cell in cells if cell.method == "bet"}
    assert json.loads(bet) == {"proxy": "ials", "retrain": 2}
    assert all(not cell.method_settings for cell in cells if cell.method == "uniform")


def test_settings_go_to_the_searches_that_know_them() -> None:
    found = for_searches(("uniform", "bet"), "mf", {"candidates": 5, "proxy": "ials"})
    assert found == {"bet": {"candidates": 5, "proxy": "ials"}}
    with pytest.raises(BenchError, match="none of the methods uniform, bet has a setting episodes"):
        for_searches(("uniform", "bet"), "mf", {"episodes": 5})


@pytest.fixture
def named_ml_1m(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever data are asked for have MovieLens-1M's name, by which the papers' figures are found."""
    monkeypatch.setattr(reproduce, "load_data", lambda data, **how: SimpleNamespace(name="ml-1m"))


def row(name: str, budget: str | None, seed: int, recall: float, ndcg: float, differs: float = 0.0) -> dict[str, Any]:
    run = {"recall@5": recall / 2, "recall@20": recall, "ndcg@5": ndcg, "ndcg@20": ndcg}
    return {
        "cell": {"method": name, "budget": budget, "seed": seed},
        "metrics": {"run": run, "bundle": {"ndcg@20": ndcg + differs}},
        "epochs": 3,
        "bundle_bytes": 1000,
    }


@pytest.mark.usefixtures("named_ml_1m")
def test_means_spreads_and_ratios() -> None:
    rows = [row("uniform", "20%", 1, 0.24, 0.40), row("uniform", "20%", 0, 0.22, 0.40)]
    rows += [row("bet", "20%", seed, 0.24, 0.39, differs=5e-4) for seed in (0, 1)]
    own = {"ciess": {"search": "here.searches", "episodes": 2}}
    found = outcome(ReproductionPlan("ciess", "any", methods=("uniform", "bet"), method_settings=own), rows)
    assert found["method_settings"] == {"ciess": {"episodes": 2}}
    uniform, bet = found["rows"]
    assert uniform["recall@20"]["seeds"] == [0.22, 0.24]
    assert uniform["recall@20"]["mean"] == pytest.approx(0.23)
    assert uniform["recall@20"]["stdev"] == pytest.approx(0.0141421, rel=1e-4)
    assert uniform["of_published"]["recall@20"] == pytest.approx(0.23 / 0.2248)
    assert bet["published"] is None  # CIESS's paper is older
    assert bet["bundle_ndcg_differs_by"] == pytest.approx(5e-4)
    columns, cells = shown(found["rows"])
    assert all(len(line) == len(columns) for line in cells)
    assert cells[0][:3] == ["20%", "uniform", "0.1150 (0.0071)"]
    assert "0.2248" in cells[0]
    said = verdicts(found["rows"])
    assert "2 of 2 figures are within 3 % of the paper's or above" in said
    assert "bet is above uniform in 1 of 2 figures" in said
    assert any("0.0005" in line for line in said)


@pytest.mark.usefixtures("named_ml_1m")
def test_rows_before_their_cut_are_what_the_paper_counts() -> None:
    rows = [row("uniform", "20%", 0, 0.2, 0.3), row("random", "20%", 0, 0.1, 0.2)]
    for one in rows:
        one["metrics"]["uncut"] = {name: value + 0.1 for name, value in one["metrics"]["run"].items()}
    uniform, random = outcome(ReproductionPlan("ciess", "any", methods=("uniform", "random")), rows)["rows"]
    assert uniform["recall@20"]["mean"] == 0.2
    assert uniform["uncut"]["recall@20"]["mean"] == pytest.approx(0.3)
    assert uniform["of_published"]["recall@20"] == pytest.approx(0.3 / 0.2248)
    columns, cells = shown([uniform, {**random, "uncut": None}])
    assert cells[0][columns.index("R@20 untruncated")] == "0.3000"
    assert cells[1][columns.index("R@20 untruncated")] == "-"
    assert all(len(line) == len(columns) for line in cells)


@pytest.mark.usefixtures("named_ml_1m")
def test_full_rows_are_told_once_and_compared_with_nothing() -> None:
    rows = [row("uniform", "20%", 0, 0.2, 0.3), row("dense", None, 0, 0.3, 0.4)]
    dense, uniform = outcome(ReproductionPlan("ciess", "any", methods=("dense", "uniform")), rows)["rows"]
    assert (dense["budget"], dense["method"], dense["ndcg@20"]["mean"]) == ("full", "dense", 0.4)
    assert dense["published"] is None
    assert uniform["budget"] == "20%"
    assert not any("dense" in line for line in verdicts([dense, uniform]))


@pytest.mark.slow
@pytest.mark.parametrize(("paper", "methods"), [("bet", ("uniform", "bet")), ("ciess", ("random", "ciess"))])
def test_a_trial_from_end_to_end(
    paper: str,
    methods: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of each paper, with two methods; what is there is not made again."""
    monkeypatch.chdir(tmp_path)
    words = ["reproduce", paper, "--quick", "--data", SMALL, "--budget", "20.0%", "--out", "r.json"]
    words += [word for method in methods for word in ("--method", method)]
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    stored = json.loads((tmp_path / "r.json").read_text())
    assert {name: stored[name] for name in told} == told
    assert stored["format"] == "edgerec.reproduce"
    assert "--quick" in stored["command"]
    assert str(tmp_path) not in (tmp_path / "r.json").read_text()
    assert [(line["budget"], line["method"]) for line in told["rows"]] == [("20%", method) for method in methods]
    assert all(line["bundle_ndcg_differs_by"] < 1e-3 for line in told["rows"])
    rows = (tmp_path / "r.jsonl").read_bytes()
    attempts = (tmp_path / "r.timings.jsonl").read_bytes()
    assert run(words) == 0
    shown = capsys.readouterr()
    assert "R@20" in shown.out
    assert "the paper prints no figures for these data" in shown.err
    assert (tmp_path / "r.jsonl").read_bytes() == rows
    assert (tmp_path / "r.timings.jsonl").read_bytes() == attempts
    assert bool(list(tmp_path.glob("r.searches/*"))) == ("ciess" in methods)


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["--out", "page.html"], RequestError, r"page\.json"),
        (["--method-set", "iterations=3"], RequestError, r"METHOD\.NAME=VALUE"),
        (["--method-set", "svd.iterations=3"], RequestError, r"METHOD\.NAME=VALUE"),
        (["--method-set", "bet.speed=3"], SettingError, "no setting speed"),
        (["--proxy", "delphi"], SettingError, "proxy must be one of"),
        (["--method", "no such"], EdgeRecError, "no method"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    words: list[str], kind: type[EdgeRecError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=said):
        run(["reproduce", "bet", "--quick", *words])
    assert not list(tmp_path.glob("*.json"))


def test_compared_are_those_that_there_are() -> None:
    assert {"uniform", "random", "bet"} <= set(COMPARED) <= set(METHODS)
