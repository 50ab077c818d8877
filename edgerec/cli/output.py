"""JSON for machines: the option, and how it is printed."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click

from edgerec.console import printable
from edgerec.errors import HIDDEN

_FORBIDDEN = re.compile(f"(?!\n){HIDDEN.pattern}")
_LONGEST_ROW = 100_000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines instead of a table.")


def print_json(value: Any) -> None:
    """JSON on standard output; what a terminal would obey is escaped, as JSON has it."""
    document = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1)
    sys.stdout.write(_FORBIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], document) + "\n")


def say(text: str, *, err: bool = False) -> None:
    """A line or a few on standard output, or standard error."""
    click.echo(printable(text), err=err)


def print_text(text: str) -> None:
    """Markdown or CSV on standard output."""
    sys.stdout.write(printable(text, most=_LONGEST_ROW))
