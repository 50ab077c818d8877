"""Suites: every committed result has a step, what is made is kept, and what cannot be made is told."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from pathlib import Path

import pytest

from edgerec.errors import BenchError, StorageError
from edgerec_bench.suites import Step, commands_in, read_suite, run_suite, suites
from tests.conftest import CommandLine, interrupted

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "bench" / "results").glob("*.json"))
NAMES = ("arm64", "paper", "peers", "runtime", "scale", "smoke", "streams")
TRAIN = "edgerec train synthetic:60x40x900 --backbone svd --method dense --dimensions 4 --out {folder}/run"


@pytest.fixture
def steps() -> dict[str, Step]:
    return {step.name: step for name in suites() for step in read_suite(name).steps}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_committed_result_has_a_step_that_makes_it(path: Path, steps: dict[str, Step]) -> None:
    """Its command is the recorded one, so that the suite also takes the file for made."""
    step = steps[path.stem]
    assert step.makes == path.name
    assert commands_in(path) == step.recorded
    assert step.is_made(path.parent)


def test_every_result_that_a_page_names_has_a_step(steps: dict[str, Step]) -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]
    named = {name for page in pages for name in re.findall(r"results/([\w.-]+)\.json", page.read_text())}
    assert named <= set(steps)


def test_the_suites_are_there_and_every_step_is_one_of_our_commands(steps: dict[str, Step], tmp_path: Path) -> None:
    assert tuple(suites()) == NAMES
    for step in steps.values():
        program, *words = shlex.split(step.command)
        assert program == "edgerec" or words[1].startswith("edgerec_bench.")
        assert "--out" in words
        assert "{" not in "".join(step.arguments(tmp_path))


def test_an_installed_package_has_them(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"edgerec_bench/suites/{name}.toml" for name in NAMES} <= set(names)


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_what_is_made_is_not_made_again(tmp_path: Path, command_line: CommandLine) -> None:
    write(
        tmp_path,
        f"""
        about = "two steps, the second from the first"
        [run]
        command = "{TRAIN}"
        makes = "run/run.json"
        [bundle]
        command = "edgerec export {{folder}}/run --no-verify --out {{folder}}/bundle"
        makes = "bundle/manifest.json"
        """,
    )
    first = command_line("suite", "mine.toml", "--out", "out", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "made in" in first.stdout
    made = (tmp_path / "out" / "run" / "run.json").stat().st_mtime_ns
    again = command_line("suite", "mine.toml", "--out", "out", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["kept"] == ["run", "bundle"]
    assert (tmp_path / "out" / "run" / "run.json").stat().st_mtime_ns == made
    listed = command_line("suite", "mine.toml", "--out", "out", "--list", "--json", cwd=tmp_path)
    assert [row["made"] for row in json.loads(listed.stdout)] == [True, True]


def test_failures_and_absent_data_are_told_and_the_rest_is_made(tmp_path: Path, command_line: CommandLine) -> None:
    write(
        tmp_path,
        f"""
        [fails]
        command = "edgerec export nowhere --out {{out}}"
        [absent]
        command = "edgerec train lastfm --out {{out}}"
        data = ["synthetic", "lastfm"]
        [run]
        command = "{TRAIN}"
        makes = "run/run.json"
        """,
    )
    environment = pytest.MonkeyPatch()
    environment.setenv("EDGEREC_DATA", str(tmp_path / "no data"))
    with environment.context():
        done = command_line("suite", "mine.toml", cwd=tmp_path)
    environment.undo()
    assert done.returncode == 2
    assert (tmp_path / "mine" / "run" / "run.json").exists()
    error = done.stderr.splitlines()[-1]
    assert "fails: status 2" in error
    assert "edgerec data show lastfm" in error
    assert "SKIPPED" in done.stdout


def test_ctrl_c_keeps_what_is_made(tmp_path: Path, command_line: CommandLine) -> None:
    long = "edgerec train synthetic:300x200x9000 --backbone mf --method dense --epochs 100000 --patience 100000"
    write(
        tmp_path,
        f"""
        [run]
        command = "{TRAIN}"
        makes = "run/run.json"
        [long]
        command = "{long} --out {{folder}}/long"
        makes = "long/run.json"
        """,
    )
    out = tmp_path / "out"
    stopped = interrupted(["suite", "mine.toml", "--out", "out"], lambda: (out / "long").exists(), cwd=tmp_path)
    assert stopped.returncode == 130
    assert "the same command goes on" in stopped.stderr
    listed = command_line("suite", "mine.toml", "--out", "out", "--list", "--json", cwd=tmp_path)
    assert [row["made"] for row in json.loads(listed.stdout)] == [True, False]


def test_a_file_of_another_command_is_kept_and_named(tmp_path: Path) -> None:
    step = read_suite("peers").steps[0]
    path = tmp_path / step.makes
    path.write_text(json.dumps([{"command": "python -m edgerec_bench.scale --items 7"}]))
    with pytest.raises(BenchError, match=r"peers-10k\.json was made by another command .*--items 7"):
        run_suite([step], tmp_path, print)
    assert "--items 7" in path.read_text()


def test_the_beginning_of_a_list_is_gone_on_with(tmp_path: Path, steps: dict[str, Step]) -> None:
    step = steps["scale-growth"]
    for size in (0, 2, 4):
        results = [{"command": command} for command in step.recorded[:size]]
        (tmp_path / step.makes).write_text(json.dumps(results))
        assert step.is_made(tmp_path) == (size == 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "is no TOML"),
        ("about = 'nothing'", "holds no step"),
        ("[a]\nmakes = 'x'", "no table with a command"),
        ("[a]\ncommand = 'rm x'", "runs 'rm'"),
        ("[a]\ncommand = ''", "runs ''"),
        ("[a]\ncommand = 'edgerec data list'\nspeed = 1", "cannot have speed"),
        ("[a]\ncommand = 'edgerec data list'\ndata = 'films'", "needs the data 'films'"),
        ("[a]\ncommand = 'edgerec data list'\ndata = ['ml-1m', 'films']", "needs the data 'films'"),
    ],
)
def test_a_file_that_is_no_suite_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=said):
        read_suite(str(write(tmp_path, text)))


def test_the_pages_suite_is_one(tmp_path: Path) -> None:
    page = (ROOT / "bench" / "README.md").read_text()
    written = write(tmp_path, page.partition("```toml\n")[2].partition("```")[0])
    assert [step.name for step in read_suite(str(written)).steps] == ["films", "quality"]


def test_unknown_names_are_told(tmp_path: Path, command_line: CommandLine) -> None:
    with pytest.raises(BenchError, match="no suite 'papers'; there are: arm64, paper, peers"):
        read_suite("papers")
    with pytest.raises(StorageError):
        read_suite(str(tmp_path / "absent.toml"))
    for arguments, said in ((["suite"], "name a suite"), (["suite", "smoke", "--only", "x"], "no step 'x'")):
        done = command_line(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert "smoke" in command_line("suite", "--list").stdout
