"""The figure of ranks trains in one process and in several, and measures both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.experiments.ranks import main


@pytest.mark.slow
def test_both_are_measured_with_their_processor_time(tmp_path: Path) -> None:
    words = ["--data", "synthetic:300x200x6000", "--backbone", "svd", "--seeds", "1"]
    main([*words, "--out", str(tmp_path / "ranks.json")], standalone_mode=False)
    one, two = json.loads((tmp_path / "ranks.json").read_text())["means"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["ndcg@20"]["mean"] == pytest.approx(one["ndcg@20"]["mean"], rel=1e-3)
    assert min(one["processor_seconds"]["mean"], two["processor_seconds"]["mean"]) > 0
