"""Help pages and the errors of a mistyped command line: options in sections, arguments explained, suggestions.

Commands have `cls=Command` or `cls=Group`, and their parameters come from `option` and `argument`, which are here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = "Options"
RESEARCH = "Research options"
DATA = "Data options"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean 'WORD'?' with the known word that is closest to a mistyped one, or '' if none is close."""
    by_spelling = {one.lower(): one for one in known}
    close = get_close_matches(word.lower(), by_spelling, n=1)
    return f"; did you mean '{by_spelling[close[0]]}'?" if close else ""


class Choice(click.Choice[str]):
    """One of several words; a word that is close to one of them gets a suggestion."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        message = super().get_invalid_choice_message(value, ctx)
        suggested = suggestion(str(value), self.choices)
        return message.removesuffix(".") + suggested if suggested else message


class Option(click.Option):
    """An option in a section of the help, with its default and the range of its numbers in words.

    Attributes:
        section: the heading that the option stands under.
    """

    def __init__(self, *args: Any, section: str = OPTIONS, **settings: Any) -> None:
        super().__init__(*args, **{"show_default": True, **settings})
        self.section = section

    def make_metavar(self, ctx: click.Context) -> str:
        """Return N for whole numbers and X for others; click says INTEGER RANGE."""
        if self.metavar is None:
            if isinstance(self.type, click.types.IntParamType):
                return "N"
            if isinstance(self.type, click.types.FloatParamType):
                return "X"
        return super().make_metavar(ctx)

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Return what stands in brackets: a default given as text without click's parentheses, a range in words."""
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        extra.pop("range", None)
        if isinstance(self.type, click.IntRange | click.FloatRange) and (words := _range(self.type)):
            extra["range"] = words
        return extra


def _range(numbers: click.IntRange | click.FloatRange) -> str:
    """Return the range in words; '' for counts, of which everybody expects that they are not negative."""
    if numbers.max is None and numbers.min in (0, 1) and isinstance(numbers, click.IntRange):
        return ""
    low = "" if numbers.min is None else f"{'above' if numbers.min_open else 'at least'} {numbers.min}"
    high = "" if numbers.max is None else f"{'below' if numbers.max_open else 'at most'} {numbers.max}"
    return ", ".join(part for part in (low, high) if part)


class Argument(click.Argument):
    """A positional argument with a sentence of help; click below 8.5 has none."""

    def __init__(self, names: Sequence[str], *, help: str, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.help = help

    def record(self, ctx: click.Context) -> tuple[str, str]:
        """Return the row of the help: the argument's name and its sentence, with its default."""
        default = "" if self.required or not isinstance(self.default, str) else f"  [default: {self.default}]"
        name = self.metavar or (self.name or "").upper()
        return name.removesuffix("..."), f"{self.help}{default}"


def option(*names: str, section: str = OPTIONS, **settings: Any) -> Callable[[F], F]:
    """Return a decorator that adds an option; its help is a sentence, and defaults are shown."""
    return click.option(*names, cls=Option, section=section, **settings)


def argument(name: str, *, help: str, **settings: Any) -> Callable[[F], F]:
    """Return a decorator that adds a positional argument, which the help explains in a sentence."""
    return click.argument(name, cls=Argument, help=help, **settings)


class Command(click.Command):
    """A command whose help lists its arguments, then its options by section, those of research last."""

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write nothing: `format_options` lists the arguments, in every version of click."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments, then each section of options."""
        parameters = self.get_params(ctx)
        if arguments := [one.record(ctx) for one in parameters if isinstance(one, Argument)]:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        sections: dict[str, list[tuple[str, str]]] = {OPTIONS: []}
        for parameter in parameters:
            if isinstance(parameter, click.Option) and (row := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(parameter, "section", OPTIONS), []).append(row)
        if RESEARCH in sections:
            sections[RESEARCH] = sections.pop(RESEARCH)
        for name, rows in sections.items():
            with formatter.section(name):
                formatter.write_dl(rows)


def summary(command: click.Command) -> str:
    """Return the first paragraph of a command's help, its one-sentence summary."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


class Group(click.Group):
    """A group of commands that suggests the closest one for a mistyped name."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with its whole summary, which click would shorten to a line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(found)) for name, found in commands if found is not None])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names. Raises UsageError if there is none."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            options = [one for parameter in self.get_params(ctx) for one in parameter.opts if one.startswith("--")]
            suggested = suggestion(name, [*self.list_commands(ctx), *options])  # 'help' means --help
            raise click.UsageError(f"there is no command '{name}'{suggested}", ctx)
        return super().resolve_command(ctx, args)


def no_such_option(error: click.NoSuchOption) -> str:
    """Return what to print for a mistyped option, with the closest one of its command."""
    command = None if error.ctx is None else error.ctx.command
    known = [name for one in (command.params if command else ()) for name in (*one.opts, *one.secondary_opts)]
    options = [name for name in known if name.startswith("-")]
    return f"there is no option '{error.option_name}'{suggestion(error.option_name, options)}"
