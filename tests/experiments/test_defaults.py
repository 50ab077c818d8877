"""The table of defaults: cells that are stored are not measured again, and those that are not are listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.experiments import defaults
from bench.experiments.defaults import main
from tests.bench.conftest import status_of

DATA = "synthetic:80x60x1500"


def test_cells_are_measured_once_and_the_others_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(defaults.SPLITS, DATA, "random:80/20")
    monkeypatch.setitem(defaults.GRIDS, "svd grid", defaults.SVD_GRID[:3])
    out = tmp_path / "found.json"
    words = ["--data", DATA, "--dimensions", "8", "--threads", "1", "--out", str(out)]
    assert status_of(main, [*words, "--contenders", "svd,svd grid"]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["cells"]["svd grid"]["trials"] == [3, 3, 3]
    assert min(row["cells"]["svd"]["trials"]) > 3
    by_seed = row["cells"]["svd"]["ndcg@20 by seed"]
    assert len(set(by_seed)) == 3
    assert row["cells"]["svd"]["ndcg@20"] == pytest.approx(sum(by_seed) / 3)
    assert row["svd relative to svd grid"] == pytest.approx(
        row["cells"]["svd"]["ndcg@20"] / row["cells"]["svd grid"]["ndcg@20"]
    )
    assert status_of(main, [*words, "--contenders", "svd,svd grid,mf", "--train", "none"]) == 0
    again = json.loads(out.read_text())
    assert again["rows"] == [row]
    assert again["missing"] == [f"{DATA}:mf"]
