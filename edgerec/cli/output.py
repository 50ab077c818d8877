"""Printing: JSON for machines, text for people, both safe for a terminal."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click

from edgerec.cli.help import option
from edgerec.console import printable
from edgerec.errors import HIDDEN

_FORBIDDEN = re.compile(f"(?!\n){HIDDEN.pattern}")
_LONGEST_ROW = 100_000

json_option = option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")


def print_json(value: Any) -> None:
    """Print JSON on standard output; control characters are escaped."""
    document = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1)
    sys.stdout.write(_FORBIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], document) + "\n")


def say(text: str, *, err: bool = False) -> None:
    """Print a few lines on standard output, or on standard error."""
    click.echo(printable(text), err=err)


def print_text(text: str) -> None:
    """Print Markdown or CSV on standard output."""
    sys.stdout.write(printable(text, most=_LONGEST_ROW))
