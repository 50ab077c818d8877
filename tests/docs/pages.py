"""Pages of the documentation, their blocks of code and their tables, for tests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STREAMS = (ROOT / "docs" / "research" / "streams.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def rows_of(label: str, page: str) -> list[list[str]]:
    """The cells of the page's table behind the comment of that name."""
    table = page.partition(f"<!-- {label} -->")[2].strip().split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def stored(name: str) -> Any:
    """A committed result."""
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())
