"""Figures of guides and of the reference, equal to the committed results."""

from __future__ import annotations

import pytest

from bench.experiments import data_build
from bench.experiments.no_users import cells as no_users_cells
from bench.experiments.rarity import cells as rarity_cells
from tests.docs.pages import ROOT, rows_of, stored


def test_no_random_limit_was_exceeded() -> None:
    result = stored("budgets")
    assert result["faults"] == []
    assert sum(row["limits"] for row in result["rows"]) == 310
    assert all(row["refused"] == row["smallest size is enough"] for row in result["rows"])


def test_the_figures_without_users_are_those_of_the_result() -> None:
    result = stored("no-users-ml-1m")
    assert rows_of("no-users", (ROOT / "docs" / "guide" / "no-users.md").read_text()) == [
        no_users_cells(r) for r in result["rows"]
    ]


def test_the_figures_of_rarities_are_those_of_the_result() -> None:
    rows = stored("rarity")["rows"]
    page = (ROOT / "docs" / "guide" / "no-users.md").read_text()
    assert rows_of("rarity", page) == [rarity_cells(row) for row in rows]
    for data, more, less in (("ml-1m", 0.19, 0.017), ("amazon-beauty", 0.125, 0.003), ("gowalla", 0.05, 0.002)):
        plain, rare = (next(row for row in rows if (row["data"], row["rarity"]) == (data, one)) for one in (0, 0.2))
        assert rare["coverage@20"] / plain["coverage@20"] - 1 == pytest.approx(more, abs=0.02)  # as the page says
        assert 1 - rare["ndcg@20"] / plain["ndcg@20"] == pytest.approx(less, abs=0.0006)


def test_the_figures_of_defaults_are_those_of_the_result() -> None:
    rows = stored("defaults")["rows"]
    names = ("ials", "implicit", "svd", "svd grid", "mf", "lightgcn")
    found = [[row["cells"].get(name, {}).get("ndcg@20") for name in names] for row in rows]
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    shown = [
        [row["data"], *("" if one is None else f"{one:.4f}" for one in of)] for row, of in zip(rows, found, strict=True)
    ]
    assert rows_of("defaults", page) == shown
    for mine, grid in (("ials", "implicit"), ("svd", "svd grid")):
        shares = [row[name] for row in rows if (name := f"{mine} relative to {grid}") in row]
        assert f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %" in page
        assert min(shares) >= (0.98 if mine == "ials" else 0.99)
    of_histories = [
        [row["data"], name, f"{cell['ndcg@20']:.4f}", f"{cell['ndcg@20 of histories']:.4f}"]
        for row in rows
        for name in ("mf", "lightgcn")
        if "ndcg@20 of histories" in (cell := row["cells"].get(name, {}))
    ]
    assert rows_of("defaults-histories", page) == of_histories


def test_the_growth_of_trainings_is_that_of_the_result() -> None:
    result = stored("training-growth")
    page = (ROOT / "docs" / "guide" / "scale.md").read_text()
    assert rows_of("growth", page) == data_build.guide_cells(result, (20_000_000, 500_000_000, 625_000_000))
    growth = {"build": result["exponents"], **result["training_exponents"]}
    shown = [growth[name]["cpu_seconds"] for name in ("build", "svd: train", "ials: train", "svd: evaluate")]
    assert "{:.2f} (build), {:.2f} (svd), {:.2f} (ials) and {:.2f}".format(*shown) in page
