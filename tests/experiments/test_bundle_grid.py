"""The grid of whole bundles: each is within its size and uses it, and what is done is not done again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments.bundle_grid import LEAST_USED, Trainings, Way, largest_bundle
from bench.experiments.bundle_grid import main as bundle_grid
from edgerec.data import Interactions, SplitSpec
from edgerec.errors import BudgetError

LIMIT = 15_000


@pytest.mark.parametrize("tables", ["fitted", "uniform", "popularity"])
def test_a_bundle_uses_its_size(tables: str, interactions: Interactions, tmp_path: Path) -> None:
    trainings = Trainings(interactions, SplitSpec.parse("random:80/20", seed=0), 64, threads=1)
    way = Way("svd", tables, "int8", users=False)
    _, done = largest_bundle(trainings, way, LIMIT, tmp_path / "b.edgerec")
    assert LEAST_USED * LIMIT <= done.nbytes <= LIMIT
    assert (tmp_path / "b.edgerec").stat().st_size == done.nbytes
    with pytest.raises(BudgetError):
        largest_bundle(trainings, way, 2000, tmp_path / "small.edgerec")


def test_it_continues(tmp_path: Path) -> None:
    words = ["--data", "synthetic:80x60x2000", "--sizes", "2KiB,16KiB,32KiB,64KiB", "--backbones", "svd"]
    words += ["--dimensions", "16", "--out", str(tmp_path / "g.json")]
    first = CliRunner().invoke(bundle_grid, words, catch_exceptions=False)
    rows = json.loads((tmp_path / "g.json").read_text())["rows"]
    cells = (tmp_path / "g.cells.jsonl").read_bytes()
    assert {row["size"] for row in rows if "missing" in row} == {"2KiB"}
    whole = [row for row in rows if row["size"] == "64KiB"]
    # The whole tables take less than 16 KiB, so that they are not made again.
    assert [row["bytes"]["mean"] for row in whole] == [row["bytes"]["mean"] for row in rows if row["size"] == "32KiB"]
    assert len(cells.splitlines()) == 3 * len(whole)
    again = CliRunner().invoke(bundle_grid, words, catch_exceptions=False)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert (tmp_path / "g.cells.jsonl").read_bytes() == cells
    assert json.loads((tmp_path / "g.json").read_text())["rows"] == rows
