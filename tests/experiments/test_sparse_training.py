"""Training in sparse form is measured beside dense training, and its claims beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments.sparse_training import ablation, claims, main, measure_isolated
from edgerec.errors import BenchError

HAS_PROC = Path("/proc/self/status").exists()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PROC, reason="peak memory is read from /proc")
def test_training_takes_a_fraction_of_what_dense_training_takes() -> None:
    """What grows with rows and values at most 15 % at a density of 10 %; all that the process holds, less than half."""
    settings = ("synthetic:8000x6000x60000", 128, 0.1, 1)
    dense, sparse = (measure_isolated(name, *settings) for name in ("dense", "sparserec"))
    assert sparse["array_bytes"] <= 0.15 * dense["array_bytes"]
    assert sparse["training_peak_bytes"] < 0.5 * dense["training_peak_bytes"]
    # The figures for arrays are what the dense process really held.
    assert dense["training_peak_bytes"] > 0.7 * dense["array_bytes"]


@pytest.mark.slow
def test_what_cannot_be_measured_says_why() -> None:
    with pytest.raises(BenchError, match="no such data"):
        measure_isolated("dense", "no such data", 8, 0.1, 1)


@pytest.mark.slow
def test_each_claim_is_left_out_in_turn(tmp_path: Path) -> None:
    rows = ablation("synthetic:100x80x2000", "mf", "25%", 8, seeds=2, epochs=1)
    assert [row["name"] for row in rows] == list(claims("mf"))
    assert all(len(row["ndcg@20"]["seeds"]) == 2 and row["ndcg@20"]["stdev"] >= 0 for row in rows)
    arguments = ["ablation", "--data", "synthetic:100x80x2000", "--dimensions", "8", "--budget", "25%", "--seeds", "1"]
    done = CliRunner().invoke(main, [*arguments, "--epochs", "1", "--out", str(tmp_path / "a.json")])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "a.json").read_text())
    assert [row["settings"] for row in result["rows"]] == list(claims("mf").values())
