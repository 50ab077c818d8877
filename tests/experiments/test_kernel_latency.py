"""The tables of the kernel's latency are those of the committed results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.experiments.kernel_latency import COLUMNS, cells
from edgerec_bench.result import markdown

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["kernel-latency", "kernel-latency-trained"])
def test_the_documentation_shows_the_results(name: str) -> None:
    rows = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    page = (ROOT / "devices" / "kernel" / "README.md").read_text(encoding="utf-8")
    assert f"<!-- {name} -->\n{markdown(COLUMNS, cells(rows))}\n" in page
