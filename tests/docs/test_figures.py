"""Figures of the documentation, equal to the committed results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiments import data_build
from bench.experiments.bundle_grid import compared
from bench.experiments.fitted import cells as fitted_cells
from bench.experiments.fitted import operator_cells
from bench.experiments.formats import cells as formats_cells
from bench.experiments.item_only import cells as item_only_cells
from bench.experiments.no_users import cells as no_users_cells
from bench.experiments.papers import cells as papers_cells
from bench.experiments.predictor import cells as predictor_cells
from bench.experiments.scale.__main__ import SHORT
from bench.experiments.search_proxies import cells as proxy_cells
from bench.experiments.search_updates import cells as update_cells
from bench.experiments.sparse_quality import table as quality_table
from bench.experiments.sparse_training import ablation_cells, memory_cells
from bench.experiments.svd_search import cells as svd_search_cells
from bench.experiments.trained import cells as trained_cells
from bench.experiments.validation_overfitting import cells as overfitting_cells
from edgerec.budget import format_bytes
from edgerec_bench import Result
from edgerec_bench.reproduce import shown as reproduced
from edgerec_bench.result.file import read_results
from edgerec_bench.result.process import INSTRUCTIONS
from edgerec_bench.result.scale import ScaleResult, scale_rows
from tests.docs.pages import ROOT, STREAMS, rows_of

SEARCHED = (ROOT / "docs" / "research" / "searched-sizes.md").read_text()
SPARSE = (ROOT / "docs" / "research" / "sparse-training.md").read_text()
README = (ROOT / "README.md").read_text()
SPEED = (ROOT / "docs" / "research" / "speed.md").read_text()
QUALITY = (ROOT / "docs" / "research" / "quality.md").read_text()


def test_the_scale_figures_are_those_of_the_result() -> None:
    (result,) = read_results(ROOT / "bench" / "results" / "scale-1m.json")
    assert isinstance(result, ScaleResult)
    assert rows_of("scale", SPEED) == scale_rows(result, SHORT)


def test_the_readmes_scale_figures_are_those_of_the_result() -> None:
    (result,) = read_results(ROOT / "bench" / "results" / "scale-1m.json")
    assert isinstance(result, ScaleResult)
    columns = ("", "p50 ms", "times faster", "bytes", "of dense", "same top 20")
    names = [
        "plain dense ONNX",
        *(f"EdgeRec {form}" for form in ("dense int8", "mixed fp32", "mixed int8")),
        "faiss SQ8",
    ]
    assert rows_of("scale-short", README) == [row for row in scale_rows(result, columns) if row[0] in names]


def trained(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())["rows"]
    return rows


@pytest.mark.parametrize("name", ["trained-ml-1m", "trained-papers-ml-1m"])
def test_the_figures_of_trained_tables_are_those_of_the_result(name: str) -> None:
    assert rows_of(name, QUALITY) == [trained_cells(row) for row in trained(name)]


def test_the_figures_of_numbers_in_a_byte_are_those_of_the_result() -> None:
    for name in ("formats", "formats-gowalla"):
        rows = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())["rows"]
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
    assert rows_of(name, QUALITY) == [item_only_cells(row) for row in trained(name)]


def test_the_figures_in_the_bytes_of_papers_are_those_of_the_result() -> None:
    assert rows_of("papers", QUALITY) == [papers_cells(row) for row in trained("papers")]


def test_the_figures_of_fitted_tables_are_those_of_the_result() -> None:
    rows = json.loads((ROOT / "bench" / "results" / "fitted.json").read_text())["rows"]
    assert rows_of("fitted", SPEED) == [fitted_cells(row) for row in rows]


def test_the_figures_of_fitted_trained_tables_are_those_of_the_result() -> None:
    assert rows_of("fitted-trained", SPEED) == [fitted_cells(row) for row in trained("fitted-trained")]


def test_the_instructions_of_fitted_tables_are_those_of_the_result() -> None:
    rows = trained("fitted-arm64")
    for table, device in (("fitted-arm64", "arm64"), ("fitted-arm64-dot", "arm64:cortex-a76")):
        assert rows_of(table, SPEED) == [fitted_cells(row) for row in rows if row["device"] == device]
    shown = [row for row in rows if not row.get("max_ms") and row["stored"] != "dense int4"]
    assert rows_of("fitted-arm64-operators", SPEED) == [operator_cells(row) for row in shown]


def test_the_figures_of_unseen_users_are_those_of_the_results() -> None:
    names = [f"{kind} {metric}" for metric in ("ndcg@20", "recall@20") for kind in ("seen", "unseen")]
    shown = [
        [data, row["backbone"], *(f"{row[name]['mean']:.4f}" for name in names)]
        for data in ("ml-1m", "gowalla")
        for row in trained(f"unseen-{data}")
    ]
    assert rows_of("unseen", QUALITY) == shown


def test_no_random_limit_was_exceeded() -> None:
    result = json.loads((ROOT / "bench" / "results" / "budgets.json").read_text())
    assert result["faults"] == []
    assert sum(row["limits"] for row in result["rows"]) == 310
    assert all(row["refused"] == row["smallest size is enough"] for row in result["rows"])


def test_the_readmes_figures_of_trained_tables_are_those_of_the_result() -> None:
    """Without plain int4, of SVD without users and of iALS with them."""
    rows = [row for row in trained("trained-ml-1m") if (row["backbone"] == "ials") == row["users"]]
    shown = [trained_cells(row) for row in rows if row["stored"] != "dense int4"]
    assert rows_of("trained-short", README) == [[*row[:5], row[6]] for row in shown]


def test_what_the_readme_advises_rests_on_the_results() -> None:
    advice = README.partition("## Which method, layout and precision to choose")[2].partition("\n## ")[0]
    fitted = {
        (row["users"], row["limit"]): row["ndcg"]
        for row in trained("trained-ml-1m")
        if row["limit"] and (row["backbone"] == "ials") == row["users"]
    }
    histories, table = ([fitted[users, size << 10] for size in (64, 128)] for users in (False, True))
    assert (
        "{:.4f} in 64 KiB, {:.4f} in 128 KiB; with a user table {:.4f} and {:.4f}".format(*histories, *table) in advice
    )
    items_only = {(row["size"], row["backbone"]): row["ndcg@20"]["mean"] for row in trained("item-only")}
    lae, svd = ([items_only[size, name] for size in ("32KiB", "64KiB")] for name in ("lae", "svd"))
    assert "`lae` {:.4f} in 32 KiB, {:.4f} in 64 KiB; fitted `svd` {:.4f} and {:.4f}".format(*lae, *svd) in advice
    beauty = {row["backbone"]: row for row in trained("item-only-sparse") if row["data"] == "amazon-beauty"}
    few, coded = (
        f"{row['ndcg@20']['mean']:.4f} in {format_bytes(round(row['bytes']['mean']))}"
        for row in (beauty["neighbours"], beauty["lae"])
    )
    assert f"nearest neighbours {few}, `lae` {coded} " in advice
    assert min(histories) > max(table)
    with_users = {row["stored"]: row for row in trained("trained-ml-1m") if row["users"]}
    full, int8 = with_users["dense fp32"], with_users["dense int8"]
    assert f"{fitted[True, 320 << 10]:.4f} in 320 KiB; plain int8 {int8['ndcg']:.4f}" in advice
    assert f"in {format_bytes(int8['nbytes'])}, fp32 {full['ndcg']:.4f} in {format_bytes(full['nbytes'])}" in advice
    frontier = {
        (point["method"], point["budget"], point["precision"]): point
        for point in json.loads((ROOT / "bench" / "results" / "frontier-ml-100k.json").read_text())["points"]
    }
    uniform, popularity = frontier["uniform", "10%", "int8"], frontier["popularity", "10%", "int4"]
    (ours, our_bytes), (rival, rival_bytes) = (
        (f"{np.mean(point['scores']):.4f}", format_bytes(point["nbytes"])) for point in (uniform, popularity)
    )
    assert f"{ours} in {our_bytes}; `popularity` {rival} in {rival_bytes}" in advice
    faster, share = next((row[2], row[4]) for row in rows_of("scale-short", README) if row[0] == "EdgeRec mixed int8")
    assert f"{faster} times faster than dense, in {share.replace('%', ' %')} of its bytes" in advice
    leads = {row[1]: row[4].replace("%", " %") for row in rows_of("streams-ml-1m", STREAMS) if row[0] == "10%"}
    assert f"`scall` {leads['scall']}, `popularity` {leads['popularity']}" in advice
    rows = trained("papers")
    least = {
        name: min(row["least_over_published"] for row in rows if row["data"] == name)
        for name in ("ml-1m", "gowalla", "yelp2018")
    }
    ml, gowalla, yelp = (int(100 * (one - 1)) for one in least.values())
    assert f"by {ml} % or more on MovieLens-1M, {gowalla} % on Gowalla, {yelp} % on Yelp2018" in advice
    assert all(row["export"].endswith("histories") and row["training"].startswith("svd") for row in rows)


def test_the_growth_figures_are_those_of_the_result() -> None:
    names = ["plain dense ONNX", *(f"EdgeRec {form}" for form in ("mixed fp32", "mixed int8", "ell int8", "csc int8"))]
    expected = []
    for result in read_results(ROOT / "bench" / "results" / "scale-growth.json"):
        assert isinstance(result, ScaleResult)
        times = {one.name: f"{one.measured.latency():.3g}" for one in result.contenders}
        expected.append([f"{result.items:,}", *(times.get(name, "") for name in names)])
    assert rows_of("growth", SPEED) == expected


def test_the_figures_of_the_emulated_raspberry_pi_are_those_of_the_result() -> None:
    expected = []
    for result in read_results(ROOT / "bench" / "results" / "arm64-layouts.json"):
        assert isinstance(result, Result)
        assert result.clock is INSTRUCTIONS
        measured, peak = result.measured, result.measured.above_bare("VmHWM")
        calls = [f"{measured.latency(name):.2f}" for name in ("recommend", "score 1000", "lookup")]
        absolute = measured.memory("VmHWM")
        assert peak is not None
        assert absolute is not None
        name = result.bundle.name.removesuffix(".bundle").replace("-", " ")
        memory = [format_bytes(number) for number in (peak, absolute)]
        expected.append([name, format_bytes(result.bundle.nbytes), *calls, *memory])
    assert rows_of("arm64", SPEED) == expected


def test_the_streaming_figures_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "streaming-10m.json").read_text())
    expected = [
        [
            f"{row['layout']} {row['precision']}",
            format_bytes(row["bundle_bytes"]),
            f"{row['seconds']:.0f}",
            format_bytes(row["peak_bytes"]),
        ]
        for row in result["exports"]
    ]
    assert rows_of("streaming", SPEED) == expected
    assert all(row["peak_bytes"] < 2 << 30 for row in result["exports"])


def test_the_evaluation_figures_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "evaluation-yelp2018.json").read_text())
    expected = [
        [
            row["command"].split()[2],
            format_bytes(row["bytes"]),
            f"{row['seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            format_bytes(row["peak_bytes"]),
            f"{row['ndcg@20']:.4f}",
        ]
        for row in result["rows"]
        if "bytes" in row
    ]
    assert rows_of("evaluation", SPEED) == expected
    assert result["shape"] == [31_668, 38_048]
    assert all(row["peak_bytes"] < 1 << 30 for row in result["rows"])


def test_the_figures_without_users_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "no-users-ml-1m.json").read_text())
    assert rows_of("no-users", (ROOT / "docs" / "guide" / "no-users.md").read_text()) == [
        no_users_cells(r) for r in result["rows"]
    ]


def test_the_memory_of_sparse_training_is_that_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "sparse-memory-gowalla.json").read_text())
    assert rows_of("sparse-memory", SPARSE) == memory_cells(result["rows"])
    dense, same, sparse = result["rows"]
    assert sparse["array_bytes"] <= 0.15 * dense["array_bytes"]
    assert sparse["step_ms"] <= same["step_ms"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "bench" / "results").glob("sparse-ablation-*.json")), ids=lambda p: p.stem
)
def test_the_ablation_of_sparserec_is_that_of_the_result(path: Path) -> None:
    assert rows_of(path.stem, SPARSE) == ablation_cells(json.loads(path.read_text())["rows"])


def test_the_quality_of_sparse_methods_is_that_of_the_results() -> None:
    result = json.loads((ROOT / "bench" / "results" / "sparse-quality.json").read_text())
    assert rows_of("sparse-quality", SPARSE) == quality_table(result["rows"])[1]
    assert sum(lead["ahead"] for lead in result["leads"]) == 10  # as the page says


def test_what_gradients_of_all_rows_bring_is_that_of_the_results() -> None:
    folder = ROOT / "bench" / "results"
    table, dense = (json.loads((folder / f"sparse-quality{name}.json").read_text()) for name in ("", "-dense-backward"))
    compared_rows = [row for row in table["rows"] if (row["data"], row["backbone"]) == ("gowalla", "mf")]
    lines = {line[2]: line[3:] for line in quality_table(compared_rows)[1]}
    (line,) = quality_table(dense["rows"])[1]
    assert rows_of("sparse-quality-dense-backward", SPARSE) == [
        *([f"`{name}`", *lines[name]] for name in ("magnitude", "pep", "sparserec")),
        ["`sparserec`, gradients of all rows", *line[3:]],
    ]


def test_what_thresholds_bring_is_that_of_the_results() -> None:
    folder = ROOT / "bench" / "results"
    own, low = (json.loads((folder / f"sparse-quality{name}.json").read_text())["rows"] for name in ("", "-pep"))
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
    folder = ROOT / "bench" / "results"
    found = {}
    for name, suffix in (("-full", ""), ("", ""), ("-dense-backward", ", gradients of all rows")):
        for group, tried in json.loads((folder / f"sparse-quality{name}.json").read_text())["trials"].items():
            if group.startswith("gowalla/mf/"):
                found[f"`{group.split('/')[-1]}`{suffix}"] = [f"{trial['ndcg@20']:.4f}" for trial in tried]
    assert rows_of("sparse-quality-decays", SPARSE) == [[name, *cells] for name, cells in found.items()]


@pytest.mark.parametrize("name", ["reproduce-ciess-ml-1m", "reproduce-bet-gowalla"])
def test_the_papers_protocol_gave_what_the_result_says(name: str) -> None:
    columns, cells = reproduced(json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())["rows"])
    picked = []
    for row in (dict(zip(columns, cell, strict=True)) for cell in cells):
        # Where all rows have one size nothing is truncated.
        recall, ndcg = (row[m] if row[f"{m} untruncated"] == "-" else row[f"{m} untruncated"] for m in ("R@20", "N@20"))
        published = row["paper's R@20"], row["paper's N@20"]
        picked.append([row["density"], row["method"], recall, published[0], ndcg, published[1], row["N@20"]])
    assert rows_of(name, SEARCHED) == picked


def test_overfitting_of_searches_is_that_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "by-heart-ml-1m.json").read_text())
    assert rows_of("by-heart", SEARCHED) == overfitting_cells(result["rows"])


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "results").glob("oracle-*.json")), ids=lambda p: p.stem)
def test_how_proxies_rank_is_that_of_the_result(path: Path) -> None:
    found = json.loads(path.read_text())["correlations"]
    expected = [
        [c["of"], c["with"], f"{c['all']:.3f}", f"{c['better_half']:.3f}", str(c["place_of_best"])] for c in found
    ]
    assert rows_of(path.stem, SEARCHED) == expected


def test_what_searches_end_with_is_that_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "search-oracles-ml-1m.json").read_text())
    assert rows_of("search-oracles-ml-1m", SEARCHED) == proxy_cells(result["rows"])
    ials, backbone = result["rows"]
    assert ials["seconds"]["mean"] < 600
    assert ials["ndcg@20"]["mean"] >= backbone["ndcg@20"]["mean"]  # as the page says


@pytest.mark.parametrize("name", ["svd-search-ml-1m", "svd-search-gowalla", "svd-search-ml-100k"])
def test_the_figures_of_the_search_on_the_svd_are_those_of_the_result(name: str) -> None:
    assert rows_of(name, SEARCHED) == [svd_search_cells(row) for row in trained(name)]


def test_the_figures_of_fewer_steps_are_those_of_the_results() -> None:
    names = ("search-updates-ml-100k", "search-updates-lastfm")
    assert rows_of("search-updates", SEARCHED) == [row for name in names for row in update_cells(trained(name))]


def test_the_figures_of_every_way_at_every_size_are_those_of_the_result() -> None:
    assert rows_of("bundle-grid", QUALITY) == compared(trained("bundle-grid"))


def test_what_predictors_rank_is_that_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "predictor-ml-100k.json").read_text())
    assert rows_of("predictor", SEARCHED) == predictor_cells(result["rows"])


def test_how_long_actions_take_is_that_of_the_result() -> None:
    found = json.loads((ROOT / "bench" / "results" / "search-speed.json").read_text())
    scored, drawn = f"{found['scoring_s']:.3f} s", f"{found['seconds']['sampling and projection']:.2f} s"
    assert f"takes {scored} on tables of Gowalla's size (70,839 rows), drawing and projecting them {drawn}" in SEARCHED
    assert found["rows"] == 70_839


def test_the_figures_of_builds_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "data-build.json").read_text())
    assert rows_of("data-build", SPEED) == [
        [
            data_build.label(row),
            f"{row['seconds']:.0f}",
            f"{row['cpu_seconds']:.0f}",
            format_bytes(row["peak_bytes"]),
            format_bytes(row["disk_peak_bytes"]),
        ]
        for name in ("builds", "scripts", "trainings")
        for row in result[name]
    ]
    assert all(row["peak_bytes"] <= 1 << 30 for row in result["builds"])
    assert all(row["peak_bytes"] <= 3 << 30 for row in result["trainings"])
    exponents = result["exponents"]
    assert max(exponents[name] for name in ("seconds", "cpu_seconds", "peak_bytes", "disk_bytes")) <= 1.1
    page = SPEED.partition("<!-- data-build -->")[2]
    assert all(f"{exponents[name]:.2f}" in page for name in data_build.FIGURES if name != "seconds")


def test_the_figures_of_defaults_are_those_of_the_result() -> None:
    rows = json.loads((ROOT / "bench" / "results" / "defaults.json").read_text())["rows"]
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
    result = json.loads((ROOT / "bench" / "results" / "training-growth.json").read_text())
    page = (ROOT / "docs" / "guide" / "scale.md").read_text()
    assert rows_of("growth", page) == data_build.guide_cells(result, (20_000_000, 500_000_000, 625_000_000))
    growth = {"build": result["exponents"], **result["training_exponents"]}
    shown = [growth[name]["cpu_seconds"] for name in ("build", "svd: train", "ials: train", "svd: evaluate")]
    assert "{:.2f} (build), {:.2f} (svd), {:.2f} (ials) and {:.2f}".format(*shown) in page
