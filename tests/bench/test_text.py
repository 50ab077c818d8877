"""Results and comparisons as Markdown and CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgerec.cli.app import group
from edgerec.errors import BenchError
from edgerec_bench import Result, write_results
from edgerec_bench.reports.text import report_text


def test_csv_has_plain_numbers(everything: Result, tmp_path: Path) -> None:
    write_results(tmp_path / "r.json", [everything])
    done = CliRunner().invoke(group, ["report", str(tmp_path / "r.json"), "--format", "csv"])
    assert done.exit_code == 0, done.output
    head, *rows = list(csv.reader(done.stdout.splitlines()))
    assert head == ["group", "figure", everything.bundle.name]
    figures = {(group, figure): float(value) for group, figure, value in rows if value}
    assert figures["Bytes", "bundle"] == everything.bundle.nbytes
    assert figures["Milliseconds a call, warm", "lookup p50"] == everything.measured.latency("lookup")
    assert figures["Sustained load", "speed at the end"] > 0


def test_markdown_has_the_pages_figures_and_doubts(results: list[Result], tmp_path: Path) -> None:
    write_results(tmp_path / "r.json", results)
    out = tmp_path / "r.md"
    done = CliRunner().invoke(group, ["report", str(tmp_path / "r.json"), "--format", "markdown", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"wrote {out}" in " ".join(done.stderr.split())
    text = out.read_text()
    assert "### Milliseconds a call, warm\n\n|  | dense.bundle | mixed.bundle |\n|---|---|---|\n" in text
    assert all(f"- {warning}\n" in text for result in results for warning in result.warnings)


def test_changes_are_written_too(results: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_results(path, results[:1])
    words = ["compare", str(path), str(path), "--format"]
    table = CliRunner().invoke(group, [*words, "markdown"]).stdout
    assert table.startswith("### dense.bundle\n\n|  | base | new | ratio | 95 % interval | verdict |")
    rows = list(csv.DictReader(CliRunner().invoke(group, [*words, "csv"]).stdout.splitlines()))
    by_figure = {row["figure"]: row for row in rows}
    assert by_figure["bytes"]["unit"] == "bytes"
    assert float(by_figure["p50"]["ratio"]) == 1.0
    assert by_figure["p50"]["unit"] == "ms"


def test_other_kinds_have_no_text(results: list[Result]) -> None:
    with pytest.raises(BenchError, match="--format html"):
        report_text([], "csv")
