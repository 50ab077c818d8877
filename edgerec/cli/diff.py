"""edgerec diff: writes the patch that turns one bundle into another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes
from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER, overwrite_option
from edgerec.cli.output import json_option, print_json, say
from edgerec.extras import require


@click.command(cls=Command)
@argument("old", type=FOLDER, help="Bundle that the patch will be applied to.")
@argument("new", type=FOLDER, help="Bundle that the patch leads to; export it with --like OLD for a small patch.")
@option("--out", type=FILE, required=True, help="File to write the patch to.")
@option("--no-verify", is_flag=True, help="Skip the check that applies the patch to a copy of OLD.")
@overwrite_option
@json_option
def command(old: Path, new: Path, out: Path, no_verify: bool, overwrite: bool, as_json: bool) -> None:
    """Write the patch that turns one bundle into another.

    \b
    Example:
      edgerec export runs/monday --out monday.bundle --precision int8
      edgerec export runs/tuesday --out tuesday.bundle --like monday.bundle
      edgerec diff monday.bundle tuesday.bundle --out tuesday.patch

    'edgerec apply' applies it. A patch is small if NEW was exported with --like OLD: rows whose values did not change
    then have the same bytes.
    """
    diff = require("edgerec_export", "export").diff
    show_patch(diff(old, new, out, verify=not no_verify, overwrite=overwrite), as_json)


def show_patch(patch: Any, as_json: bool) -> None:
    """Print the size of a patch, compared with the whole bundle, and what it changes."""
    if as_json:
        print_json(
            {
                "patch": str(patch.path),
                "bytes": patch.nbytes,
                "full_bytes": patch.full_bytes,
                "changes": {side: vars(changes) for side, changes in patch.changes.items()},
                "parts": patch.parts,
            }
        )
        return
    share = patch.nbytes / patch.full_bytes
    say(f"{patch.path}: {format_bytes(patch.nbytes)}, {share:.1%} of the whole bundle")
    for side, changes in patch.changes.items():
        say(f"{side}s: " + ", ".join(f"{count:,} {change}" for change, count in vars(changes).items()))
