"""`edgerec stream` as a person uses it: the page, runs that export and differ by a patch, errors of one line."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from edgerec.data import Interactions
from edgerec.methods.stream.result import StreamResult
from tests.bench.test_report import read
from tests.conftest import CommandLine
from tests.streams.test_streaming import drifting

ASKED = ("--method", "popularity", "--budget", "25%", "--dimensions", "8", "--segments", "3", "--threads", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of interactions with timestamps."""
    return write_visits(tmp_path_factory.mktemp("streams"), drifting())


def write_visits(folder: Path, data: Interactions) -> Path:
    """The folder, with `visits.csv` of the interactions in it."""
    assert data.timestamps is not None
    pairs = zip(data.user_ids[data.user_rows()], data.item_ids[data.indices], data.timestamps, strict=True)
    lines = ["user,item,timestamp", *(f"{user},{item},{time}" for user, item, time in pairs)]
    (folder / "visits.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(place: Path, command_line: CommandLine) -> subprocess.CompletedProcess[str]:
    return command_line("stream", "visits.csv", *ASKED, "--out", "stream", cwd=place)


@pytest.mark.slow
def test_a_stream_is_shown_in_a_table_a_page_and_json(
    place: Path, made: subprocess.CompletedProcess[str], command_line: CommandLine
) -> None:
    assert made.returncode == 0, made.stderr
    followed = StreamResult.load(place / "stream")
    assert f"ndcg@20 {followed.mean()['ndcg@20']:.4f}" in made.stdout
    page = read(place / "stream" / "stream.html")
    assert not page.outside
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert page.tags >= {"svg", "table"}
    for told in followed.segments:
        assert f"{told.metrics['ndcg@20']:.4f}" in page.text
        assert f"{told.values:,}" in page.text
    again = command_line("stream", "visits.csv", *ASKED, "--out", "stream", "--resume", "--json", cwd=place)
    assert json.loads(again.stdout) == {"out": "stream", **json.loads((place / "stream/stream.json").read_text())}


@pytest.mark.slow
def test_streams_stand_side_by_side(
    place: Path, made: subprocess.CompletedProcess[str], command_line: CommandLine
) -> None:
    assert made.returncode == 0, made.stderr
    shutil.copytree(place / "stream", place / "other", dirs_exist_ok=True)
    done = command_line("report", "stream", "other", "--out", "both.html", cwd=place)
    assert done.returncode == 0, done.stderr
    text = read(place / "both.html").text
    assert "stream" in text
    assert "other" in text
    refused = command_line("report", "stream", "stream/segment-00", "--out", "mixed.html", cwd=place)
    assert refused.returncode == 2
    assert "give streams only" in refused.stderr


@pytest.mark.slow
def test_segments_export_and_differ_by_a_patch(
    place: Path, made: subprocess.CompletedProcess[str], command_line: CommandLine
) -> None:
    asked = ("--precision", "int8", "--data", "visits.csv", "--no-verify")
    old = command_line("export", "stream/segment-01", "--out", "old", *asked, cwd=place)
    assert "ndcg@20" in old.stdout.lower()
    new = command_line("export", "stream/segment-02", "--out", "new", "--like", "old", cwd=place)
    assert new.returncode == 0, new.stderr
    patch = command_line("diff", "old", "new", "--out", "patch", "--json", cwd=place)
    _, before, after = (told.rows for told in StreamResult.load(place / "stream").segments)
    for side in ("user", "item"):
        inserted = json.loads(patch.stdout)["changes"][side]["inserted"]
        assert inserted == after[f"{side}s"] - before[f"{side}s"] > 0


@pytest.mark.slow
def test_what_is_wrong_is_one_line_with_status_2(place: Path, command_line: CommandLine) -> None:
    for wrong, told in (
        (("visits.csv", *ASKED, "--segments", "weekly"), "days:30"),
        (("visits.csv", *ASKED, "--budget", "1%"), "the smallest budget is"),
        (("visits.csv", *ASKED, "--set", "alpha=0"), "alpha must be in"),
    ):
        refused = command_line("stream", *wrong, "--out", "refused", cwd=place)
        assert refused.returncode == 2
        assert told in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
        assert not (place / "refused").exists()
