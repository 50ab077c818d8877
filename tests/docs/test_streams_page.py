"""The page of streams: its figures are those of the results."""

from __future__ import annotations

import json

import pytest

from edgerec_bench.streams import cells, segment_cells
from tests.docs.test_docs import ROOT, rows_of

PAGE = (ROOT / "docs" / "streams.md").read_text()
RESULTS = sorted((ROOT / "bench" / "results").glob("streams-*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_its_tables_are_those_of_the_result(path: str) -> None:
    rows = json.loads((ROOT / "bench" / "results" / path).read_text())["rows"]
    stem = (ROOT / "bench" / "results" / path).stem
    assert rows_of(stem, PAGE) == cells(rows)
    if f"<!-- {stem}-segments -->" in PAGE:
        assert rows_of(f"{stem}-segments", PAGE) == segment_cells(rows, rows[0]["budget"])


def test_scall_is_ahead_of_uniform_where_the_page_says_so() -> None:
    assert RESULTS
    for path in RESULTS:
        assert all(lead["relative"] > 0 for lead in json.loads(path.read_text())["leads"])
