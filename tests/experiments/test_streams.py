"""Streams side by side: rows add up, leads are of the means, and what is there is not made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench.experiments.streams import cells, leads, main, segment_cells
from edgerec.methods.stream.result import StreamResult
from tests.streams.test_stream_cli import write_visits
from tests.streams.test_streaming import drifting

ASKED = ["--budgets", "25%", "--methods", "uniform,popularity", "--seeds", "2", "--segments", "3"]


def asked(out: Path) -> Result:
    words = ["--data", str(out.with_name("visits.csv")), *ASKED, "--out", str(out)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = write_visits(tmp_path_factory.mktemp("streams"), drifting()) / "streams.json"
    done = asked(out)
    assert done.exit_code == 0, done.output
    return out, json.loads(out.read_text())


def test_rows_are_of_the_trained_streams(made: tuple[Path, dict[str, Any]]) -> None:
    out, figures = made
    assert figures["format"] == "edgerec.streams"
    assert [row["method"] for row in figures["rows"]] == ["uniform", "popularity"]
    for row in figures["rows"]:
        streams = [
            StreamResult.load(out.with_suffix(".work") / f"visits-full-25pc-{row['method']}-{seed}")
            for seed in range(2)
        ]
        assert row["ndcg@20"]["seeds"] == [followed.mean()["ndcg@20"] for followed in streams]
        assert row["ndcg@20"]["mean"] == pytest.approx(sum(row["ndcg@20"]["seeds"]) / 2)
        later = [segment["ndcg@20"] for segment in row["segments"][1:]]
        assert sum(later) / 2 == pytest.approx(row["ndcg@20"]["mean"])
        assert [segment["values"] for segment in row["segments"]] == [told.values for told in streams[0].segments]
        assert len(row["bundles"]) == 3
        assert all(0 < one["patch"] < one["alike"] + 512 for one in row["bundles"][1:])


def test_what_is_there_is_not_made_again(made: tuple[Path, dict[str, Any]]) -> None:
    out, figures = made
    files = {path: path.stat().st_mtime_ns for path in out.with_suffix(".work").rglob("*.npz")}
    asked(out)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert json.loads(out.read_text())["rows"] == figures["rows"]


def row(method: str, *scores: float) -> dict[str, Any]:
    found = {"seeds": list(scores), "mean": sum(scores) / len(scores), "stdev": 0.01}
    bundles = [{"bundle": 1000, "patch": 0}, {"bundle": 2048, "patch": 512}]
    segments = [{"ndcg@20": score} for score in scores]
    metrics = {"ndcg@20": found, "recall@20": found}
    return {"budget": "10%", "method": method, **metrics, "segments": segments, "bundles": bundles}


def test_leads_and_tables() -> None:
    rows = [row("uniform", 0.2, 0.2), row("scall", 0.25, 0.19)]
    (lead,) = leads(rows)
    assert lead["relative"] == pytest.approx(0.1)
    assert lead["seeds_won"] == 1
    assert cells(rows)[1] == ["10%", "scall", "0.2200 (0.0100)", "0.2200 (0.0100)", "+10.0%", "1/2", "2.0 KiB", "25%"]
    assert cells(rows)[0][4:6] == ["", ""]
    assert segment_cells(rows, "10%") == [["uniform", "0.2000", "0.2000"], ["scall", "0.2500", "0.1900"]]
    assert not leads(rows[:1])


def test_a_method_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--methods", "uniform,best", "--out", str(tmp_path / "out.json")])
    assert done.exit_code == 2
    assert "best" in done.output
