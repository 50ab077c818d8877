"""What Java and C are built from says what the specification does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec_sources import FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_sources_are_those_of_the_specification(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path](), "make them again: python -m tests.spec_sources"
