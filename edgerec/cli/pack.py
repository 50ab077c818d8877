"""edgerec pack: writes a bundle as one file."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.budget import format_bytes
from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER, overwrite_option
from edgerec.cli.output import json_option, print_json, say
from edgerec.runtime.stored import pack


@click.command(cls=Command)
@argument("bundle", type=FOLDER, help="Folder of the bundle.")
@option("--out", type=FILE, required=True, help="File to write, such as films.edgerec.")
@overwrite_option
@json_option
def command(bundle: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Write a bundle as one file, for apps, downloads and flash.

    \b
    Example:
      edgerec pack films.bundle --out films.edgerec

    The file holds the same bundle, signature included: its graphs deflated, its tables as they are, to be mapped. It
    is loaded like a folder. Patches change folders only: 'edgerec unpack' writes the folder back, byte for byte.
    'edgerec export --out films.edgerec' writes one file at once, and its --max-bytes is then the limit of that file.
    """
    nbytes = pack(bundle, out, overwrite=overwrite)
    if as_json:
        print_json({"bundle": str(out), "bytes": nbytes})
    else:
        say(f"{out}: {nbytes:,} bytes ({format_bytes(nbytes)})")
