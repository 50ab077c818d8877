"""The table of backbones: a line each, made from the cells, and not again from those that are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.experiments.backbones import cells, main
from tests.bench.conftest import status_of

WORDS = [
    "--data",
    "synthetic:80x60x1500",
    "--backbones",
    "mf,svd",
    "--budget",
    "25%",
    "--dimensions",
    "8",
    "--epochs",
    "2",
    "--seeds",
]


@pytest.mark.slow
def test_a_line_a_backbone_and_a_figure_a_method(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert status_of(main, [*WORDS, "2", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["backbone"], row["method"]) for row in rows] == [
        ("mf", "dense"), ("mf", "popularity"), ("svd", "dense"), ("svd", "popularity")
    ]  # fmt: skip
    assert all(
        dense["bundle_bytes"] > small["bundle_bytes"] for dense, small in zip(rows[::2], rows[1::2], strict=True)
    )
    (mf, svd) = cells(rows)
    mean, spread = rows[0]["ndcg@20"]["mean"], rows[0]["ndcg@20"]["stdev"]
    assert mf[:2] == ["`mf`", f"{mean:.4f} ({spread:.4f})"]
    assert svd[0] == "`svd`"
    cell_rows = (tmp_path / "found.cells.jsonl").read_bytes()
    assert status_of(main, [*WORDS, "1", "--out", str(out)]) == 0
    assert (tmp_path / "found.cells.jsonl").read_bytes() == cell_rows
    assert json.loads(out.read_text())["rows"][0]["ndcg@20"]["stdev"] is None
