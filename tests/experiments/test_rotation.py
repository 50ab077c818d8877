"""The experiment on the rotation, on small data: with users and without, every form of integers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments import rotation
from edgerec.data import synthetic


def test_every_form_is_measured_with_the_rotation_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = synthetic(n_users=200, n_items=150, n=6000, seed=1)
    monkeypatch.setattr(rotation, "load_data", lambda name: small)
    out = tmp_path / "result.json"
    arguments = ["--data", "small", "--backbones", "ials", "--dimensions", "8", "--out", str(out)]
    done = CliRunner().invoke(rotation.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    rows = json.loads(out.read_text())["rows"]
    forms = [(users, *form) for users in (True, False) for form in rotation.FORMS]
    assert [(row["users"], row["precision"], row["scales"]) for row in rows] == forms * len(rotation.METHODS)
    assert all(0 < row["ndcg@20_rotated"] < 1 for row in rows)
    assert all(0 <= row["bytes_rotated"] - row["bytes_not_rotated"] < 100 for row in rows)
    assert {row["layout"] for row in rows} == {"dense", "mixed"}
