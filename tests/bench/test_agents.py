"""Agents that are not Python, and clocks that do not count time: through figures, page, comparison and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgerec.cli.app import group
from edgerec.errors import BenchError
from edgerec_bench import Result, Settings, bench, bench_request, compare, read_results, report, write_results
from edgerec_bench.interleave import run_interleaved
from edgerec_bench.reports.plots import plots
from edgerec_bench.reports.text import report_text
from edgerec_bench.result.side_by_side import lines
from edgerec_devices.agent.clock import summary
from tests.bench.devices import Changed

QUICK = Settings(2, 20, 0.0, candidates=(50,))


def as_javascript(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Times of each call, a heap in place of a process's memory, and nothing that a page cannot know."""
    if request["task"] == "bare":
        return {"memory": {"wasm_heap": 1000}}
    scenarios = {
        name: {"first_ns": 9e6, "times_ns": [2e6, *[1e6] * 60]}
        for name in answer["scenarios"]
        if name != "recommend, raw ids"
    }
    return {"load_ms": answer["load_ms"], "memory": {"wasm_heap": 5000}, "scenarios": scenarios, "rows": []}


@pytest.fixture(scope="module")
def web(bundles: tuple[Path, Path]) -> Result:
    return bench_request(bundles[0], QUICK, device=Changed(as_javascript, runtime="browser"))


@pytest.fixture(scope="module")
def counted(bundles: tuple[Path, Path]) -> Result:
    return bench_request(bundles[0], QUICK, device=Changed(clock="instructions", clock_ns=1e9))


@pytest.mark.slow
def test_times_are_summarised_here(web: Result) -> None:
    (latency, _) = (process.scenarios["recommend"] for process in web.measured.processes)
    told = summary(9e6, [2e6, *[1e6] * 60])
    assert (latency.first_ms, latency.p50_ms, latency.count) == (9.0, 1.0, told["count"])
    assert latency.cpu_share is None
    assert list(web.measured.scenarios) == ["recommend", "score 50", "lookup"]


def test_what_a_page_cannot_know_is_absent_everywhere(web: Result, tmp_path: Path) -> None:
    assert web.runtime == "browser"
    assert web.measured.verify_ms is None
    assert web.measured.above_bare("wasm_heap") == 4000 * 1024
    assert web.measured.memory("VmHWM") is None
    (changes,) = (one.changes for one in compare([web], [web]))
    assert {"p50", "lookup", "load", "bytes"} <= {change.figure for change in changes}
    assert not any(change.figure in ("peak", "raw ids") for change in changes)
    report([web], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "browser" in page
    assert "WebAssembly" in page
    write_results(tmp_path / "r.json", [web])
    assert read_results(tmp_path / "r.json") == [web]


@pytest.mark.slow
def test_other_runtimes_are_unlike(web: Result, results: list[Result]) -> None:
    with pytest.raises(BenchError, match="runtime: 'python' and 'browser'"):
        compare(results[:1], [web])


@pytest.mark.slow
@pytest.mark.parametrize("said", [{"first_ns": 1, "times_ns": []}, {"times_ns": [1]}, 3, {"p50_ms": 1}])
def test_an_answer_without_figures_is_refused(bundles: tuple[Path, Path], said: object) -> None:
    device = Changed(lambda request, answer: {**answer, "scenarios": {"recommend": said}})
    with pytest.raises(BenchError, match="invalid agent response"):
        bench(bundles[0], processes=1, calls=5, seconds=0.0, device=device)


def test_scenarios_without_a_list_are_the_agents_own(bundles: tuple[Path, Path]) -> None:
    device = Changed()
    request = {
        "task": "bundle", "bundle": str(bundles[0]), "calls": 5, "seconds": 0, "k": 3, "exclude": 1, "history": 1,
        "candidates": [1, 50], "threads": 1, "seed": 0, "ask": [],
    }  # fmt: skip
    ((answer,),) = run_interleaved([("it", request)], 1, device)
    assert list(answer["scenarios"]) == ["recommend", "recommend, raw ids", "score 1", "score 50"]


def test_instructions_are_no_milliseconds(counted: Result) -> None:
    measured = counted.measured
    assert counted.clock.name == "instructions"
    assert measured.load_ms is measured.verify_ms is measured.cpu_share is None
    assert measured.figure("recommend", "first_ms") is None
    assert not any("timer" in warning or "other programs" in warning for warning in counted.warnings)
    groups = {line.group for line in lines([counted])}
    assert "Million instructions a call, warm" in groups
    assert not any("Milliseconds" in group for group in groups)


@pytest.mark.slow
def test_instructions_are_called_so_wherever_people_look(
    counted: Result, results: list[Result], tmp_path: Path
) -> None:
    report([counted], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "recommend p50, M instr." in page
    assert "counts\ninstructions" in page
    for text in (page.partition("</style>")[2], *(report_text([counted], form) for form in ("markdown", "csv"))):
        assert " ms" not in text
        assert "Milliseconds" not in text
        assert "latency" not in text.lower()
    both = [plot.svg for plot in plots([results[0], counted])]
    assert sum('aria-label="recommend p50, ms' in svg for svg in both) == 1
    assert sum('aria-label="recommend p50, M instr.' in svg for svg in both) == 1
    write_results(tmp_path / "r.json", [counted])
    shown = CliRunner().invoke(group, ["compare", str(tmp_path / "r.json"), str(tmp_path / "r.json")]).stdout
    assert "p50, M instr." in shown
    assert " ms" not in shown


def test_a_clock_of_instructions_is_unlike_and_never_compared_with_time(counted: Result, results: list[Result]) -> None:
    with pytest.raises(BenchError, match="clock: 'time' and 'instructions'"):
        compare(results[:1], [counted])
    (forced,) = compare(results[:1], [counted], force=True)
    assert [change.figure for change in forced.changes if change.unit != "bytes"] == []


def test_more_instructions_are_larger_not_slower(counted: Result) -> None:
    (same,) = compare([counted], [counted])
    assert {change.unit for change in same.changes} == {"M instr.", "bytes"}
    assert {change.verdict for change in same.changes} <= {"no difference found", "unstable"}
    assert same.machine is None
    assert not same.contested


@pytest.mark.parametrize("scenario", ["load", "sustained", "offline"])
def test_what_is_about_seconds_needs_a_clock_of_time(bundles: tuple[Path, Path], scenario: str) -> None:
    device = Changed(clock="instructions")
    with pytest.raises(BenchError, match=f"counts instructions, which cannot measure {scenario}"):
        bench(bundles[0], scenarios=("recommend", scenario), device=device)
    assert device.asked == []
