"""A stranger understands the command line from its help, and a mistyped word gets a suggestion."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from edgerec.cli.app import COMMANDS, GROUPS, group, run
from edgerec.cli.help import RESEARCH, Argument, Option, suggestion, summary
from edgerec.cli.reproduce import EVALUATION_EPOCHS
from edgerec.cli.training import MAX_EPOCHS, PATIENCE
from edgerec.methods.bet.search import EPOCHS as BET_EPOCHS
from edgerec.methods.ciess.config import CIESSConfig, epochs_of
from edgerec.models import BACKBONES, backbone


def every(command: click.Command = group, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield the context of each command and group of commands."""
    name = "edgerec" if parent is None else command.name
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            found.name = name
            yield from every(found, context)


CONTEXTS = {context.command_path: context for context in every()}


def is_sentence(text: str) -> bool:
    """Begins with a capital letter, and ends with its only full stop."""
    return bool(re.fullmatch(r"[A-Z].*\.", text, re.DOTALL)) and not re.search(r"\.\s+[A-Z]", text)


def sections(path: str) -> dict[str, list[str]]:
    """Return the options of a command's help by their heading."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in CONTEXTS[path].get_help().splitlines():
        if title := re.fullmatch(r"(\S.*):", line):
            heading = title[1]
        elif heading and (option := re.match(r"  (?:-\w, )?(-[-\w]+)", line)):
            found.setdefault(heading, []).append(option[1])
    return found


def test_commands_stand_in_four_groups() -> None:
    assert [heading.partition(" (")[0] for heading in GROUPS] == ["Start", "Ship", "Measure", "Research"]
    assert len(COMMANDS) == sum(map(len, GROUPS.values()))
    text = CliRunner().invoke(group, ["--help"]).output
    places = [text.index(f"\n{heading}:\n") for heading in GROUPS]
    assert places == sorted(places)
    lines = " ".join(text.split())
    for heading, commands in GROUPS.items():
        part = lines.partition(f"{heading}: ")[2]
        for name, sentence in commands.items():
            part = part.partition(f"{name} {sentence}")[2]
            assert part or (name, sentence) == list(COMMANDS.items())[-1]


@pytest.mark.parametrize("path", list(CONTEXTS))
def test_help_opens_with_a_sentence_and_an_example(path: str) -> None:
    command = CONTEXTS[path].command
    assert command.help is not None
    first, example, *_ = inspect.cleandoc(command.help).split("\n\n")
    assert is_sentence(first), first
    assert re.fullmatch(r"\x08\nExample:(\n  edgerec .*){1,3}", example), example
    assert path in example or isinstance(command, click.Group)
    if path.removeprefix("edgerec ") in COMMANDS:
        assert summary(command) == COMMANDS[path.removeprefix("edgerec ")]


@pytest.mark.parametrize("path", list(CONTEXTS))
def test_every_argument_and_option_has_a_sentence_of_help(path: str) -> None:
    for parameter in CONTEXTS[path].command.params:
        if path == "edgerec":
            continue  # --version, whose help is click's
        assert isinstance(parameter, Argument | Option), parameter.name
        assert parameter.help is not None
        assert re.match(r"[A-Z]", parameter.help), parameter.help
        assert parameter.help.endswith("."), parameter.help
        assert "[default" not in parameter.help


@pytest.mark.parametrize("path", list(CONTEXTS))
def test_defaults_are_shown(path: str) -> None:
    text = " ".join(CONTEXTS[path].get_help().split())
    for parameter in CONTEXTS[path].command.params:
        if isinstance(parameter, Option) and not parameter.is_flag and isinstance(parameter.default, int | float | str):
            assert not parameter.default or f"[default: {parameter.default}" in text, parameter.name


def by_name(text: str) -> dict[str, int]:
    """Read '5 for mf and ncf, 1 for svd' as numbers by name."""
    parts = re.findall(r"(\d+) for ((?:[a-z]+, |[a-z]+ and )*[a-z]+)", text)
    return {name: int(number) for number, names in parts for name in re.split(r", | and ", names)}


def test_defaults_in_words_are_those_of_backbones_and_methods() -> None:
    assert by_name(MAX_EPOCHS) == {name: backbone(name).max_epochs for name in BACKBONES}
    assert by_name(PATIENCE) == {name: backbone(name).patience for name in BACKBONES}
    bet, ciess = re.findall(r"(\d+) for \w+ \(([^)]*)\)", EVALUATION_EPOCHS)
    assert (int(bet[0]), by_name(bet[1].replace("with", "for"))) == (10, BET_EPOCHS)
    job = {name: cast(Any, SimpleNamespace(backbone=SimpleNamespace(name=name))) for name in ("ials", "lightgcn")}
    assert int(ciess[0]) == epochs_of(job["lightgcn"], CIESSConfig())
    assert by_name(ciess[1].replace("with", "for")) == {"ials": epochs_of(job["ials"], CIESSConfig())}


@pytest.mark.parametrize("path", list(CONTEXTS))
def test_every_example_is_understood(path: str) -> None:
    """Each is parsed, and none is run."""
    examples = re.findall(r"^ +(edgerec .*)$", CONTEXTS[path].command.help or "", re.MULTILINE)
    assert examples
    for line in examples:
        command: click.Command = group
        context, words = CONTEXTS["edgerec"], shlex.split(line)[1:]
        while isinstance(command, click.Group):
            _, found, words = command.resolve_command(context, words)
            assert found is not None
            command, context = found, CONTEXTS[f"{context.command_path} {found.name}"]
        command.make_context(command.name, words, parent=context.parent)


def test_research_options_stand_under_their_own_heading() -> None:
    for path in ("edgerec train", "edgerec tune", "edgerec stream"):
        found = sections(path)
        assert {"--set", "--method-set"} <= set(found[RESEARCH])
        assert list(found)[-1] == RESEARCH
        assert {"--out", "--budget", "--json", "--help"} <= set(found["Options"])
    assert {"--split", "--mask-at", "--workers", "--patience"} <= set(sections("edgerec train")[RESEARCH])
    assert sections("edgerec export")["Tables of your own (instead of RUN)"] == [
        *("--items", "--users", "--ids", "--user-ids", "--item-counts")
    ]


@pytest.mark.parametrize("path", list(CONTEXTS))
def test_every_option_is_listed_once(path: str) -> None:
    context = CONTEXTS[path]
    listed = [name for names in sections(path).values() for name in names]
    options = [one for one in context.command.get_params(context) if isinstance(one, click.Option)]
    assert len(listed) == len(set(listed)) == len(options)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("exprot", "there is no command 'exprot'; did you mean 'export'? See 'edgerec --help'"),
        ("Train", "there is no command 'Train'; did you mean 'train'? See 'edgerec --help'"),
        ("foldin", "there is no command 'foldin'; did you mean 'fold-in'? See 'edgerec --help'"),
        ("help", "there is no command 'help'; did you mean '--help'? See 'edgerec --help'"),
        ("xyzzy", "there is no command 'xyzzy'. See 'edgerec --help'"),
        ("devices setpu", "there is no command 'setpu'; did you mean 'setup'? See 'edgerec devices --help'"),
        ("train --buget 10%", "there is no option '--buget'; did you mean '--budget'? See 'edgerec train --help'"),
        ("train --max_bytes 1", "there is no option '--max_bytes'. See 'edgerec train --help'"),
        ("export --max_rss 1", "there is no option '--max_rss'; did you mean '--max-rss'? See 'edgerec export --help'"),
        ("recommend b -K 3", "there is no option '-K'; did you mean '-k'? See 'edgerec recommend --help'"),
        ("--verison", "there is no option '--verison'; did you mean '--version'? See 'edgerec --help'"),
    ],
)  # fmt: skip
def test_a_mistyped_command_or_option_gets_a_suggestion(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"Error: {line}\n")


def test_a_mistyped_choice_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--method", "populairty", "--out", "run"]) == 2
    assert "'uniform'; did you mean 'popularity'? See 'edgerec train --help'" in capsys.readouterr().err
    assert run(["devices", "setup", "brwoser"]) == 2
    assert (
        "'brwoser' is not one of 'arm64', 'adb', 'browser', 'node'; did you mean 'browser'?" in capsys.readouterr().err
    )


def test_a_suggestion_is_the_closest_word_or_none() -> None:
    assert suggestion("bnech", COMMANDS) == "; did you mean 'bench'?"
    assert suggestion("serve-forever", COMMANDS) == ""
    assert suggestion("", COMMANDS) == suggestion("x" * 100_000, COMMANDS) == ""


def test_shells_complete_commands_options_and_choices() -> None:
    def completed(words: list[str], incomplete: str) -> set[str]:
        shell = BashComplete(group, {}, "edgerec", "_EDGEREC_COMPLETE")
        return {item.value for item in shell.get_completions(words, incomplete)}

    assert completed([], "re") == {"recommend", "report", "reproduce"}
    assert completed(["export"], "--max") == {"--max-bytes", "--max-ms", "--max-rss"}
    assert completed(["train", "--backbone"], "n") == {"ncf", "neighbours", "ngcf"}
