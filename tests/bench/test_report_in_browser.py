"""The report, opened in a real browser: it complains of nothing and fetches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgerec_bench import Result, report
from tests.devices.netlog import look_at
from tests.devices.web import need_programs


@pytest.mark.parametrize("width", [1200, 500])
def test_no_complaint_and_no_request(results: list[Result], tmp_path: Path, width: int) -> None:
    need_programs("chromium")
    report(results, tmp_path / "report.html")
    seen = look_at(tmp_path / "report.html", tmp_path, width=width)
    assert not seen.complaints
    assert not seen.requests


def test_a_page_that_does_both_is_noticed(tmp_path: Path) -> None:
    need_programs("chromium")
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://127.0.0.1:1/pixel.png"><script>console.error("oh no"); broken()</script>')
    seen = look_at(page, tmp_path)
    assert any("oh no" in line for line in seen.complaints)
    assert any("broken is not defined" in line for line in seen.complaints)
    assert "http://127.0.0.1:1/pixel.png" in seen.requests
