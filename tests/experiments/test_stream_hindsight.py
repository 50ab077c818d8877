"""Hindsight: what ratios say, and a run of it on a small stream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.experiments import stream_hindsight
from edgerec.methods.stream.scall import SizeAction
from tests.streams.test_stream_cli import write_visits
from tests.streams.test_streaming import drifting

ACTIONS = [SizeAction(0.5, 1.0, 1.0), SizeAction(0.6, 2.0, 1.0), SizeAction(0.7, 1.0, 3.0)]


def test_what_ratios_say() -> None:
    found = stream_hindsight.report(np.array([[1.2, 0.9, 1.0], [0.7, 1.1, 1.3], [1.0, 1.2, 1.1]]), ACTIONS)
    assert found["best_of_each_segment"] == [1.2, 1.3, 1.2]
    assert found["best_of_all"] == {"ratio": pytest.approx(3.4 / 3), "action": ACTIONS[2].to_json()}
    assert found["best_of_the_segment_before"] == [0.7, 1.1]
    agreeing = stream_hindsight.report(np.array([[1.0, 1.1, 1.2], [0.8, 1.0, 1.2]]), ACTIONS)
    assert agreeing["correlation_with_the_next"] == pytest.approx([1.0])


def test_a_small_stream_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_hindsight, "SEGMENTS", "3")
    data, out = write_visits(tmp_path, drifting()) / "visits.csv", tmp_path / "out.json"
    asked = ["--data", str(data), "--budget", "25%", "--actions", "3", "--out", str(out)]
    CliRunner().invoke(stream_hindsight.main, asked, catch_exceptions=False)
    figures = json.loads(out.read_text())
    assert np.array(figures["ratios"]).shape == (2, 3)
    assert all(0 < ratio < 10 for row in figures["ratios"] for ratio in row)
