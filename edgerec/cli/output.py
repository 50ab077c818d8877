"""JSON for machines: the option, and how it is printed."""

from __future__ import annotations

import sys
from typing import Any

import click

from edgerec.files import to_json

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines instead of a table.")


def print_json(value: Any) -> None:
    """JSON on standard output."""
    sys.stdout.write(to_json(value).decode())
