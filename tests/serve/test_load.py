"""The load of `bench.experiments.serve_load`, in a short form: answers while patches arrive, and the comparison."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.experiments.serve_load import cells, compare, soak
from bench.experiments.serve_world import history_bundles, world
from edgerec.runtime import Recommender
from edgerec_export import diff


def test_each_answer_under_load_is_of_one_version(tmp_path: Path) -> None:
    old, new = history_bundles(tmp_path, 500, 2)
    diff(old, new, tmp_path / "patch")
    live = Path(shutil.copytree(old, tmp_path / "live"))
    history = Recommender.load(new).known(Recommender.load(old).item_ids(range(9)))
    how = {"connections": 8, "seconds": 4, "every": 0.3}
    with world(tmp_path, live, "--rate", "0") as served:
        figures = soak(served, [old, new], (tmp_path / "patch").read_bytes(), history, how)
    assert figures["faults"] == []
    assert figures["patches"] >= 4
    assert min(figures["of_each_version"]) > 0
    assert sum(figures["of_each_version"]) == figures["answers"]


def test_the_contenders_answer(tmp_path: Path) -> None:
    if find_spec("fastapi") is None:
        if os.environ.get("CI"):
            pytest.fail("fastapi is missing: pip install 'edgerec[peers]'")
        pytest.skip("NOT TESTED: fastapi is missing")
    (bundle,) = history_bundles(tmp_path, 500, 1)
    history = Recommender.load(bundle).item_ids(range(5))
    with world(tmp_path, bundle, "--rate", "0") as served:
        rows = compare(served, bundle, history, connections=2, rounds=1, seconds=0.3)
    assert [cells(row)[0] for row in rows] == [
        "bare Recommender",
        "edgerec serve, 1 connections",
        "FastAPI, 1 connections",
        "edgerec serve, 2 connections",
        "FastAPI, 2 connections",
    ]
    assert all(row["per_second"] > 0 and row["cpu_ms"] > 0 and row["p50_ms"] <= row["p99_ms"] for row in rows)
