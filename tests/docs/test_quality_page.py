"""Figures of the page of quality, equal to the committed results."""

from __future__ import annotations

import pytest

from bench.experiments.bundle_grid import compared
from bench.experiments.formats import cells as formats_cells
from bench.experiments.item_only import cells as item_only_cells
from bench.experiments.papers import cells as papers_cells
from bench.experiments.trained import cells as trained_cells
from tests.docs.pages import ROOT, rows_of, stored

QUALITY = (ROOT / "docs" / "research" / "quality.md").read_text()


@pytest.mark.parametrize("name", ["trained-ml-1m", "trained-papers-ml-1m"])
def test_the_figures_of_trained_tables_are_those_of_the_result(name: str) -> None:
    assert rows_of(name, QUALITY) == [trained_cells(row) for row in stored(name)["rows"]]


def test_the_figures_of_numbers_in_a_byte_are_those_of_the_result() -> None:
    for name in ("formats", "formats-gowalla"):
        rows = stored(name)["rows"]
        assert rows_of(name, QUALITY) == [formats_cells(row) for row in rows]


@pytest.mark.parametrize(
    "name",
    [
        "item-only",
        "item-only-96",
        "item-only-sparse",
        "item-only-gowalla",
        "item-only-gowalla-26",
        "item-only-yelp2018",
    ],
)
def test_the_figures_of_item_only_models_are_those_of_the_result(name: str) -> None:
    assert rows_of(name, QUALITY) == [item_only_cells(row) for row in stored(name)["rows"]]


def test_the_figures_in_the_bytes_of_papers_are_those_of_the_result() -> None:
    assert rows_of("papers", QUALITY) == [papers_cells(row) for row in stored("papers")["rows"]]


def test_the_figures_of_unseen_users_are_those_of_the_results() -> None:
    names = [f"{kind} {metric}" for metric in ("ndcg@20", "recall@20") for kind in ("seen", "unseen")]
    shown = [
        [data, row["backbone"], *(f"{row[name]['mean']:.4f}" for name in names)]
        for data in ("ml-1m", "gowalla")
        for row in stored(f"unseen-{data}")["rows"]
    ]
    assert rows_of("unseen", QUALITY) == shown


def test_the_figures_of_every_way_at_every_size_are_those_of_the_result() -> None:
    assert rows_of("bundle-grid", QUALITY) == compared(stored("bundle-grid")["rows"])
