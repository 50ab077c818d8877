"""The comparison of ways to answer from an allow-list: it runs, and its ways answer alike."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from click.testing import CliRunner

from bench.experiments.allow import DIMENSIONS, FORMS, LENGTHS, WAYS, main


def test_every_way_is_timed_in_every_form(tmp_path: Path) -> None:
    out = tmp_path / "allow.json"
    done = CliRunner().invoke(main, ["--items", "5000", "--rounds", "1", "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    result = json.loads(out.read_text())
    rows = result["rows"]
    assert {(row["layout"], row["precision"]) for row in rows} == set(FORMS)
    assert {row["way"] for row in rows} == set(WAYS)
    assert {row["length"] for row in rows} == {100, 1000, 3000}
    assert all(0 < row["least_ms"] <= row["median_ms"] for row in rows)


def test_the_committed_figures_bear_out_what_the_specification_says() -> None:
    result = json.loads((Path(__file__).parents[2] / "bench" / "results" / "allow-1m.json").read_text())
    assert result["settings"]["items"] == 1_000_000
    taken = {(row["layout"], row["precision"], row["length"], row["way"]): row["median_ms"] for row in result["rows"]}
    _, scored, rest, own_input = WAYS
    gains = []
    for form, length in product(FORMS, LENGTHS):
        ways = {way: taken[(*form, length, way)] for way in WAYS}
        # The runtime takes the cheaper of its two ways on either side of items / d, 15,625 here.
        assert (ways[scored] < ways[rest]) == (length <= 1_000_000 // DIMENSIONS)
        gains.append(min(ways[scored], ways[rest]) / ways[own_input])
    assert 5 <= max(gains) < 6
