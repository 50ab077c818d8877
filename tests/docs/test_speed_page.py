"""Figures of the page of speed, equal to the committed results."""

from __future__ import annotations

from bench.experiments import data_build
from bench.experiments.fitted import cells as fitted_cells
from bench.experiments.fitted import operator_cells
from bench.experiments.scale.__main__ import SHORT
from edgerec.budget import format_bytes
from edgerec_bench import Result
from edgerec_bench.result.file import read_results
from edgerec_bench.result.process import INSTRUCTIONS
from edgerec_bench.result.scale import ScaleResult, scale_rows
from tests.docs.pages import ROOT, rows_of, stored

SPEED = (ROOT / "docs" / "research" / "speed.md").read_text()


def test_the_scale_figures_are_those_of_the_result() -> None:
    (result,) = read_results(ROOT / "bench" / "results" / "scale-1m.json")
    assert isinstance(result, ScaleResult)
    assert rows_of("scale", SPEED) == scale_rows(result, SHORT)


def test_the_figures_of_fitted_tables_are_those_of_the_result() -> None:
    rows = stored("fitted")["rows"]
    assert rows_of("fitted", SPEED) == [fitted_cells(row) for row in rows]


def test_the_figures_of_fitted_trained_tables_are_those_of_the_result() -> None:
    assert rows_of("fitted-trained", SPEED) == [fitted_cells(row) for row in stored("fitted-trained")["rows"]]


def test_the_instructions_of_fitted_tables_are_those_of_the_result() -> None:
    rows = stored("fitted-arm64")["rows"]
    for table, device in (("fitted-arm64", "arm64"), ("fitted-arm64-dot", "arm64:cortex-a76")):
        assert rows_of(table, SPEED) == [fitted_cells(row) for row in rows if row["device"] == device]
    shown = [row for row in rows if not row.get("max_ms") and row["stored"] != "dense int4"]
    assert rows_of("fitted-arm64-operators", SPEED) == [operator_cells(row) for row in shown]


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
    result = stored("streaming-10m")
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
    result = stored("evaluation-yelp2018")
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


def test_the_figures_of_builds_are_those_of_the_result() -> None:
    result = stored("data-build")
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
