"""The group of commands, each loaded when it is called: `edgerec --help` imports no numpy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from edgerec.cli import INTERRUPTED, PIPE_CLOSED
from edgerec.cli.help import Group, no_such_option
from edgerec.errors import EdgeRecError, StorageError, reason_of, shown

GROUPS = {
    "Start (find the best bundle, from your data)": {
        "fit": "Find the best bundle within a size, and write it.",
        "doctor": "Check what this machine has, what is missing, and how to install it.",
        "data": "List the data sets that can be used by name, and show what a data set contains.",
        "train": "Train a recommender, within a size budget if one is given, and write it as a run.",
        "tune": "Search for the settings that train best, on validation data.",
    },
    "Ship (turn a run into a bundle, try it, update it)": {
        "export": "Export a run, or tables of your own, as a bundle that an app loads.",
        "recommend": "Recommend items to a user from a bundle.",
        "similar": "Show the items of a bundle that are most similar to an item.",
        "demo": "Try bundles in a web page that recommends as you click.",
        "serve": "Serve bundles as Web Things, to homes, gateways, web pages and agents.",
        "inspect": "Show what a run or a bundle contains and where its bytes go.",
        "keys": "Create the keys that bundles are signed with.",
        "pack": "Write a bundle as one file, for apps, downloads and flash.",
        "unpack": "Write a bundle in one file as a folder, so that patches can change it.",
        "diff": "Write the patch that turns one bundle into another.",
        "apply": "Apply a patch to a bundle, or undo the last one.",
        "fold-in": "Write the patch that adds new items to a bundle without training again.",
    },
    "Measure (quality, speed and memory)": {
        "evaluate": "Measure the recommendation quality of runs and bundles on test data.",
        "bench": "Measure the latency and memory of bundles, here or on a device.",
        "compare": "Compare two results of 'edgerec bench', with confidence intervals.",
        "report": "Write one self-contained HTML page of benchmark results, runs or streams.",
        "frontier": "Find the best bundle for each size, over methods, budgets and precisions.",
        "devices": "List the devices that bundles can be measured on, set them up and check them.",
    },
    "Research (many trainings, streams, papers)": {
        "grid": "Train, export and measure every combination of a plan file.",
        "stream": "Train on interactions in order of time, one run per segment, within one budget.",
        "reproduce": "Train the methods of a paper by its protocol, and compare with its published figures.",
    },
}
"""The summary of each command, the first sentence of its help, by the heading that it stands under."""
COMMANDS = {name: summary for commands in GROUPS.values() for name, summary in commands.items()}


class LazyGroup(Group):
    """Finds a command in the module of its name: `edgerec.cli.train` holds `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"edgerec.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries by heading, without importing the commands."""
        width = max(map(len, COMMANDS))
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in commands.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="edgerec", prog_name="edgerec")
def group() -> None:
    """Train recommenders that fit a size budget, export them to small ONNX bundles, and run and measure them.

    \b
    Example:
      edgerec fit ml-100k --max-bytes 64KiB --no-users --out films.bundle
      edgerec recommend films.bundle --history 50,181 -k 10

    A run is the folder that training writes: tables of user and item vectors, settings and metrics. A bundle is the
    folder that an app loads: ONNX graphs over one file of tables; to load it, an app needs only numpy and
    onnxruntime. 'edgerec COMMAND --help' explains a command.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status. Raises EdgeRecError for `main` to print."""
    output = sys.stdout
    try:
        status = group.main(list(arguments), prog_name="edgerec", standalone_mode=False, obj=list(arguments))
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
        # The library reports files by EdgeRecError; this error comes from a place that it does not foresee.
        if error.errno is None:
            raise
        where = "the system" if error.filename is None else error.filename
        raise StorageError(f"cannot use {where}: {error.strerror}") from error
    except MemoryError as error:
        raise EdgeRecError(f"out of memory ({reason_of(error)}); use a smaller data set, budget or batch") from error
    return status if isinstance(status, int) else 0  # of click.exceptions.Exit; commands return None


def _one_line(error: click.ClickException) -> str:
    """Return click's message about a mistyped command line as one line that names the help to read."""
    message = no_such_option(error) if isinstance(error, click.NoSuchOption) else error.format_message()
    line = shown(" ".join(message.split()))
    context = error.ctx if isinstance(error, click.UsageError) else None
    return line if context is None else f"{line}{'' if line[-1] in '.?)' else '.'} See '{context.command_path} --help'"
