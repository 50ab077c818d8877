"""edgerec apply: a patch applied to a bundle, or undone."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.cli.options import FOLDER, PathType
from edgerec.cli.output import json_option, print_json, say
from edgerec.errors import RequestError
from edgerec.runtime import metadata
from edgerec.runtime.patch import apply_patch, undo_patch


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("patch", type=PathType(dir_okay=False), required=False)
@click.option("--undo", is_flag=True, help="Make BUNDLE what it was before the last patch.")
@click.option(
    "--trusted",
    type=PathType(dir_okay=False),
    multiple=True,
    help="A .pub file: only what its key signed is taken.",
)
@json_option
def command(bundle: Path, patch: Path | None, undo: bool, trusted: tuple[Path, ...], as_json: bool) -> None:
    """Make BUNDLE the one that PATCH leads to: all of it or, whatever happens meanwhile, nothing.

    \b
    Example:
      edgerec apply films.bundle tuesday.patch
      edgerec apply films.bundle --undo
    """
    if (patch is None) != undo:
        raise RequestError("give either a PATCH to apply or --undo")
    keys = trusted or None
    if patch is None:
        undo_patch(bundle, trusted=keys)
        became, said = "undone", f"{bundle}: is what it was before the last patch"
    elif apply_patch(bundle, patch, trusted=keys):
        became, said = "patched", f"{bundle}: patched; 'edgerec apply {bundle} --undo' takes it back"
    else:
        became, said = "already", f"{bundle}: was patched with {patch} already"
    if as_json:
        print_json({"bundle": str(bundle), "became": became, "bytes": metadata(bundle).bytes})
    else:
        say(said)
