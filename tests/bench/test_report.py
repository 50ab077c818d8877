"""The page: self-contained, complete, and honest about unlike devices."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgerec.errors import BenchError
from edgerec_bench import Result, read_results, report
from edgerec_bench.reports.headline import headline_of
from edgerec_bench.reports.plots import plots
from edgerec_bench.result.figures import Measured
from edgerec_bench.result.process import Process
from edgerec_bench.result.side_by_side import lines, milliseconds, reference, unlike_devices, with_unique_names

ROOT = Path(__file__).parents[2]


class References(HTMLParser):
    """Collects every attribute that could make a browser fetch something, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.outside += [
            f"{name}={value}"
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "data", "action", "srcset") and not (value or "").startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> References:
    parser = References()
    parser.feed(path.read_text())
    return parser


def test_the_page_fetches_nothing(results: list[Result], tmp_path: Path) -> None:
    report(results, tmp_path / "report.html")
    page, content = read(tmp_path / "report.html"), (tmp_path / "report.html").read_text()
    assert not page.outside
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "http:" not in content
    assert "https:" not in content
    assert "@import" not in content
    assert "prefers-color-scheme: dark" in content
    assert 'name="viewport"' in content


def test_the_page_shows_every_bundle_figure_and_command(results: list[Result], tmp_path: Path) -> None:
    report(results, tmp_path / "report.html")
    text = read(tmp_path / "report.html").text
    for expected in (
        "dense.bundle",
        "mixed.bundle",
        "NDCG@20",
        "0.2500",
        "recommend p50",
        "first call",
        results[0].command,
    ):
        assert expected in text
    assert "Unlike devices" not in text


