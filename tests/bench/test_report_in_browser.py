"""The report and the frontier in a real browser: anyone can read them, nothing is cut off, fetched or complained of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgerec_bench import read_results, report
from edgerec_bench.frontier import Frontier, Point
from edgerec_bench.reports.frontier_page import write_page
from tests.devices.axe import cut_off, violations
from tests.devices.chrome import Chrome, chrome
from tests.devices.netlog import look_at
from tests.devices.web import need_programs

RESULTS = Path(__file__).parents[2] / "bench" / "results"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of recorded results, the report with bundles and a comparison at scale."""
    folder = tmp_path_factory.mktemp("pages")
    bundles = read_results(RESULTS / "arm64-layouts.json")
    report([*bundles[:2], *read_results(RESULTS / "scale-1m.json")], folder / "report.html")
    report(bundles, folder / "many.html")
    record = json.loads((RESULTS / "frontier-ml-100k.json").read_text())
    points = [Point.from_json(fields) for fields in record["points"]]
    frontier = Frontier(record["data"], record["settings"], points, ["a cell that failed"], record["command"])
    write_page(folder / "frontier.html", frontier)
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    need_programs("chromium")
    with chrome() as running:
        yield running


@pytest.mark.parametrize("name", ["report", pytest.param("many", marks=pytest.mark.slow), "frontier"])
@pytest.mark.parametrize("width", [1280, 390])
def test_anyone_can_read_it(pages: dict[str, Path], browser: Chrome, name: str, width: int) -> None:
    """axe-core finds nothing in the light and in the dark, and a phone shows everything without scrolling sideways."""
    for dark in (False, True):
        page = browser.open(pages[name].as_uri(), width=width, height=900, dark=dark)
        assert violations(page) == []
        if width < 600:
            assert cut_off(page) == []
        assert not page.complaints()


def test_what_is_cut_off_is_noticed(browser: Chrome, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<div style='overflow: auto; width: 300px'><p style='width: 500px'>long</p></div>"
    )
    page = browser.open((tmp_path / "bad.html").as_uri(), width=390, height=900)
    assert len(cut_off(page)) == 1
    assert "document-title" in dict(violations(page))


@pytest.mark.parametrize("name", ["report", "frontier"])
def test_no_complaint_and_no_request(pages: dict[str, Path], tmp_path: Path, name: str) -> None:
    need_programs("chromium")
    seen = look_at(pages[name], tmp_path)
    assert not seen.complaints
    assert not seen.requests


@pytest.mark.slow
def test_a_page_that_does_both_is_noticed(tmp_path: Path) -> None:
    need_programs("chromium")
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://127.0.0.1:1/pixel.png"><script>console.error("oh no"); broken()</script>')
    seen = look_at(page, tmp_path)
    assert any("oh no" in line for line in seen.complaints)
    assert any("broken is not defined" in line for line in seen.complaints)
    assert "http://127.0.0.1:1/pixel.png" in seen.requests
