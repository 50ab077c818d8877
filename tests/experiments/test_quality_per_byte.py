"""Quality per byte on small data: every plain bundle has a fitted one of at most its bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments import quality_per_byte
from edgerec.data import synthetic


@pytest.mark.slow
def test_every_plain_bundle_has_a_fitted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = synthetic(n_users=200, n_items=150, n=6000, seed=1)
    monkeypatch.setattr(quality_per_byte, "load_data", lambda name: small)
    out = tmp_path / "result.json"
    arguments = ["--dimensions", "16", "--dimensions", "4", "--out", str(out)]
    done = CliRunner().invoke(quality_per_byte.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    points = json.loads(out.read_text())["points"]
    plain = {point["nbytes"] for point in points if point["form"] == "plain"}
    fitted = sorted(point["nbytes"] for point in points if point["form"] == "fitted")
    assert len(fitted) == len(plain)
    assert all(used <= limit for used, limit in zip(fitted, sorted(plain), strict=True))
    assert all(0 < point["ndcg"] < 1 for point in points)
