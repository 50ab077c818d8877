"""edgerec diff: what makes one bundle another, as a patch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes
from edgerec.cli.options import FOLDER, PathType, overwrite_option
from edgerec.cli.output import json_option, print_json, say
from edgerec.extras import require


@click.command()
@click.argument("old", type=FOLDER)
@click.argument("new", type=FOLDER)
@click.option("--out", type=PathType(dir_okay=False), required=True, help="File of the patch.")
@click.option("--no-verify", is_flag=True, help="Do not apply the patch to a copy of OLD and compare.")
@overwrite_option
@json_option
def command(old: Path, new: Path, out: Path, no_verify: bool, overwrite: bool, as_json: bool) -> None:
    """Write the patch that makes the bundle OLD the bundle NEW, for 'edgerec apply'.

    It is small where NEW was exported like OLD: rows that did not change then keep their bytes.

    \b
    Example:
      edgerec export runs/tuesday --out tuesday.bundle --like monday.bundle
      edgerec diff monday.bundle tuesday.bundle --out tuesday.patch
    """
    diff = require("edgerec_export", "export").diff
    show_patch(diff(old, new, out, verify=not no_verify, overwrite=overwrite), as_json)


def show_patch(patch: Any, as_json: bool) -> None:
    """What was written, and how it compares with the whole bundle."""
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
        say(f"{side}s: " + ", ".join(f"{count:,} {what}" for what, count in vars(changes).items()))
