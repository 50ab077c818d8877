"""edgerec doctor: checks what this machine has, what is missing, and how to install it."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgerec.cli.help import Command
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_table
from edgerec_devices.doctor import examine, exit_status


@click.command("doctor", cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Check what this machine has, what is missing, and how to install it.

    \b
    Example:
      edgerec doctor

    It checks versions, processor, memory and optional packages; it changes and downloads nothing. The exit status is
    2 if this machine cannot run bundles, else 0, with or without warnings. If click or rich is missing,
    `python -m edgerec_devices.doctor` prints the same as JSON.
    """
    checks = examine()
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        columns = ("", "", "found", "what to do")
        print_table("", columns, [(check.level, check.name, check.found, check.advice) for check in checks])
    status = exit_status(checks)
    if status:
        raise click.exceptions.Exit(status)
