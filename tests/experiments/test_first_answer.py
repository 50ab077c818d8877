"""The time of a page's first answer: one round in Chromium, and the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments.first_answer import STEPS, main
from tests.devices.web import need

RESULT = Path(__file__).parents[2] / "bench" / "results" / "first-answer.json"


@pytest.mark.slow
def test_both_libraries_answer_in_a_page(tmp_path: Path) -> None:
    need("chromium")
    out = tmp_path / "result.json"
    done = CliRunner().invoke(main, ["--rounds", "1", "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    kernel, onnxruntime = json.loads(out.read_text())["rows"]
    assert (kernel["library"], onnxruntime["library"]) == ("kernel", "onnxruntime-web")
    assert all(row[step] > 0 for row in (kernel, onnxruntime) for step in STEPS)
    assert kernel["bytes"] < 100_000
    assert onnxruntime["bytes"] > 10_000_000


def test_the_record_has_both_in_one_run() -> None:
    record = json.loads(RESULT.read_text())
    kernel, onnxruntime = record["rows"]
    assert record["options"]["rounds"] == 15
    assert kernel["together_ms"] < onnxruntime["together_ms"]
