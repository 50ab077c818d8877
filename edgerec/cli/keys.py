"""edgerec keys: the keys that bundles are signed with."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.cli.options import PathType
from edgerec.cli.output import say
from edgerec.signatures import new_key


@click.group()
def command() -> None:
    """Make keys to sign bundles with.

    \b
    Example:
      edgerec keys new films.key
    """


@command.command()
@click.argument("key", type=PathType(dir_okay=False))
def new(key: Path) -> None:
    """Make a pair of ed25519 keys: KEY, which signs and stays with you, and KEY.pub, which apps check against.

    \b
    Example:
      edgerec keys new films.key
      edgerec export runs/films --out films.bundle --sign films.key
      edgerec inspect films.bundle --trusted films.key.pub
    """
    public = new_key(key)
    say(f"{key}: signs bundles; keep it to yourself\n{public}: ship it with the app that loads them")
