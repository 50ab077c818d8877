"""Builds of made-up data: measured by their processes, the same arrays as scripts write, and trained from."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from bench.experiments import data_build


def test_made_up_interactions_follow_a_power_law_with_text_ids(tmp_path: Path) -> None:
    data_build.write_events(tmp_path / "events.parquet", 40_000)
    counts = duckdb.execute(
        f"SELECT count(*) AS n FROM '{tmp_path / 'events.parquet'}' GROUP BY sku ORDER BY n DESC"
    ).fetchnumpy()["n"]
    assert counts.sum() == 40_000
    assert 380 <= len(counts) <= 400
    # The rank is 400 times the cube of a uniform number: a third of the interactions are of the first 4 % of items.
    assert counts[:16].sum() == pytest.approx(0.04 ** (1 / 3) * 40_000, rel=0.03)
    (first,) = duckdb.execute(f"SELECT customer_id FROM '{tmp_path / 'events.parquet'}' LIMIT 1").fetchone() or ("",)
    assert first.startswith("u-")


@pytest.mark.slow
def test_builds_scripts_and_trainings_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    words = ["--sizes", "2000,4000", "--train-at", "2000,4000", "--dimensions", "8", "--sample-users", "30"]
    done = CliRunner().invoke(data_build.main, [*words, "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_bytes())
    assert [row["rows"] for row in found["builds"]] == [2000, 4000]
    assert all(row["same"] for row in found["scripts"])
    written = [row for row in found["trainings"] if " evaluate " not in row["command"]]
    assert all(row["peak_bytes"] > 1 << 20 and row["disk_bytes"] for row in (*found["builds"], *written))
    assert [row["command"].split()[1] for row in found["trainings"]] == ["train", "export", "evaluate"] * 4
    assert "ndcg@20_margin" in found["trainings"][0]["metrics"]
    assert set(found["exponents"]) == set(data_build.FIGURES)
    assert all(found["training_exponents"][f"{name}: train"]["disk_bytes"] is not None for name in ("svd", "ials"))
    assert found["training_exponents"]["svd: evaluate"]["disk_bytes"] is None
