"""CONTRIBUTING.md: its layers are import-linter's, and the files that it sends readers to are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_layers_are_those_that_import_linter_holds() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    held = next(one["layers"] for one in settings["contracts"] if one["type"] == "layers")
    block = re.findall(r"^    (\S.*)$", section("The layers"), re.MULTILINE)
    assert [re.sub(r"\s{3,}.*", "", line) for line in block] == held


def test_files_that_it_names_are_there() -> None:
    """A name without a folder is in the folder of the one before, or next to it; NAME stands for many."""
    folder = Path()
    for name in re.findall(r"`([\w./-]+)`", section("The data's way") + section("To change ..., open ...")):
        if not re.search(r"\.(py|json|md)$|/$|NAME", name):
            continue
        place = name.partition("NAME")[0]
        found = next((at for at in (Path(place), folder / place, folder.parent / place) if (ROOT / at).exists()), None)
        assert found is not None, name
        folder = found if (ROOT / found).is_dir() else found.parent


def test_export_reads_through_at_most_twelve_files() -> None:
    steps = section("The data's way").partition("run → bundle")[2].partition("bundle → answer")[0]
    assert 1 <= len(re.findall(r"^\d+\.", steps, re.MULTILINE)) <= 12
