"""Commands that measure: what was typed, for the record; a user's error in one line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgerec.errors import EdgeRecError, reason_of
from edgerec.outputs import Output, check_outputs, record
from edgerec_bench.record import write_record

ASIDE = ("out", "overwrite", "as_json", "note", "workers", "work", "grid", "checkpoint", "runs")
"""Options that change no outcome: where things are kept, what is shown, and how many are made at a time."""


class _Refused(click.ClickException):
    exit_code = 2


class BenchCommand(click.Command):
    """Ends with status 2 and a line where a user erred."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            _check_out(ctx.params)
            return super().invoke(ctx)
        except EdgeRecError as error:
            raise _Refused(reason_of(error)) from error


def _check_out(given: Mapping[str, Any]) -> None:
    """Refuse, before anything is measured, an --out that is the data, or a file that holds no figures."""
    out, data = given.get("out"), given.get("data")
    if isinstance(out, Path):
        is_folder = out.is_dir()
        inputs = data.split(",") if isinstance(data, str) else []
        check_outputs([Output(out, ours=record, folder=is_folder, shared=is_folder)], inputs, overwrite=None)


def bench_command(function: Callable[..., Any]) -> click.Command:
    """Make a command of a function, as `click.command` does."""
    return click.command(cls=BenchCommand)(function)


def is_default(context: click.Context, name: str) -> bool:
    """Whether nobody gave this option or argument."""
    return context.get_parameter_source(name) == ParameterSource.DEFAULT


def typed(context: click.Context, *program: str, aside: Collection[str] = ASIDE) -> str:
    """The command as others type it: `program`, and what was given of its options and arguments, but those `aside`."""
    words = list(program)
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in aside or is_default(context, name):
            continue
        value, option = context.params[name], [parameter.opts[0]] if isinstance(parameter, click.Option) else []
        for one in value if isinstance(value, tuple) else (value,):
            words += option if one is True else [*option, f"{one:g}" if isinstance(one, float) else str(one)]
    return shlex.join(words)


def write_figures(out: Path, kind: str, figures: dict[str, Any]) -> None:
    """As `write_record`, of the bench command that runs: what was typed, and 'options', its defaults among them.

    Raises StorageError.
    """
    context = click.get_current_context()
    assert context.command.callback is not None
    module = context.command.callback.__globals__["__spec__"].name  # also where it runs as __main__
    within = [] if context.parent is None else [str(context.info_name)]
    options = {name: value for name, value in context.params.items() if name not in ASIDE}
    command = typed(context, "python", "-m", module, *within)
    write_record(out, kind, command, {"options": options, **figures})
