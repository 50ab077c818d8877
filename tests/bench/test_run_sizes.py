"""Sizes against popularity: what a run stores, how it is binned, and what the page shows and says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgerec.api import train
from edgerec.data import Interactions, split
from edgerec.errors import RunError
from edgerec.tables import PrefixTable
from edgerec.training import Run
from edgerec_bench import Result, report
from edgerec_bench.reports.plots import size_bands, unseen_rows
from tests.conftest import CommandLine


@pytest.fixture(scope="module")
def run(interactions: Interactions) -> Run:
    """iALS with popularity's sizes."""
    return train(interactions, budget="50%", dimensions=8, threads=1, max_epochs=1)


def older(run: Run) -> Run:
    """As EdgeRec left runs before it kept counts."""
    return replace(run, user_counts=None, item_counts=None)


@pytest.mark.parametrize("parts", ["random:80/20", "random:50/25/25"])
def test_a_run_counts_what_its_rows_were_trained_on(parts: str, interactions: Interactions, tmp_path: Path) -> None:
    wanted = {"split": parts, "budget": "50%", "dimensions": 4, "threads": 1, "max_epochs": 1}
    train(interactions, out=tmp_path / "ials", **wanted)
    stored, made = Run.load(tmp_path / "ials"), split(interactions, parts)
    trained = made.train_all if parts == "random:80/20" else made.train
    assert stored.user_counts is not None
    assert stored.item_counts is not None
    assert stored.user_counts.dtype == stored.item_counts.dtype == np.uint32
    assert (stored.user_counts == trained.user_counts()).all()
    assert (stored.item_counts == trained.item_counts()).all()
    assert train(interactions, backbone="svd", **wanted).user_counts is None


def test_bands_are_quantiles_of_each_doubling(run: Run) -> None:
    counts = np.array([0, 1, 2, 3, 3, *[8] * 11, 15, 16], np.uint32)
    sizes = np.array([1, 4, 1, 2, 3, *range(1, 12), 6, 9])
    items = PrefixTable.from_dense(np.ones((counts.size, 12)), sizes)
    made = replace(run, items=items, item_counts=counts, users=None, user_counts=None)
    bands = size_bands(made)
    assert list(bands) == ["items"]
    assert bands["items"][0].tolist() == [1, 3, 8, 16]
    assert bands["items"][1].tolist() == [4, 1.2, np.quantile(sizes[5:17], 0.1), 9]
    assert bands["items"][2].tolist() == [4, 2, 6, 9]
    assert bands["items"][3].tolist() == [4, 2.8, np.quantile(sizes[5:17], 0.9), 9]
    assert unseen_rows(made) == 1
    with pytest.raises(RunError, match="18 items and counts 17"):
        size_bands(replace(made, item_counts=counts[1:]))


def test_larger_rows_are_those_of_what_is_popular(run: Run) -> None:
    bands = size_bands(run)
    assert set(bands) == {"users", "items"}
    _, low, median, high = bands["items"]
    assert (np.diff(median) >= 0).all()
    assert median[-1] > median[0]
    assert (low <= median).all()
    assert (median <= high).all()


def test_the_page_draws_runs_beside_results_and_alone(results: list[Result], run: Run, tmp_path: Path) -> None:
    for listed, name in ((results, "both.html"), ([], "alone.html")):
        report(listed, tmp_path / name, runs={"runs/films": run, "runs/old": older(run)})
        content = (tmp_path / name).read_text()
        assert content.count('aria-label="values of a row against interactions of a row"') == 1
        assert "runs/films (" in content
        assert re.search(r"stored no counts of interactions: runs/old\.", content)
        assert "runs/old (" not in content
        assert ("Measure again" in content) == bool(listed)
        assert not re.search("https?:|<script|<link|<img|@import", content)
        assert not re.search("#0[0-9a-b]0[0-9a-b]0", content), "every colour is the page's own"


def test_report_takes_run_folders(run: Run, tmp_path: Path, command_line: CommandLine) -> None:
    run.save(tmp_path / "films")
    older(run).save(tmp_path / "old")
    done = command_line("report", "films", "old", "--out", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "counts of interactions: old." in (tmp_path / "page.html").read_text()
    (tmp_path / "empty").mkdir()
    refused = command_line("report", "empty", "--out", "page.html", cwd=tmp_path)
    assert refused.returncode == 2
    assert "edgerec train" in refused.stderr
