"""Command lines that the pages name are ones that there are: commands, options and choices, none of them run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module

import click
import pytest

from edgerec.cli.app import group
from tests.docs.pages import ROOT

PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]
    if path.name not in ("cli.md", "CHANGELOG.md")  # generated; and a history, which names commands that left
)
OURS = r"(?:edgerec|python -m (?:edgerec_bench|bench\.experiments)\.\w+) "
WHOLE = re.compile(rf"^(?: {{4,}}|\$ )(?:\$ )?({OURS}.*(?:\n +--.*)*)$", re.MULTILINE)
"""A line of its own, and those that go on with an option."""
NAMED = re.compile(rf"`({OURS}[^`]*)`")
"""Within a sentence, where what does not matter is left out."""
PLACEHOLDERS = {"B": "ials", "M": "dense", "...": ""}


def words_of(line: str) -> list[str]:
    """Without comments."""
    words = shlex.split(line.replace("\\\n", " "), comments=True)
    return [kept for word in words if (kept := PLACEHOLDERS.get(word, word))]


def command_of(words: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """The command that words name, its parent's context, and its arguments."""
    if words[0] == "python":
        module = import_module(words[2])
        main = (import_module(f"{words[2]}.__main__") if hasattr(module, "__path__") else module).main
        return main, click.Context(main), words[3:]
    command: click.Command = group
    # As click makes it: a command keeps the names of its help option from the first context that asks.
    context, rest = click.Context(group, **group.context_settings), words[1:]
    while isinstance(command, click.Group) and rest:
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        context, command = click.Context(found, parent=context), found
    return command, context, rest


def lines(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in pattern.finditer(page.read_text()):
            yield str(page.relative_to(ROOT)), found[1]


@pytest.mark.parametrize(("page", "line"), [pytest.param(*one, id=" ".join(one)) for one in lines(WHOLE)])
def test_a_command_that_stands_alone_is_understood(page: str, line: str) -> None:
    command, context, arguments = command_of(words_of(line))
    command.make_context(command.name, arguments, parent=context.parent)


@pytest.mark.parametrize(("page", "line"), [pytest.param(*one, id=" ".join(one)) for one in lines(NAMED)])
def test_a_command_within_a_sentence_has_the_options_that_it_is_named_with(page: str, line: str) -> None:
    command, _, _ = command_of([word.partition("|")[0] for word in words_of(line)])
    known = {name for option in command.params for name in [*option.opts, *option.secondary_opts]}
    assert {word.partition("=")[0] for word in words_of(line) if word.startswith("-")} - {"-m"} <= known
