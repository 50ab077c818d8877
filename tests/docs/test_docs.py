"""Documentation that is run, and the references: the README's commands and code, the command line, layers, names."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from edgerec.cli.reference import reference
from edgerec.console import print_table
from edgerec.methods import METHODS, backbones_of
from edgerec.models import BACKBONES
from edgerec.runtime import Recommender
from tests.conftest import CommandLine
from tests.docs.pages import ROOT, blocks

README = (ROOT / "README.md").read_text()
SMALL = "synthetic:300x200x9000"


@pytest.fixture
def films(tmp_path: Path, command_line: CommandLine) -> Path:
    """A folder in which the README's commands were run, on made-up data for MovieLens."""
    (transcript,) = blocks(README, "console")
    for line in transcript.splitlines():
        command = shlex.split(line.removeprefix("$ ").replace("ml-100k", SMALL))
        done = command_line(*command[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    return tmp_path


@pytest.mark.slow
def test_the_readmes_commands_and_code_run(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (films / "report.html").exists()
    monkeypatch.chdir(films)
    in_app, from_python = blocks(README, "python")
    exec(in_app.replace("[50, 181]", "[5, 18]"), {})
    exec(from_python.replace('load_data("ml-100k")', f'load_data("{SMALL}")'), {})
    assert (films / "small.bundle" / "manifest.json").exists()


def test_the_training_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks((ROOT / "docs" / "guide" / "train.md").read_text(), "python")
    exec(code.replace('load_data("ml-100k")', f'load_data("{SMALL}")'), {})
    assert (tmp_path / "runs" / "films" / "run.json").exists()


def test_the_command_lines_reference_is_true() -> None:
    page = ROOT / "docs" / "reference" / "cli.md"
    assert page.read_text() == reference(), "python -m edgerec.cli.reference > docs/reference/cli.md"


def test_the_layers_are_those_that_are_held() -> None:
    (contract, *_) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    told = (ROOT / "CONTRIBUTING.md").read_text().partition("import-linter holds who may import whom:\n\n")[2]
    lines = [line.strip().partition("   ")[0] for line in told.partition("\n\n")[0].splitlines()]
    assert lines == contract["layers"]


def test_the_methods_backbones_are_those_that_there_are() -> None:
    table = (
        (ROOT / "docs" / "reference" / "settings.md").read_text().partition("\n## Methods\n")[2].partition("\n\n## ")[0]
    )
    told = {name: set(BACKBONES) for name in METHODS}
    for line in table.splitlines():
        if found := re.fullmatch(r"\| (.*?) \| .*?(?:all backbones but (.*))? \|", line):
            for name in re.findall(r"`(\w+)`", found[1]):
                told[name] = set(BACKBONES) - set(re.findall(r"`(\w+)`", found[2] or ""))
    assert told == {name: set(backbones_of(name)) for name in METHODS}


def test_the_page_on_bundles_without_users_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("items.npy", rng.standard_normal((200, 8)))
    np.save("counts.npy", np.arange(200))
    in_app, vectors, neighbours, own = blocks((ROOT / "docs" / "guide" / "no-users.md").read_text(), "python")
    exec(vectors, {})
    exec(own, {})
    exec(neighbours, {})
    assert [one.item for one in Recommender.load("neighbours.edgerec").recommend(history=[0], k=2)] == [1, 2]
    assert Recommender.load("sum.bundle").n_users == 0
    exec(in_app.replace("films.bundle", "sum.bundle"), {})


def test_tables_are_readable_without_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ["name", "a number"], [["x" * 100, 1.5]])
    assert "x" * 100 in capsys.readouterr().out


def test_the_api_pages_names_are_those_of_the_packages() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    named = set(re.findall(r"`(edgerec(?:_\w+)?|Recommender)\.(\w+)", page))
    packages = {name: import_module(name) for name in ("edgerec", "edgerec_export", "edgerec_bench", "edgerec_devices")}
    for owner, name in named:
        assert hasattr(packages.get(owner, Recommender), name), f"{owner}.{name}"
    public = {name for name, member in vars(Recommender).items() if not name.startswith("_") and name != "manifest"}
    assert public <= {name for owner, name in named if owner == "Recommender"}
