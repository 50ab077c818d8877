"""The pages of streams: their code runs, their figures are those of the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.experiments.stream_hindsight import cells as hindsight_cells
from bench.experiments.streams import cells, segment_cells
from edgerec.methods.stream.result import StreamResult
from tests.docs.pages import ROOT, blocks, rows_of
from tests.streams.test_stream_cli import write_visits
from tests.streams.test_streaming import drifting

GUIDE = (ROOT / "docs" / "guide" / "streams.md").read_text()
PAGE = (ROOT / "docs" / "research" / "streams.md").read_text()


def result(name: str) -> dict[str, Any]:
    """A committed result."""
    found: dict[str, Any] = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())
    return found


RESULTS = sorted((ROOT / "bench" / "results").glob("streams-*.json"))


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_visits(tmp_path, drifting())
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(GUIDE, "python")
    exec(code.replace("ml-100k", "visits.csv").replace('"8"', '"3"'), {})
    assert StreamResult.load(tmp_path / "streams" / "films").done


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_its_tables_are_those_of_the_result(path: Path) -> None:
    rows = json.loads(path.read_text())["rows"]
    assert rows_of(path.stem, PAGE) == cells(rows)
    if f"<!-- {path.stem}-segments -->" in PAGE:
        assert rows_of(f"{path.stem}-segments", PAGE) == segment_cells(rows, rows[0]["budget"])


def test_the_figures_of_hindsight_are_those_of_the_results() -> None:
    expected = [hindsight_cells(name, result(f"stream-hindsight-{name}")) for name in ("ml-100k", "ml-1m")]
    assert rows_of("stream-hindsight", PAGE) == expected


def test_scall_is_ahead_of_uniform_in_all_four_cases() -> None:
    leads = [lead for name in ("ml-100k", "ml-1m") for lead in result(f"streams-{name}")["leads"]]
    assert [lead["method"] for lead in leads] == ["scall"] * 4
    assert all(lead["relative"] > 0 for lead in leads)
