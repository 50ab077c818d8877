"""edgerec unpack: writes a bundle in one file as a folder."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER
from edgerec.cli.output import json_option, print_json, say
from edgerec.runtime.stored import unpack


@click.command(cls=Command)
@argument("file", type=FILE, help="Bundle in one file.")
@option("--out", type=FOLDER, required=True, help="Folder to write, which must be new or empty.")
@json_option
def command(file: Path, out: Path, as_json: bool) -> None:
    """Write a bundle in one file as a folder, so that patches can change it.

    \b
    Example:
      edgerec unpack films.edgerec --out films.bundle
    """
    nbytes = unpack(file, out)
    if as_json:
        print_json({"bundle": str(out), "bytes": nbytes})
    else:
        say(f"{out}: {nbytes:,} bytes")
