"""Figures of the pages of searched sizes and of sparse training, equal to the committed results."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.experiments.predictor import cells as predictor_cells
from bench.experiments.search_proxies import cells as proxy_cells
from bench.experiments.search_updates import cells as update_cells
from bench.experiments.sparse_quality import table as quality_table
from bench.experiments.sparse_training import ablation_cells, memory_cells
from bench.experiments.svd_search import cells as svd_search_cells
from bench.experiments.validation_overfitting import cells as overfitting_cells
from edgerec_bench.reproduce import shown as reproduced
from tests.docs.pages import ROOT, rows_of, stored

SEARCHED = (ROOT / "docs" / "research" / "searched-sizes.md").read_text()
SPARSE = (ROOT / "docs" / "research" / "sparse-training.md").read_text()


def test_the_memory_of_sparse_training_is_that_of_the_result() -> None:
    result = stored("sparse-memory-gowalla")
    assert rows_of("sparse-memory", SPARSE) == memory_cells(result["rows"])
    dense, same, sparse = result["rows"]
    assert sparse["array_bytes"] <= 0.15 * dense["array_bytes"]
    assert sparse["step_ms"] <= same["step_ms"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "bench" / "results").glob("sparse-ablation-*.json")), ids=lambda p: p.stem
)
def test_the_ablation_of_sparserec_is_that_of_the_result(path: Path) -> None:
    assert rows_of(path.stem, SPARSE) == ablation_cells(stored(path.stem)["rows"])


def test_the_quality_of_sparse_methods_is_that_of_the_results() -> None:
    result = stored("sparse-quality")
    assert rows_of("sparse-quality", SPARSE) == quality_table(result["rows"])[1]
    assert sum(lead["ahead"] for lead in result["leads"]) == 10  # as the page says


def test_what_gradients_of_all_rows_bring_is_that_of_the_results() -> None:
    table, dense = (stored(f"sparse-quality{name}") for name in ("", "-dense-backward"))
    compared_rows = [row for row in table["rows"] if (row["data"], row["backbone"]) == ("gowalla", "mf")]
    lines = {line[2]: line[3:] for line in quality_table(compared_rows)[1]}
    (line,) = quality_table(dense["rows"])[1]
    assert rows_of("sparse-quality-dense-backward", SPARSE) == [
        *([f"`{name}`", *lines[name]] for name in ("magnitude", "pep", "sparserec")),
        ["`sparserec`, gradients of all rows", *line[3:]],
    ]


def test_what_thresholds_bring_is_that_of_the_results() -> None:
    own, low = (stored(f"sparse-quality{name}")["rows"] for name in ("", "-pep"))
    expected = []
    for backbone in ("mf", "lightgcn"):
        for rows in (own, low):
            here = [
                row for row in rows if (row["data"], row["backbone"], row["method"]) == ("gowalla", backbone, "pep")
            ]
            (line,) = quality_table(here)[1]
            expected.append([f"`{backbone}`", f"{here[0]['method_settings']['threshold']:g}", *line[3:]])
    assert rows_of("sparse-quality-pep", SPARSE) == expected


def test_what_decays_bring_is_that_of_the_results() -> None:
    found = {}
    for name, suffix in (("-full", ""), ("", ""), ("-dense-backward", ", gradients of all rows")):
        for group, tried in stored(f"sparse-quality{name}")["trials"].items():
            if group.startswith("gowalla/mf/"):
                found[f"`{group.split('/')[-1]}`{suffix}"] = [f"{trial['ndcg@20']:.4f}" for trial in tried]
    assert rows_of("sparse-quality-decays", SPARSE) == [[name, *cells] for name, cells in found.items()]


@pytest.mark.parametrize("name", ["reproduce-ciess-ml-1m", "reproduce-bet-gowalla"])
def test_the_papers_protocol_gave_what_the_result_says(name: str) -> None:
    columns, cells = reproduced(stored(name)["rows"])
    picked = []
    for row in (dict(zip(columns, cell, strict=True)) for cell in cells):
        # Where all rows have one size nothing is truncated.
        recall, ndcg = (row[m] if row[f"{m} untruncated"] == "-" else row[f"{m} untruncated"] for m in ("R@20", "N@20"))
        published = row["paper's R@20"], row["paper's N@20"]
        picked.append([row["density"], row["method"], recall, published[0], ndcg, published[1], row["N@20"]])
    assert rows_of(name, SEARCHED) == picked


def test_overfitting_of_searches_is_that_of_the_result() -> None:
    result = stored("by-heart-ml-1m")
    assert rows_of("by-heart", SEARCHED) == overfitting_cells(result["rows"])


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "results").glob("oracle-*.json")), ids=lambda p: p.stem)
def test_how_proxies_rank_is_that_of_the_result(path: Path) -> None:
    found = stored(path.stem)["correlations"]
    expected = [
        [c["of"], c["with"], f"{c['all']:.3f}", f"{c['better_half']:.3f}", str(c["place_of_best"])] for c in found
    ]
    assert rows_of(path.stem, SEARCHED) == expected


def test_what_searches_end_with_is_that_of_the_result() -> None:
    result = stored("search-oracles-ml-1m")
    assert rows_of("search-oracles-ml-1m", SEARCHED) == proxy_cells(result["rows"])
    ials, backbone = result["rows"]
    assert ials["seconds"]["mean"] < 600
    assert ials["ndcg@20"]["mean"] >= backbone["ndcg@20"]["mean"]  # as the page says


@pytest.mark.parametrize("name", ["svd-search-ml-1m", "svd-search-gowalla", "svd-search-ml-100k"])
def test_the_figures_of_the_search_on_the_svd_are_those_of_the_result(name: str) -> None:
    assert rows_of(name, SEARCHED) == [svd_search_cells(row) for row in stored(name)["rows"]]


def test_the_figures_of_fewer_steps_are_those_of_the_results() -> None:
    names = ("search-updates-ml-100k", "search-updates-lastfm")
    assert rows_of("search-updates", SEARCHED) == [row for name in names for row in update_cells(stored(name)["rows"])]


def test_what_predictors_rank_is_that_of_the_result() -> None:
    result = stored("predictor-ml-100k")
    assert rows_of("predictor", SEARCHED) == predictor_cells(result["rows"])


def test_how_long_actions_take_is_that_of_the_result() -> None:
    found = stored("search-speed")
    scored, drawn = f"{found['scoring_s']:.3f} s", f"{found['seconds']['sampling and projection']:.2f} s"
    assert f"takes {scored} on tables of Gowalla's size (70,839 rows), drawing and projecting them {drawn}" in SEARCHED
    assert found["rows"] == 70_839
