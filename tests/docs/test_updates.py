"""The page on updates: its commands and its program run, its figures are those of the results."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from bench.experiments import patch_stream, weekly
from bench.experiments.patches import cells
from edgerec.cli.app import run
from edgerec.data import synthetic
from edgerec.runtime import Recommender
from tests.docs.pages import ROOT, blocks, rows_of
from tests.patches import contents

PAGE = (ROOT / "docs" / "guide" / "updates.md").read_text()


def run_all(transcript: str) -> None:
    for line in transcript.splitlines():
        assert run(shlex.split(line.removeprefix("$ "))[1:]) == 0, line


@pytest.mark.slow
def test_the_pages_commands_and_program_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    updates, folding = blocks(PAGE, "console")
    run_all(updates)
    (tmp_path / "inbox").mkdir()
    patch = (tmp_path / "tuesday.patch").read_bytes()
    (tmp_path / "inbox" / "1.patch").write_bytes(patch[:-1])
    (tmp_path / "inbox" / "2.patch").write_bytes(patch)
    wanted = {name: Recommender.load(f"{name}.bundle").recommend(42, 3) for name in ("films", "tuesday")}
    capsys.readouterr()
    device, program = blocks(PAGE, "python")
    before = contents(tmp_path / "films.bundle")["manifest.json"]
    exec(device, {})
    assert contents(tmp_path / "films.bundle")["manifest.json"] == before
    exec(program, {})
    told = capsys.readouterr()
    assert "inbox/1.patch is damaged" in told.err
    assert told.out.splitlines() == [f"now {wanted['tuesday']}", f"again {wanted['films']}"]

    users = synthetic(300, 200, 9000).user_ids[:20].tolist()
    rows = [f"{user},{item}" for item in (5001, 5002) for user in users]
    (tmp_path / "new.csv").write_text("\n".join(["user,item", *rows]))
    (tmp_path / "runs" / "monday").rename(tmp_path / "runs" / "films")
    run_all(folding)
    assert Recommender.load("films.bundle").known([5001, 5002, 5003]) == [5001, 5002]


def test_the_figures_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "patches-100k.json").read_text())
    assert rows_of("patches", PAGE) == [cells(row) for row in result["rows"]]
    assert all(row["patch_bytes"] < 0.2 * row["full_bytes"] for row in result["rows"] if row["layout"] != "csc")
    assert result["killed"]["old"] + result["killed"]["new"] == 200
    assert sum(result["damaged"].values()) - result["damaged"]["harmless"] == 1000


def test_the_figures_of_the_stream_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "patch-stream-ml-1m.json").read_text())
    assert rows_of("patch-stream", PAGE) == [patch_stream.cells(row) for row in result["rows"]]
    assert all(row["patch_bytes"] < 0.2 * row["full_bytes"] for row in result["rows"])


def test_the_figures_of_the_weeks_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "weekly-ml-1m.json").read_text())
    assert rows_of("weekly", PAGE) == [weekly.cells(row) for row in result["rows"]]
    assert all(row["within_limit"] for row in result["rows"])
    tenth = [row for row in result["rows"] if row["week_two"] == "a tenth is other"]
    with_matrix = [row for row in tenth if row["backbone"] == "ials" and not row["users"]]
    assert all(row["of_the_whole"] < 0.2 for row in tenth if row not in with_matrix)
    assert result["older_refused"] == {"patch_applied": True, "patch": True, "bundle": True}


def test_the_soak_is_that_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "patch-soak.json").read_text())
    page = " ".join(PAGE.split())
    assert f"Each of {sum(result['requests'].values()):,} answers" in page
    assert f"through {result['patches']} patches" in page
    assert f"ended at {result['memory']['VmRSS']['ratio']:.2f} times" in page
    assert all(0.95 < one["ratio"] < 1.05 for one in result["memory"].values())
