"""Figures of the README, equal to the committed results."""

from __future__ import annotations

import numpy as np

from bench.experiments.trained import cells as trained_cells
from edgerec.budget import format_bytes
from edgerec_bench.result.file import read_results
from edgerec_bench.result.scale import ScaleResult, scale_rows
from tests.docs.pages import ROOT, STREAMS, rows_of, stored

README = (ROOT / "README.md").read_text()


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


def test_the_readmes_figures_of_trained_tables_are_those_of_the_result() -> None:
    """Without plain int4, of SVD without users and of iALS with them."""
    rows = [row for row in stored("trained-ml-1m")["rows"] if (row["backbone"] == "ials") == row["users"]]
    shown = [trained_cells(row) for row in rows if row["stored"] != "dense int4"]
    assert rows_of("trained-short", README) == [[*row[:5], row[6]] for row in shown]


def test_what_the_readme_advises_rests_on_the_results() -> None:
    advice = README.partition("## Which method, layout and precision to choose")[2].partition("\n## ")[0]
    fitted = {
        (row["users"], row["limit"]): row["ndcg"]
        for row in stored("trained-ml-1m")["rows"]
        if row["limit"] and (row["backbone"] == "ials") == row["users"]
    }
    histories, table = ([fitted[users, size << 10] for size in (64, 128)] for users in (False, True))
    assert (
        "{:.4f} in 64 KiB, {:.4f} in 128 KiB; with a user table {:.4f} and {:.4f}".format(*histories, *table) in advice
    )
    items_only = {(row["size"], row["backbone"]): row["ndcg@20"]["mean"] for row in stored("item-only")["rows"]}
    lae, svd = ([items_only[size, name] for size in ("32KiB", "64KiB")] for name in ("lae", "svd"))
    assert "`lae` {:.4f} in 32 KiB, {:.4f} in 64 KiB; fitted `svd` {:.4f} and {:.4f}".format(*lae, *svd) in advice
    beauty = {row["backbone"]: row for row in stored("item-only-sparse")["rows"] if row["data"] == "amazon-beauty"}
    few, coded = (
        f"{row['ndcg@20']['mean']:.4f} in {format_bytes(round(row['bytes']['mean']))}"
        for row in (beauty["neighbours"], beauty["lae"])
    )
    assert f"nearest neighbours {few}, `lae` {coded} " in advice
    assert min(histories) > max(table)
    with_users = {row["stored"]: row for row in stored("trained-ml-1m")["rows"] if row["users"]}
    full, int8 = with_users["dense fp32"], with_users["dense int8"]
    assert f"{fitted[True, 320 << 10]:.4f} in 320 KiB; plain int8 {int8['ndcg']:.4f}" in advice
    assert f"in {format_bytes(int8['nbytes'])}, fp32 {full['ndcg']:.4f} in {format_bytes(full['nbytes'])}" in advice
    frontier = {
        (point["method"], point["budget"], point["precision"]): point for point in stored("frontier-ml-100k")["points"]
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
    rows = stored("papers")["rows"]
    least = {
        name: min(row["least_over_published"] for row in rows if row["data"] == name)
        for name in ("ml-1m", "gowalla", "yelp2018")
    }
    ml, gowalla, yelp = (int(100 * (one - 1)) for one in least.values())
    assert f"by {ml} % or more on MovieLens-1M, {gowalla} % on Gowalla, {yelp} % on Yelp2018" in advice
    assert all(row["export"].endswith("histories") and row["training"].startswith("svd") for row in rows)
