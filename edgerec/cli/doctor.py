"""`edgerec doctor`: what this machine has, what is missing, and the command that brings it."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from edgerec.cli.output import json_option, print_json
from edgerec.console import print_table
from edgerec_devices.doctor import examine, exit_status


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Check versions, processor, memory, wheels and extras of this machine.

    Nothing is changed and nothing is fetched. The exit status is 2 where no bundle can be answered here, else 0,
    warnings or not. Where click and rich are missing, `python -m edgerec_devices.doctor` prints the same as JSON.

    \b
    Example:
      edgerec doctor
      edgerec doctor --json
    """
    checks = examine()
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        columns = ("", "", "found", "what to do")
        print_table("", columns, [(check.level, check.name, check.found, check.advice) for check in checks])
    status = exit_status(checks)
    if status:
        sys.exit(status)