def test_the_page_draws_every_chart_that_it_has_figures_for(results: list[Result], tmp_path: Path) -> None:
    report(results, tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text()
    labels = (
        "test NDCG@20",
        "recommend p50, ms",
        "recommend, ms by percentile",
        "size of the bundle",
        "items by width",
    )
    for label in labels:
        assert f'aria-label="{label}' in content
    older = [
        replace(
            result,
            bundle=replace(result.bundle, item_blocks=(), about={}),
            measured=Measured(tuple(_without_curves(process) for process in result.measured.processes)),
        )
        for result in results
    ]
    drawn = [plot.caption for plot in plots(older)]
    assert any("Time of one" in caption for caption in drawn)
    assert not any("Quality" in caption or "distributed" in caption or "width" in caption for caption in drawn)


def _without_curves(process: Process) -> Process:
    scenarios = {name: replace(latency, curve_ms={}) for name, latency in process.scenarios.items()}
    return replace(process, scenarios=scenarios, memory={}, yardstick_ms=None)


def test_charts_come_before_tables_and_the_sentence_before_both(results: list[Result], tmp_path: Path) -> None:
    report(results, tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text()
    sentence = headline_of(results, [], {}).sentence
    places = [content.index(part) for part in (f"<title>{sentence}", f"<h1>{sentence}", "<svg", "<table")]
    assert places == sorted(places)
    assert content.rindex("<svg") < content.index("<table")


def test_sizes_have_their_exact_bytes_and_no_chart_counts_in_mebibytes(results: list[Result], tmp_path: Path) -> None:
    report(results, tmp_path / "report.html")
    text = read(tmp_path / "report.html").text
    assert all(f"{result.bundle.nbytes:,} bytes" in text for result in results)
    assert ", MiB" not in text


def test_a_comparison_at_scale_names_no_target_of_ours(tmp_path: Path) -> None:
    report(read_results(ROOT / "bench" / "results" / "scale-1m.json"), tmp_path / "report.html")
    text = read(tmp_path / "report.html").text
    assert "EdgeRec mixed int8" in text
    assert not [word for word in ("at least", "at most", "bound", "missed", "target") if word in text]


def test_names_are_escaped(results: list[Result], tmp_path: Path) -> None:
    hostile = replace(results[0], bundle=replace(results[0].bundle, name="<script>alert(1)</script>"))
    report([hostile], tmp_path / "report.html")
    assert "script" not in read(tmp_path / "report.html").tags


def test_unlike_devices_are_pointed_out(results: list[Result], tmp_path: Path) -> None:
    other = replace(results[1], device={**results[1].device, "cpu": "another one"})
    assert unlike_devices(results) == []
    assert unlike_devices([results[0], other]) == ["cpu"]
    report([results[0], other], tmp_path / "report.html")
    assert "Unlike devices" in read(tmp_path / "report.html").text


def test_one_device_at_two_moments_is_one_device(results: list[Result], tmp_path: Path) -> None:
    moments = [replace(results[0], device={**results[0].device, "temperature_c": degrees}) for degrees in (41.5, 60.25)]
    report(moments, tmp_path / "report.html")
    assert "41.5, 60.25" in read(tmp_path / "report.html").text


def test_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no result to show"):
        report([], tmp_path / "report.html")


def test_ratios_are_to_the_dense_bundle(results: list[Result]) -> None:
    turned = results[::-1]
    assert reference(turned) == 1
    whole = next(line for line in lines(turned) if line.label == "bundle")
    assert whole.ratios == (f"{turned[0].bundle.nbytes / turned[1].bundle.nbytes:.2f}x", "")


def test_small_ratios_keep_two_digits(results: list[Result]) -> None:
    tiny = replace(results[0], bundle=replace(results[0].bundle, nbytes=results[0].bundle.nbytes // 256))
    whole = next(line for line in lines([results[0], tiny]) if line.label == "bundle")
    assert whole.ratios == ("", "0.0039x")


def test_a_bundle_before_and_after_has_two_names(results: list[Result], tmp_path: Path) -> None:
    report([results[0], results[0]], tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text()
    assert content.count("dense.bundle (2)<") == content.count("dense.bundle<") > 4, "in the table and in every chart"


def test_a_bundle_on_several_devices_is_named_by_what_answered(results: list[Result], tmp_path: Path) -> None:
    first = results[0]
    kernel = {"provider": "kernel"}
    board = {**kernel, "clock": "instructions", "cpu": "Cortex-M4F (emulated)"}
    others = (kernel, {**kernel, "runtime": "browser"}, {**kernel, "runtime": "node"}, {"runtime": "node"}, board)
    taken = [first, *(replace(first, device={**first.device, **facts}) for facts in (*others, kernel))]
    wanted = ["onnxruntime", "kernel", "kernel in browser", "kernel in node", "onnxruntime in node"]
    wanted += ["kernel on Cortex-M4F (emulated)", "kernel (2)"]
    names = [f"dense.bundle, {one}" for one in wanted]
    assert [one.bundle.name for one in with_unique_names(taken)] == names
    assert "provider" in unlike_devices(taken[:2])
    report(taken, tmp_path / "report.html")
    content = read(tmp_path / "report.html").text
    assert all(name in content for name in names)


def test_a_bundle_has_its_colour_in_every_chart(results: list[Result]) -> None:
    """Where the first has no figure for a chart, the second does not take its colour over."""
    unmeasured = replace(results[0], bundle=replace(results[0].bundle, about={}))
    quality, time, *_ = (plot.svg for plot in plots([unmeasured, results[1]]))
    assert "test NDCG@20" in quality
    assert "var(--series-0)" not in quality
    assert "var(--series-1)" in quality
    assert "var(--series-0)" in time


def test_parts_share_no_colour(results: list[Result]) -> None:
    parts = {f"part {number}": 1 + number for number in range(12)}
    crowded = replace(results[0], bundle=replace(results[0].bundle, parts=parts, nbytes=sum(parts.values())))
    (chart,) = (plot.svg for plot in plots([crowded]) if "by part" in plot.caption)
    assert "the rest" in chart
    assert all(f"part {number}<" in chart for number in range(5, 12))
    assert "part 4<" not in chart


def test_milliseconds_read_well() -> None:
    assert [milliseconds(value) for value in (0.04123, 1.5, 722.4)] == ["0.0412", "1.50", "722"]
