"""What evaluation takes: real commands in processes of their own, and their own figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments import evaluation
from edgerec.errors import BenchError

DATA = "synthetic:120x80x2400"


@pytest.mark.slow
def test_every_command_is_measured_and_an_evaluation_tells_its_quality(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    done = CliRunner().invoke(evaluation.main, ["--data", DATA, "--out", str(out)])
    assert done.exit_code == 0, done.output
    told = json.loads(out.read_bytes())
    assert told["shape"] == [120, 80]
    assert [row["command"].split()[1] for row in told["rows"]] == ["train"] * 2 + ["export"] + ["evaluate"] * 3
    assert all(row["seconds"] > 0 and row["peak_bytes"] > 1 << 20 for row in told["rows"])
    full, tenth, bundle = told["rows"][3:]
    assert tenth["bytes"] < full["bytes"]
    assert bundle["ndcg@20"] == pytest.approx(tenth["ndcg@20"], rel=0.1)


def test_a_command_that_fails_is_named() -> None:
    with pytest.raises(
        BenchError, match=r"'edgerec train nowhere .*' failed: Error: there is no file, folder or named set"
    ):
        evaluation.measure("nowhere")
