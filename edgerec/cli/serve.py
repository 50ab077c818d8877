"""edgerec serve: serves bundles as Web Things."""

from __future__ import annotations

from typing import Any

import click

from edgerec.cli.help import Command, F, argument, option
from edgerec.cli.options import FILE, FOLDER
from edgerec.cli.output import say
from edgerec.serve import Settings, serve
from edgerec.serve.settings import BUNDLES, flag, kind, options


def _settings_options(command: F) -> F:
    """Add the options that `edgerec.serve.settings` declares."""
    for one in reversed(options()):
        of, metavar, least = kind(one), one.metadata["metavar"], one.metadata["least"]
        how: dict[str, Any] = {"metavar": metavar}
        if of is bool:
            how = {"is_flag": True}
        elif of in (int, float):
            how["type"] = click.IntRange(int(least)) if of is int else click.FloatRange(least)
        elif of is not str:
            how["type"] = FOLDER if metavar == "FOLDER" else FILE
        if isinstance(one.default, tuple):
            how["multiple"] = True
        elif of is not bool:
            how["default"] = one.default
        command = option(flag(one), help=one.metadata["help"], **how)(command)
    return command


@click.command(cls=Command)
@argument("bundles", metavar="[NAME=]BUNDLE...", nargs=-1, required=True, help=BUNDLES)
@_settings_options
def command(**given: Any) -> None:
    """Serve bundles as Web Things, to homes, gateways, web pages and agents.

    \b
    Example:
      edgerec serve films.bundle

    Each bundle is a Thing whose W3C Thing Description says how to use it over HTTP: which items suit a history or a
    session, which are similar, feedback, patches, and events when the model changes. Without options only programs of
    this machine reach the server. The address is printed once it answers; SIGTERM or Ctrl-C stops it.

    \b
    More examples:
      edgerec serve films=a.bundle books=b.bundle --port 0
      edgerec serve films.bundle --host 0.0.0.0 --token-file tokens --cert cert.pem --key key.pem
      edgerec serve films.bundle --watch inbox --trusted films.key.pub
    """
    serve(Settings(**given), say)
