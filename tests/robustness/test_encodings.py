"""Ratings in an encoding of their own, in every command that trains from a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgerec.cli.app import run
from edgerec.errors import DataError
from edgerec_bench.grid import GridPlan, read_rows
from edgerec_bench.grid.plan import Cell, Shared


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """1,500 interactions in UTF-16 without a mark, which is not read without being named."""
    rng = np.random.default_rng(0)
    pairs = sorted({(int(user), int(item)) for user, item in rng.integers(0, 50, (1500, 2))})
    path = tmp_path / "ratings.csv"
    path.write_text("user,item\n" + "".join(f"é{user},ß{item}\n" for user, item in pairs), encoding="utf-16-le")
    return path


def test_a_grid_plan_names_the_encoding(ratings: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    lines = [f'data = "{ratings}"', 'backbone = "svd"', 'method = "dense"', "dimensions = 4"]
    plan.write_text("\n".join(lines))
    with pytest.raises(DataError):
        run(["grid", str(plan), "--out", str(tmp_path / "without.jsonl"), "--no-verify"])
    plan.write_text("\n".join([*lines, 'encoding = "utf-16-le"']))
    assert run(["grid", str(plan), "--out", str(tmp_path / "with.jsonl"), "--no-verify"]) == 0
    (row,) = read_rows(tmp_path / "with.jsonl")
    assert row["cell"]["shared"]["encoding"] == "utf-16-le"


def test_cells_without_an_encoding_keep_their_keys() -> None:
    """Result files of before are continued: their keys are hashes of everything in a cell."""
    fields = {"data": "ml-100k", "backbone": "svd", "method": "dense"}
    (plain,), _ = GridPlan.parse(fields).cells()
    (named,), _ = GridPlan.parse({**fields, "encoding": "latin-1"}).cells()
    assert plain.key == "ml-100k/svd/dense/full/fp32/0@6d244759"
    assert "encoding" not in plain.to_json()["shared"]
    assert named.key != plain.key
    stored = named.to_json()
    assert Cell(**{**stored, "shared": Shared(**stored["shared"])}) == named


def test_reproduce_takes_the_encoding(ratings: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = ["reproduce", "ciess", "--quick", "--data", str(ratings), "--method", "uniform", "--out", str(out)]
    with pytest.raises(DataError):
        run(command)
    assert run([*command, "--encoding", "utf-16-le"]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["data"] == "ratings"
    assert "--encoding utf-16-le" in found["command"]


@pytest.mark.slow
def test_frontier_takes_the_encoding(ratings: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    few = ["--method", "dense", "--budget", "50%", "--precision", "fp32", "--seeds", "1", "--dimensions", "4"]
    command = ["frontier", str(ratings), *few, "--backbone", "svd", "--workers", "1", "--out", str(out)]
    with pytest.raises(DataError):
        run(command)
    assert run([*command, "--encoding", "utf-16-le"]) == 0
    assert json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["settings"]["encoding"] == "utf-16-le"
