"""The comparison at scale, at a small scale: tables, contenders, answers, targets and how they are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiments.scale import __main__ as program
from bench.experiments.scale import contenders as scale_contenders
from bench.experiments.scale import measure as scale
from bench.experiments.scale.__main__ import growth_columns, growth_rows, main
from bench.experiments.scale.contenders import BASELINE, CONTENDERS, MIXED, contenders_named
from bench.experiments.scale.measure import compare
from bench.experiments.scale.plain import plain_dense
from bench.experiments.scale.profiling import summary, without_profiler
from bench.experiments.scale.tables import WIDTHS, TablePair, mixed_items, unstructured_items
from bench.experiments.scale.targets import PROMISES, targets, write_with_targets
from edgerec.errors import BenchError
from edgerec_bench import read_results, report
from edgerec_bench.calibrate import dense_users, sparse_users
from edgerec_bench.result.scale import COLUMNS, ScaleResult, markdown, scale_rows, scale_warnings
from tests.bench.conftest import status_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ALL = "plain dense, no prepacking", "mixed fp32", "mixed int8", "ell fp32", "csc int8", "csr int8", "usearch exact"


@pytest.fixture(scope="module")
def result() -> ScaleResult:
    patch = pytest.MonkeyPatch()
    patch.setattr(scale, "CALL_SETTINGS", {**scale.CALL_SETTINGS, "seconds": 0.0})
    patch.setattr(scale_contenders, "CALLS", 20)
    with patch.context():
        return compare(6000, dimensions=16, users=50, rounds=2, only=ALL)


def test_every_exact_contender_answers_with_numpys_best(result: ScaleResult) -> None:
    assert [one.name for one in result.contenders][:2] == ["plain dense ONNX", "plain dense, no prepacking"]
    shares = {one.name: one.same_top for one in result.contenders}
    assert all(share == 1 for name, share in shares.items() if "int8" not in name)
    assert min(shares.values()) > 0.8


def test_small_layouts_are_smaller_and_ids_are_counted_apart(result: ScaleResult) -> None:
    by_name = {one.name: one for one in result.contenders}
    mixed = by_name["EdgeRec mixed fp32"]
    assert by_name["EdgeRec mixed int8"].nbytes < mixed.nbytes < by_name["plain dense ONNX"].nbytes
    assert 6000 * 2 < mixed.excluded_nbytes < 6000 * 2.5  # float16 norms, and ids of less than half a byte
    assert result.share(mixed) == (mixed.nbytes - mixed.excluded_nbytes) / (4 * 16 * 6050)


def test_a_ratio_is_of_one_round(result: ScaleResult) -> None:
    baseline, other = result.contenders[0], result.contenders[1]
    pairs = zip(baseline.measured.each(), other.measured.each(), strict=True)
    assert result.ratios(other) == [one / two for one, two in pairs]
    assert min(result.ratios(other)) <= result.faster(other) <= max(result.ratios(other))
    assert result.ratios(baseline) == [1, 1]


def test_every_bundle_scores_candidates_and_opens_its_graphs(result: ScaleResult) -> None:
    for one in result.contenders:
        assert (one.score_ms(1000) is not None) == (one.kind == "bundle")
        assert list(one.pss) == (["recommend", "score", "similar"] if one.kind == "bundle" else [])


def test_a_missing_library_is_told_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without(scale.PeersDevice):
        def run(self, request: dict[str, Any]) -> dict[str, Any]:
            if request["task"] == "index":
                raise BenchError("the measuring process failed: faiss is not installed: pip install 'edgerec[peers]'")
            return super().run({**request, "seconds": 0.0})

    taken = compare(500, dimensions=8, users=5, rounds=1, only=["faiss SQ8"], device=Without())
    assert [one.name for one in taken.contenders] == ["plain dense ONNX"]
    assert taken.left_out == (("faiss SQ8", "faiss is not installed: pip install 'edgerec[peers]'"),)
    assert scale_rows(taken)[-1][:2] == list(taken.left_out[0])


def test_it_comes_back_equal_and_shows_on_the_page(
    result: ScaleResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_scale = replace(result, items=1_000_000, dimensions=64)  # where the targets are
    write_with_targets(tmp_path / "scale.json", [at_scale])
    assert read_results(tmp_path / "scale.json") == [at_scale]
    written = json.loads((tmp_path / "scale.json").read_text())
    assert {target["contender"] for target in written["targets"]} >= {"EdgeRec mixed fp32", "EdgeRec csc int8"}
    report([at_scale], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "EdgeRec mixed fp32" in page
    assert "times faster" in page
    assert status_of(main, ["--show", str(tmp_path / "scale.json")]) == 0
    assert all(target.text in " ".join(capsys.readouterr().out.split()) for target in targets(at_scale)[:1])
    assert status_of(main, ["--show", str(tmp_path / "scale.json"), "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("|  | p50 ms |")


def test_a_result_of_the_older_version_is_refused(result: ScaleResult, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps({**result.to_json(), "version": 1}))
    with pytest.raises(BenchError, match="version 1 is no longer read"):
        read_results(tmp_path / "old.json")


def test_targets_compare_with_what_was_promised(result: ScaleResult) -> None:
    assert targets(result) == []  # of another size nothing was promised
    found = targets(replace(result, items=1_000_000, dimensions=64))
    figures = {(target.contender, target.figure): target for target in found}
    peak = figures["EdgeRec csc int8", "peak memory"]
    (csc,) = (one for one in result.contenders if one.name == "EdgeRec csc int8")
    assert peak.bound == 2 * csc.nbytes + 10_000_000 + 4_000_000
    assert peak.met == (peak.got <= peak.bound)
    assert figures["EdgeRec mixed int8", "times faster"].bound == 18
    assert figures["EdgeRec mixed int8", "score of 1000 candidates"].bound == 0.3
    assert figures["EdgeRec csr int8", "score of 1000 candidates"].bound == 0.9
    assert figures["EdgeRec csr int8", "one more graph"].bound == 15e6


def test_every_promise_is_of_a_contender() -> None:
    assert set(PROMISES) <= {spec.name for spec in CONTENDERS}


def test_doubtful_rounds_are_told(result: ScaleResult) -> None:
    other = result.contenders[1]
    first, second = other.measured.processes
    calls = second.scenarios["recommend"]
    slow = replace(second, scenarios={"recommend": replace(calls, p50_ms=9 * calls.p50_ms, cpu_share=0.5)})
    measured = replace(other.measured, processes=(replace(first, scenarios=slow.scenarios), second))
    shaken = replace(result, contenders=(result.contenders[0], replace(other, measured=measured)))
    told = " ".join(scale_warnings(shaken))
    assert "other programs took up to" in told
    assert f"{other.name}: fresh processes differ by" in told
    assert "--rounds 10" in told


def test_growth_shows_every_size(result: ScaleResult) -> None:
    smaller = replace(result, items=600, contenders=result.contenders[:-1])
    assert growth_columns([smaller, result]) == ["", "600 items", "6,000 items"]
    rows = growth_rows([smaller, result])
    assert [row[0] for row in rows] == [one.name for one in result.contenders]
    assert rows[-1][1] == "-"
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_a_growth_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "CALL_SETTINGS", {**scale.CALL_SETTINGS, "seconds": 0.0})
    monkeypatch.setattr(scale_contenders, "CALLS", 5)
    words = ["--growth", "--dimensions", "8", "--users", "5", "--rounds", "1", "--only", "mixed int8"]
    words += ["--out", str(tmp_path / "growth.json")]
    monkeypatch.setattr(program, "GROWTH", (500,))
    assert status_of(main, words) == 0
    (first,) = read_results(tmp_path / "growth.json")
    monkeypatch.setattr(program, "GROWTH", (500, 600))
    assert status_of(main, words) == 0
    kept, second = read_results(tmp_path / "growth.json")
    assert kept == first
    assert second.command == first.command.replace("--items 500", "--items 600")


def test_rows_have_a_cell_for_every_column(result: ScaleResult) -> None:
    assert all(len(row) == len(COLUMNS) for row in scale_rows(result))


def test_a_profile_counts_a_loops_body_apart() -> None:
    def event(name: str, ts: int, dur: int) -> dict[str, Any]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": name}}

    run = {"cat": "Session", "name": "model_run", "args": {}}
    events = [
        {**run, "ts": 0, "dur": 99}, event("Mul", 5, 90),  # a call that warms up
        {**run, "ts": 100, "dur": 50}, event("Loop", 101, 40), event("Mul", 102, 30), event("TopK", 145, 4),
        {**run, "ts": 200, "dur": 50}, event("Loop", 201, 40), event("Mul", 202, 30), event("TopK", 245, 4),
    ]  # fmt: skip
    told = summary(events, 2)
    assert told["p50_ms"] == 0.05
    assert told["operators"] == {
        "Mul": {"ms": 0.03, "count": 1},
        "Loop": {"ms": 0.01, "count": 1},
        "TopK": {"ms": 0.004, "count": 1},
    }


def test_operators_are_counted_without_the_profiler() -> None:
    operators = {"MatMul": {"ms": 0.5, "count": 1}, "Shape": {"ms": 0.08, "count": 4}, "Add": {"ms": 0.07, "count": 2}}
    own = without_profiler(operators)
    assert {name: (pytest.approx(spent["ms"]), spent["count"]) for name, spent in own.items()} == {
        "MatMul": (0.48, 1),
        "Shape": (0.0, 4),
        "Add": (0.03, 2),
    }


def test_a_bundle_is_profiled_by_operator(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(main, ["--items", "1000", "--dimensions", "8", "--users", "5", "--profile", "mixed int8"]) == 0
    shown = capsys.readouterr().out
    assert "MatMulInteger" in shown
    assert "ms a call under the profiler" in shown


def test_a_wrong_answer_is_no_contender() -> None:
    scores = np.arange(100, dtype=np.float32)[None]
    with pytest.raises(BenchError, match="its speed means nothing"):
        scale._same_top(BASELINE, [list(range(20))], scores, np.array([80], np.float32))
    rounding = replace(BASELINE, exact=False)
    assert scale._same_top(rounding, [list(range(70, 90))], scores, np.array([80], np.float32)) == 0.5


def test_a_tenth_of_the_values_is_kept() -> None:
    mixed, sparse = mixed_items(50_000, 64), unstructured_items(50_000, 64)
    assert abs(mixed.n_values / (50_000 * 64) - 0.1) < 0.001
    assert np.unique(mixed.row_sizes).tolist() == WIDTHS.tolist()
    assert 0.09 < sparse.n_values / (50_000 * 64) < 0.11
    assert sparse.sizes().min() >= 1
    users = sparse_users(2000, 64)
    assert 0.09 < users.n_values / (2000 * 64) < 0.11


def test_the_best_are_numpys() -> None:
    pair = TablePair(mixed_items(500, 8), dense_users(3, 8))
    scores, limit = pair.best([0, 2], 20)
    expected = pair.users.rows([0, 2]) @ pair.items.dense().T
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(limit, np.sort(expected, axis=1)[:, -20], rtol=1e-5, atol=1e-6)


def test_two_gigabytes_go_beside_the_plain_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr("bench.experiments.scale.plain.LARGEST_FILE", 100)
    pair = TablePair(mixed_items(500, 8), dense_users(3, 8))
    nbytes = plain_dense(pair.items.dense(), pair.users.dense(), tmp_path / "plain.onnx")
    assert nbytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert (tmp_path / "plain.bin").stat().st_size == 4 * 500 * 8
    session = onnxruntime.InferenceSession(str(tmp_path / "plain.onnx"))
    items, scores = session.run(None, {"user": np.array([1])})
    best, _ = pair.best([1], 20)
    np.testing.assert_allclose(scores[0], best[0][items[0]], rtol=1e-5)


def test_names_choose_contenders() -> None:
    assert [spec.name for spec in contenders_named(["mixed int8"])] == ["plain dense ONNX", "EdgeRec mixed int8"]
    assert contenders_named([]) == CONTENDERS
    assert all(spec.tables == MIXED for spec in CONTENDERS if spec.kind != "bundle")


@pytest.mark.parametrize(
    "words", [["--items", "3"], ["--only", "no such"], ["--profile", "faiss SQ8"], ["--show", "no-such.json"]]
)
def test_what_cannot_be_done_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(main, words) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert shown[0].startswith("Error: ")
