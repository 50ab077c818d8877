"""Benchmarks of patches: small runs of what the committed results show at length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiments import patch_soak
from bench.experiments.patch_stream import cells as patch_stream_cells
from bench.experiments.patch_stream import patches, train
from bench.experiments.patches import cells, measure, survive
from edgerec.errors import BenchError


@pytest.mark.slow
def test_a_tenth_of_the_rows_is_a_small_patch() -> None:
    rows = measure(3000, 600, 0.1, rounds=1)
    for row in rows:
        assert row["changes"]["item"]["inserted"] == row["changes"]["item"]["deleted"] == 30
        assert row["changes"]["user"]["moved"] + row["changes"]["user"]["changed"] >= 50
        share = row["patch_bytes"] / row["full_bytes"]
        assert share < 0.2 or row["layout"] == "csc", row  # whose blocks are of a dimension, not of rows
        assert cells(row)[4] == f"{share:.1%}"


@pytest.mark.slow
def test_patches_follow_a_stream(tmp_path: Path) -> None:
    stream = tmp_path / "stream"
    train("synthetic:300x200x9000", "2", "30%", stream)
    (row,) = patches(stream, 1, tmp_path)
    for side, inserted, rows in (("user", 185, 300), ("item", 95, 200)):
        assert row["changes"][side]["inserted"] == inserted
        assert row["changes"][side]["deleted"] == 0
        assert inserted / rows < row["touched"][side] <= 1
    assert 0 < row["patch_bytes"] < row["full_bytes"]
    assert patch_stream_cells(row)[0] == "01"


def test_what_kills_and_damage_leave() -> None:
    survived = survive(2000, 200, 0.1, kills=4, damaged=45)
    assert survived["killed"]["old"] + survived["killed"]["new"] == 4
    assert sum(survived["damaged"].values()) - survived["damaged"]["harmless"] == 45


SMALL: dict[str, Any] = {"seconds": 8.0, "threads": 8, "every": 0.1, "items": 2000, "users": 100}


@pytest.mark.slow
def test_a_short_soak(tmp_path: Path) -> None:
    found = patch_soak.soak(tmp_path, **SMALL)
    assert found["patches"] >= 3
    assert set(found["requests"]) == set(patch_soak.KINDS)
    assert 0 < found["while_patched"] <= sum(found["requests"].values())


def test_a_soak_finds_an_answer_of_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong score among the answers that are expected, and the run ends."""
    real = patch_soak.KnownAnswers.of

    def corrupted(*arguments: Any) -> patch_soak.KnownAnswers:
        known = real(*arguments)
        for version in range(3):
            scores = np.frombuffer(known.answers[version, "score", 7], np.float32)
            known.answers[version, "score", 7] = np.nextafter(scores, np.float32(np.inf)).tobytes()
        return known

    monkeypatch.setattr(patch_soak.KnownAnswers, "of", corrupted)
    with pytest.raises(BenchError, match="a 'score' answer is of none of the live versions"):
        patch_soak.soak(tmp_path, **{**SMALL, "seconds": 60.0})


def test_memory_that_grows_shows() -> None:
    drift = patch_soak.drift([100.0 + number for number in range(100)])
    assert drift is not None
    assert drift["ratio"] == pytest.approx(194.5 / 114.5)
    assert drift["most_bytes"] == 199 * 1024
    assert patch_soak.drift([1.0] * 9) is None
