"""Experiments on searches: how well proxies and a predictor rank, overfitting, and the time of BET's parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.experiments.predictor import main as predictor
from bench.experiments.proxy_ranking import _correlations
from bench.experiments.proxy_ranking import main as proxy_ranking
from bench.experiments.search_proxies import main as search_proxies
from bench.experiments.search_speed import main as search_speed
from bench.experiments.search_updates import main as search_updates
from bench.experiments.svd_search import main as svd_search
from bench.experiments.validation_overfitting import main as validation_overfitting


@pytest.mark.slow
def test_every_pair_of_evaluators_is_compared(tmp_path: Path) -> None:
    words = "synthetic:80x60x2000 --backbone mf --dimensions 16 --budget 25% --actions 6 --epochs 1 --full --out"
    done = CliRunner().invoke(proxy_ranking, [*words.split(), str(tmp_path / "oracle.json")], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "oracle.json").read_text())
    assert [(pair["of"], pair["with"]) for pair in found["correlations"]] == [
        ("ials", "fine-tuned"),
        ("ials", "in full"),
        ("fine-tuned", "in full"),
    ]
    assert all(len(judge["eval"]) == len(found["actions"]) == 6 for judge in found["judges"].values())
    assert all(-1 <= pair["all"] <= 1 for pair in found["correlations"])
    assert found["format"] == "edgerec.oracle"
    assert found["command"].startswith("python -m bench.experiments.proxy_ranking synthetic:80x60x2000 --backbone mf")


def test_powers_are_drawn_in_their_place(tmp_path: Path) -> None:
    words = "synthetic:80x60x2000 --backbone mf --dimensions 16 --budget 25% --draw powers --actions 4 --epochs 1 --out"
    done = CliRunner().invoke(proxy_ranking, [*words.split(), str(tmp_path / "oracle.json")], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "oracle.json").read_text())
    assert "--draw powers --actions 4" in found["command"]
    assert len({tuple(action["powers"]) for action in found["actions"]}) == 4
    assert len(set(found["judges"]["ials"]["eval"])) == 4


def test_correlations_are_of_all_and_of_the_better_half() -> None:
    expensive = np.arange(10.0)
    cheap = expensive.copy()
    cheap[5:] = cheap[5:][::-1]  # the better half upside down
    found = _correlations(cheap.tolist(), expensive.tolist())
    assert found["better_half"] == pytest.approx(-1)
    assert 0 < found["all"] < 1
    assert found["place_of_best"] == 5


def test_parts_are_timed(tmp_path: Path) -> None:
    words = ["--users", "50", "--items", "60", "--dimensions", "16", "--candidates", "3", "--out"]
    done = CliRunner().invoke(search_speed, [*words, str(tmp_path / "s.json")], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["rows"] == 110
    assert found["scoring_s"] == pytest.approx(found["seconds"]["counting"] + found["seconds"]["predicting"])
    assert "--candidates 3" in found["command"]


@pytest.mark.slow
def test_protocols_are_compared_on_actions_that_no_search_has_seen(tmp_path: Path) -> None:
    words = "synthetic:80x60x2000 --dimensions 16 --budget 25% --iterations 6 --unseen 8 --seeds 2 --out"
    done = CliRunner().invoke(predictor, [*words.split(), str(tmp_path / "p.json")], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "p.json").read_text())
    own, paper = found["rows"]
    assert (own["protocol"], paper["protocol"]) == ("default", "paper")
    assert own["best_blind"] == paper["best_blind"]  # the same draws, judged once
    assert own["correlation"]["seeds"] != paper["correlation"]["seeds"]
    assert all(-1 <= value <= 1 for row in found["rows"] for value in row["correlation"]["seeds"])
    assert "--unseen 8 --seeds 2" in found["command"]


@pytest.mark.slow
def test_searches_are_compared_by_proxy_and_resume(tmp_path: Path) -> None:
    words = "synthetic:80x60x2000 --backbone mf --dimensions 16 --budget 25% --iterations 3 --retrain 1 --epochs 2"
    words += f" --seeds 2 --work {tmp_path / 'work'} --out"
    found = []
    for name in ("first.json", "again.json"):
        done = CliRunner().invoke(search_proxies, [*words.split(), str(tmp_path / name)], catch_exceptions=False)
        assert done.exit_code == 0
        found.append(json.loads((tmp_path / name).read_text()))
    first, again = found
    assert [row["oracle"] for row in first["rows"]] == ["ials", "backbone"]
    assert first["rows"] == again["rows"]  # seconds too: nothing was searched again
    for row in first["rows"]:
        assert len(row["ndcg@20"]["seeds"]) == 2
        assert all(
            0 < part <= whole for part, whole in zip(row["search_s"]["seeds"], row["seconds"]["seeds"], strict=True)
        )
    judged = [
        [json.loads(line) for line in (tmp_path / "work" / f"{oracle}-0" / "search.jsonl").read_text().splitlines()]
        for oracle in ("ials", "backbone")
    ]
    assert [entry["eval"] for entry in judged[0]] != [entry["eval"] for entry in judged[1]]


@pytest.mark.slow
def test_searched_sizes_are_evaluated_on_unseen_interactions(tmp_path: Path) -> None:
    words = "synthetic:80x60x2000 --dimensions 16 --budget 25% --iterations 3 --episodes 1 --seeds 1 --note quiet --out"
    done = CliRunner().invoke(
        validation_overfitting, [*words.split(), str(tmp_path / "h.json")], catch_exceptions=False
    )
    assert done.exit_code == 0
    found = json.loads((tmp_path / "h.json").read_text())
    assert [row["sizes"] for row in found["rows"]] == [
        "uniform",
        "bet",
        "ciess, apart=false",
        "ciess, row by row",
        "ciess",
    ]
    for row in found["rows"]:
        assert all(0 < value < 2 for part in ("validation", "test") for value in row[part]["seeds"])
        assert row["validation"]["seeds"] != row["test"]["seeds"]
    uniform, bet, *_ = (row["validation"]["seeds"] for row in found["rows"])
    assert bet != uniform
    assert found["note"] == "quiet"


@pytest.mark.slow
def test_the_search_on_the_svd_is_compared_with_rules_and_fits(tmp_path: Path) -> None:
    words = "--data synthetic:80x60x2000 --sizes 4 --seeds 1 --dimensions 16 --set actions=6 --set users=40 --out"
    done = CliRunner().invoke(svd_search, [*words.split(), str(tmp_path / "s.json")], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "s.json").read_text())
    names = ["bet", "uniform int8", "uniform int4", "uniform int2", "popularity int4", "fitted"]
    assert [row["tables"] for row in found["rows"]] == names
    bet, *_, fitted = found["rows"]
    assert fitted["bytes"]["mean"] <= bet["bytes"]["mean"]
    assert sum(width * bits * n for width, bits, n in bet["rows"][0]) <= 8 * 4 * 60
    ((low, high),) = fitted["intervals"]
    assert low <= fitted["difference"]["mean"] <= high


@pytest.mark.slow
def test_steps_of_agents_are_compared(tmp_path: Path) -> None:
    words = "--data synthetic:80x60x2000 --dimensions 16 --budget 25% --updates 0,2 --episodes 1 --seeds 1 --out"
    done = CliRunner().invoke(search_updates, [*words.split(), str(tmp_path / "u.json")], catch_exceptions=False)
    assert done.exit_code == 0
    rows = json.loads((tmp_path / "u.json").read_text())["rows"]
    assert [row["updates"] for row in rows] == ["0", "2"]
    assert all(0.5 < row[part]["mean"] < 1.5 for row in rows for part in ("validation", "test"))
