"""Commands `python -m edgerec_bench...`: what a user got wrong is one line and status 2, as of `edgerec`."""

from __future__ import annotations

import json
import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest

from edgerec.cli.app import group
from edgerec.cli.reproduce import command as reproduce
from edgerec_bench.command import ASIDE, typed
from edgerec_bench.reproduce import PAPERS
from edgerec_bench.suites import Step, read_suite, suites
from tests.bench.conftest import status_of

STEPS = [step for name in suites() for step in read_suite(name).steps]
RECORDED = [
    step
    for step in STEPS
    if step.command.startswith("python -m edgerec_bench.")
    and hasattr(import_module(step.command.split()[2]), "write_figures")
]


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("quality", ["--data", "no-such"], "no-such"),
        ("no_users", ["--data", "no-such"], "no-such"),
        ("sparse_quality", ["--data", "no-such", "--out", "never.json"], "no-such"),
        ("sparse_training", ["ablation", "--data", "no-such"], "no-such"),
        ("scale", ["--growth", "--profile", "mixed int8"], "give one of them"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    name: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(import_module(f"edgerec_bench.{name}").main, words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert said in line


@pytest.mark.parametrize("step", RECORDED, ids=lambda step: step.name)
def test_what_a_suite_types_is_what_the_record_will_say(step: Step) -> None:
    """Else the suite would not know its own file again."""
    words = shlex.split(step.command)
    command = import_module(words[2]).main
    place = 3
    if isinstance(command, click.Group):
        command, place = command.commands[words[3]], 4
    context = command.make_context(None, words[place:])
    assert [typed(context, *words[:place])] == step.recorded


def test_what_a_reproduction_types_is_what_its_record_will_say() -> None:
    steps = [step for step in STEPS if step.command.startswith("edgerec reproduce ")]
    assert {shlex.split(step.command)[2] for step in steps} == set(PAPERS)
    above = click.Context(group, **group.context_settings)  # click keeps the help option of a command's first context
    for step in steps:
        context = reproduce.make_context(None, shlex.split(step.command)[2:], parent=above)
        assert [typed(context, "edgerec", "reproduce", aside=(*ASIDE, "minutes"))] == step.recorded


def test_a_record_says_what_was_typed_and_what_was_not(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    words = ["--users", "200", "--items", "100", "--out", str(out), "--dimensions", "16"]
    assert status_of(import_module("edgerec_bench.search_speed").main, words) == 0
    record = json.loads(out.read_text())
    assert record["command"] == "python -m edgerec_bench.search_speed --users 200 --items 100 --dimensions 16"
    assert record["options"] == {"users": 200, "items": 100, "dimensions": 16, "candidates": 100}
