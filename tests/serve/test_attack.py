"""The attack of `bench.experiments.serve_attack`, in a short form."""

from __future__ import annotations

from pathlib import Path

from bench.experiments.serve_attack import MUTATIONS, run_attack


def test_mutated_requests_break_and_leak_nothing(tmp_path: Path) -> None:
    figures = run_attack(tmp_path, 300, seed=1)
    assert figures["faults"] == []
    assert figures["failures_in_log"] == 0
    assert [row["mutation"] for row in figures["rows"]] == list(MUTATIONS)
    assert sum(row["2xx"] for row in figures["rows"]) > 15
    assert sum(row["4xx"] for row in figures["rows"]) > 150
