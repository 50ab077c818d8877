"""Shared parts of the commands that measure: the recorded command line, errors in one line and a progress bar."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgerec.console import progress_bar
from edgerec.errors import EdgeRecError, reason_of
from edgerec.outputs import Output, check_outputs, record
from edgerec_bench.interleave import Progress

ASIDE = ("out", "overwrite", "as_json", "note", "workers", "work", "grid", "checkpoint", "runs")
"""Options that do not change the figures: where files are stored, what is printed, and how many workers run."""


class _Refused(click.ClickException):
    exit_code = 2


class BenchCommand(click.Command):
    """A command that reports an error of the user in one line, with exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn an EdgeRecError into one line and exit status 2."""
        try:
            check_out(ctx.params)
            return super().invoke(ctx)
        except EdgeRecError as error:
            raise _Refused(reason_of(error)) from error


def check_out(given: Mapping[str, Any]) -> None:
    """Refuse, before anything is measured, an --out that is the input data or another program's file."""
    out, data = given.get("out"), given.get("data")
    if isinstance(out, Path):
        is_folder = out.is_dir()
        inputs = data.split(",") if isinstance(data, str) else []
        check_outputs([Output(out, ours=record, folder=is_folder, shared=is_folder)], inputs, overwrite=None)


def bench_command(function: Callable[..., Any]) -> click.Command:
    """Turn a function into a command, as `click.command` does."""
    return click.command(cls=BenchCommand)(function)


def is_default(context: click.Context, name: str) -> bool:
    """Return True if this option or argument was not given."""
    return context.get_parameter_source(name) == ParameterSource.DEFAULT


def typed(context: click.Context, *program: str, aside: Collection[str] = ASIDE) -> str:
    """Return the command line that repeats the command: `program` and the given options without those in `aside`."""
    words = list(program)
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in aside or is_default(context, name):
            continue
        value, option = context.params[name], [parameter.opts[0]] if isinstance(parameter, click.Option) else []
        for one in value if isinstance(value, tuple) else (value,):
            words += option if one is True else [*option, f"{one:g}" if isinstance(one, float) else str(one)]
    return shlex.join(words)


@contextmanager
def show_progress(first: str) -> Iterator[Progress]:
    """Show a progress bar on standard error while the block runs, with the text `first` before the first update."""
    with progress_bar(first) as update:
        yield lambda name, done, total: update(description=name, completed=done, total=total)
