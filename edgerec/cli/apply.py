"""edgerec apply: applies a patch to a bundle, or undoes the last one."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER
from edgerec.cli.output import json_option, print_json, say
from edgerec.errors import RequestError
from edgerec.runtime import metadata
from edgerec.runtime.patch import apply_patch, undo_patch


@click.command(cls=Command)
@argument("bundle", type=FOLDER, help="Folder of the bundle, which is changed in place.")
@argument(
    "patch",
    type=FILE,
    required=False,
    help="Patch that 'edgerec diff' or 'edgerec fold-in' wrote; leave it out with --undo.",
)
@option("--undo", is_flag=True, help="Return the bundle to its state before the last patch.")
@option(
    "--trusted",
    type=FILE,
    multiple=True,
    help="Public key (.pub); the change is refused unless one of the given keys signed the bundle that it leads to. "
    "May be repeated.",
)
@json_option
def command(bundle: Path, patch: Path | None, undo: bool, trusted: tuple[Path, ...], as_json: bool) -> None:
    """Apply a patch to a bundle, or undo the last one.

    \b
    Example:
      edgerec apply films.bundle tuesday.patch

    The patch is applied completely or not at all, even if the process is killed. A patch for another bundle is
    refused. Only the last patch can be undone.

    \b
    More examples:
      edgerec apply films.bundle --undo
    """
    if (patch is None) != undo:
        raise RequestError("expected either a PATCH to apply or --undo; give one of them")
    keys = trusted or None
    if patch is None:
        undo_patch(bundle, trusted=keys)
        state, message = "undone", f"{bundle}: the last patch is undone"
    elif apply_patch(bundle, patch, trusted=keys):
        state, message = "patched", f"{bundle}: patched; undo it with 'edgerec apply {bundle} --undo'"
    else:
        state, message = "already", f"{bundle}: {patch} was applied before; nothing changed"
    if as_json:
        print_json({"bundle": str(bundle), "became": state, "bytes": metadata(bundle).bytes})
    else:
        say(message)
