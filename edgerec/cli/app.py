"""The group of commands, each loaded when it is called: `edgerec --help` imports no numpy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from edgerec import __version__
from edgerec.cli import INTERRUPTED, PIPE_CLOSED
from edgerec.errors import EdgeRecError, StorageError, reason_of, shown

COMMANDS = {
    "data": "List and look at data sets.",
    "train": "Train a recommender under a budget.",
    "tune": "Find a backbone's and a method's settings on validation.",
    "grid": "Make every combination of a plan, in one result file.",
    "frontier": "Draw quality per byte of methods, budgets and precisions on one data set.",
    "stream": "Follow interactions over time: sizes and a run for each segment, within one budget.",
    "reproduce": "Train what a paper compares by its protocol, beside its published figures.",
    "evaluate": "Measure runs and bundles on the test part of their split.",
    "export": "Export a run, or your own tables, as a bundle.",
    "diff": "Write the patch that makes one bundle another.",
    "apply": "Apply a patch to a bundle, or undo the last one.",
    "fold-in": "Write the patch that brings new items to a bundle without training again.",
    "keys": "Make the keys that bundles are signed with.",
    "inspect": "Show what a run or a bundle holds and where its bytes go.",
    "recommend": "Recommend items from a bundle.",
    "similar": "Show the items of a bundle most like an item.",
    "bench": "Measure memory and latency of bundles.",
    "compare": "Compare two results of bench: ratios with confidence intervals.",
    "report": "Make one self-contained HTML page of results.",
    "devices": "List devices, bring what they need, and check that they measure.",
    "demo": "Try a bundle in the browser: a page that recommends as you click.",
    "doctor": "Say what this machine has, what is missing, and the command that brings it.",
}


class LazyGroup(click.Group):
    """Finds a command in the module of its name: `edgerec.cli.train` holds `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"edgerec.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The summaries stand above, so that help does not import every command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgerec")
def group() -> None:
    """Recommenders under a strict memory budget: train, export, bench and run.

    \b
    Example:
      edgerec train ml-100k --backbone ials --method popularity --budget 10% --out runs/films
      edgerec export runs/films --out films.bundle --precision int8
      edgerec recommend films.bundle --user 42 -k 10
    """


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status. Raises EdgeRecError for `main` to print."""
    output = sys.stdout
    try:
        group.main(list(arguments), prog_name="edgerec", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort as abort:
        from edgerec.console import ResumableInterrupt

        if not isinstance(abort.__cause__, ResumableInterrupt):
            click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        click.echo(f"Error: {_one_line(error)}", err=True)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:
        # When they meet a BrokenPipeError, rich ends the process, and click does after it replaced standard output.
        if isinstance(stop.__context__, BrokenPipeError) or sys.stdout is not output:
            return PIPE_CLOSED
        raise
    except BrokenPipeError:
        return PIPE_CLOSED
    except OSError as error:
        # What the library itself says of files is an EdgeRecError; this is of a place that it has not thought of.
        if error.errno is None:
            raise
        where = "the system" if error.filename is None else error.filename
        raise StorageError(f"cannot use {where}: {error.strerror}") from error
    except MemoryError as error:
        raise EdgeRecError(f"out of memory ({reason_of(error)}); use a smaller data set, budget or batch") from error
    return 0


def _one_line(error: click.ClickException) -> str:
    """What click says of a mistyped command line in four lines, and where to look."""
    said = shown(" ".join(error.format_message().split()))
    where = error.ctx if isinstance(error, click.UsageError) else None
    return said if where is None else f"{said}{'' if said[-1] in '.?)' else '.'} See '{where.command_path} --help'"
