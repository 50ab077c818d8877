"""The figures of the Makefile: each committed result has one, and what it runs is what the record says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from bench.experiments.harness import Figures, cached, experiment, next_to_out, time_interleaved
from edgerec.cli.app import group
from edgerec.cli.reproduce import command as reproduce
from edgerec_bench.command import ASIDE, typed
from edgerec_bench.reproduce import PAPERS
from tests.bench.conftest import status_of

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "bench" / "experiments"
RENAMED = {"--oracle ials": "--proxy ials", "ciess.ship=": "ciess.candidate_sources="}
MODULES = {
    "by_heart": "validation_overfitting",
    "oracle": "proxy_ranking",
    "search_oracles": "search_proxies",
    "streaming": "out_of_core_export",
}
RESULTS = sorted((ROOT / "bench" / "results").glob("*.json"))
GROUPS = ("paper", "scale", "peers", "robustness", "streams", "arm64", "smoke")


def make(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--silent", "--directory", str(EXPERIMENTS), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def listed() -> dict[str, str]:
    done = make("list")
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


FIGURES = listed()
RECORDED = [
    name
    for name, command in FIGURES.items()
    if command.startswith("python -m bench.experiments.") and " bench.experiments.scale " not in command
]
"""Figures that the harness records; a comparison at scale writes results."""


def commands_in(path: Path) -> list[str]:
    """The commands that a committed result says it was made by, each once, as they are typed today."""
    content = json.loads(path.read_bytes())
    results = content if isinstance(content, list) else [content]
    return list(dict.fromkeys(today(shlex.join(shlex.split(result["command"]))) for result in results))


def today(command: str) -> str:
    """Return a command as it is typed today: bench/README.md says which names are new."""
    for before, now in RENAMED.items():
        command = command.replace(before, now)
    found = re.match(r"python -m edgerec_bench\.(\w+)", command)
    module = found and MODULES.get(found[1], found[1])
    if found and module and any((EXPERIMENTS / path).exists() for path in (f"{module}.py", module)):
        return command.replace(f"edgerec_bench.{found[1]}", f"bench.experiments.{module}", 1)
    return command


def by_option(command: str) -> list[str]:
    """Return the program and its options, sorted by name: the help's groups decide their order in a record."""
    return sorted(re.split(r" (?=--)", command), key=lambda part: part.split()[0])


def recorded(name: str) -> list[str]:
    """What a figure's file says of its command, or of the commands of its parts."""
    command = shlex.join(shlex.split(FIGURES[name].replace("python -m edgerec.cli ", "edgerec ")))
    if name == "scale-growth":
        return [command.replace("--growth", f"--items {items}") for items in (10_000, 100_000, 1_000_000, 10_000_000)]
    if name == "arm64-layouts":  # bench writes its settings, too
        more = " --seconds 0.0 -k 20 --exclude 20 --threads 1"
        return [command.replace("256M", str(256 << 20)) + more]
    return [command]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_committed_result_has_a_figure_that_makes_it(path: Path) -> None:
    assert commands_in(path) == recorded(path.stem)


def test_every_result_that_a_page_names_has_a_figure() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("docs/**/*.md")]
    named = {name for page in pages for name in re.findall(r"results/([\w.-]+)\.json", page.read_text())}
    assert named <= set(FIGURES)


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_makes_each_of_its_figures_by_its_own_command(name: str, tmp_path: Path) -> None:
    done = make(name, "--dry-run", f"OUT={tmp_path}")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "--out" in line]
    made = {shlex.split(line)[-1] for line in lines}
    assert all(Path(path).is_relative_to(tmp_path) for path in made)
    assert len(made) == len(lines) >= 1


def test_a_file_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    assert make("fuzz", "--question", f"OUT={tmp_path}").returncode == 1
    (tmp_path / "fuzz.json").touch()
    assert make("fuzz", "--question", f"OUT={tmp_path}").returncode == 0


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_figure_types_is_what_its_record_will_say(name: str) -> None:
    words = shlex.split(FIGURES[name])
    command = import_module(words[2]).main
    place = 3
    if isinstance(command, click.Group):
        command, place = command.commands[words[3]], 4
    context = command.make_context(None, [*words[place:], "--out", "x.json"])
    assert [typed(context, *words[:place])] == recorded(name)


def test_what_a_reproduction_types_is_what_its_record_will_say() -> None:
    names = [name for name, command in FIGURES.items() if " reproduce " in command]
    assert {FIGURES[name].split()[4] for name in names} == set(PAPERS)
    above = click.Context(group, **group.context_settings)  # click keeps the help option of a command's first context
    for name in names:
        context = reproduce.make_context(None, shlex.split(FIGURES[name])[4:], parent=above)
        said = typed(context, "edgerec", "reproduce", aside=(*ASIDE, "minutes"))
        assert by_option(said) == by_option(*recorded(name))


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("bench.experiments.no_users", ["--data", "no-such"], "no-such"),
        ("bench.experiments.sparse_quality", ["--data", "no-such", "--out", "never.json"], "no-such"),
        ("bench.experiments.sparse_training", ["ablation", "--data", "no-such"], "no-such"),
        ("bench.experiments.scale.__main__", ["--growth", "--profile", "mixed int8"], "give one of them"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    module: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(import_module(module).main, words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert said in line


def test_a_record_says_what_was_typed_and_what_was_not(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    words = ["--users", "200", "--items", "100", "--note", "quiet", "--out", str(out), "--dimensions", "16"]
    assert status_of(import_module("bench.experiments.search_speed").main, words) == 0
    record = json.loads(out.read_text())
    assert record["command"] == "python -m bench.experiments.search_speed --users 200 --items 100 --dimensions 16"
    assert record["options"] == {"users": 200, "items": 100, "dimensions": 16, "candidates": 100}
    assert record["note"] == "quiet"
    assert record["device"]


def test_figures_with_faults_are_written_and_end_with_status_1(tmp_path: Path) -> None:
    @experiment("faulty")
    def faulty() -> Figures:
        return {"faults": ["one"], "next": str(next_to_out(".cells.jsonl"))}

    assert status_of(faulty, ["--out", str(tmp_path / "f.json")]) == 1
    record = json.loads((tmp_path / "f.json").read_text())
    assert (record["format"], record["faults"]) == ("edgerec.faulty", ["one"])
    assert record["next"] == str(tmp_path / "f.cells.jsonl")
    with pytest.raises(click.ClickException, match="name it with --out"):
        faulty.main([], standalone_mode=False)


def test_what_is_kept_is_not_measured_again(tmp_path: Path) -> None:
    path, measured = tmp_path / "a" / "b.json", []

    def measure() -> dict[str, Any]:
        measured.append(len(measured))
        return {"n": len(measured)}

    assert [cached(path, {"seed": seed}, measure)["n"] for seed in (0, 0, 1)] == [1, 1, 2]


def test_calls_take_turns_and_the_first_round_is_left_out() -> None:
    order: list[str] = []
    times = time_interleaved([lambda: order.append("a"), lambda: order.append("b")], rounds=2)
    assert order == ["a", "b"] * 3
    assert [len(one) for one in times] == [2, 2]
