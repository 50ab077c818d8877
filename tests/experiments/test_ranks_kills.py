"""A training that loses a rank, whenever that is, ends with the rank's name, and continues to the same scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.experiments.ranks_kills import main


@pytest.mark.slow
def test_a_training_that_lost_ranks_gives_the_same_scores(tmp_path: Path) -> None:
    words = ["--data", "synthetic:400x200x8000", "--epochs", "5", "--kills", "1"]
    main([*words, "--out", str(tmp_path / "kills.json")], standalone_mode=False)
    found = json.loads((tmp_path / "kills.json").read_text())
    for kill in found["kills"]:
        assert kill["status"] == 2
        assert kill["message"].startswith(f"Error: rank {kill['rank']} of 2 was killed by SIGKILL")
    assert max(found["differences"]) <= 1e-4
