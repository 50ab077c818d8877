"""The experiment on trained tables, on small data: with users and without, plain and fitted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments import trained
from edgerec.data import synthetic


@pytest.mark.slow
def test_every_form_is_measured_with_users_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = synthetic(n_users=200, n_items=150, n=6000, seed=1)
    monkeypatch.setattr(trained, "load_data", lambda name: small)
    out = tmp_path / "result.json"
    arguments = ["--limit", "16KiB", "--rounds", "3", "--out", str(out)]
    done = CliRunner().invoke(trained.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["backbone"], row["users"]) for row in rows] == (
        [("svd", False)] * 4 + [("ials", True)] * 4 + [("ials", False)] * 4
    )
    assert all(row["nbytes"] <= 16 << 10 for row in rows if row["limit"])
    assert all(0 < row["ndcg"] < 1 and row["p50_ms"] > 0 for row in rows)
    assert [row["of_dense"] for row in rows if row["stored"] == "dense fp32"] == [1.0] * 3
