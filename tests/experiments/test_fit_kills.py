"""A fit that SIGKILL ends, wherever it hits, continues to the bundle of one that was not killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.experiments.fit_kills import main


@pytest.mark.slow
def test_a_killed_fit_gives_the_same_bundle(tmp_path: Path) -> None:
    words = ["--data", "synthetic:120x80x2400", "--max-bytes", "14KB", "--trials", "1", "--kills", "2"]
    main([*words, "--out", str(tmp_path / "kills.json")], standalone_mode=False)
    found = json.loads((tmp_path / "kills.json").read_text())
    assert found["faults"] == []
    assert found["killed_after"]
    assert found["left"] == ["app.bundle", "app.fit", "app.report.html"]
