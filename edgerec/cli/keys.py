"""edgerec keys: creates the keys that bundles are signed with."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.cli.help import Group, argument
from edgerec.cli.options import FILE
from edgerec.cli.output import say
from edgerec.signatures import new_key


@click.group(cls=Group)
def command() -> None:
    """Create the keys that bundles are signed with.

    \b
    Example:
      edgerec keys new films.key

    An app that trusts a public key loads only bundles that the private key signed.
    """


@command.command()
@argument("key", type=FILE, help="File to write the private key to; the public key gets the same name with .pub.")
def new(key: Path) -> None:
    """Create a pair of ed25519 keys: a private one that signs bundles, and a public one that apps check them with.

    \b
    Example:
      edgerec keys new films.key

    Never ship the private key; ship the public key with the app. An existing key is never replaced.

    \b
    More examples:
      edgerec export runs/films --out films.bundle --sign films.key
      edgerec inspect films.bundle --trusted films.key.pub
    """
    public = new_key(key)
    say(f"{key}: the private key, which signs bundles; keep it secret\n{public}: the public key; ship it with the app")
