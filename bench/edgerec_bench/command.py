"""What the commands `python -m edgerec_bench...` have in common: a user's error is one line, and status 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from edgerec.errors import EdgeRecError


class _Refused(click.ClickException):
    exit_code = 2


class BenchCommand(click.Command):
    """Ends with status 2 and a line where a user erred."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeRecError as error:
            raise _Refused(str(error)) from error


def bench_command(function: Callable[..., Any]) -> click.Command:
    """Make a command of a function, as `click.command` does."""
    return click.command(cls=BenchCommand)(function)
