"""edgerec demo: a web page that recommends from bundles."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from edgerec.budget import format_bytes
from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FOLDER, PathType
from edgerec.cli.output import say
from edgerec.console import messages
from edgerec_devices.web.demo_site import demo_site, write_demo
from edgerec_devices.web.static_site import StaticServer


@click.command(cls=Command)
@argument(
    "bundles",
    metavar="BUNDLE...",
    nargs=-1,
    required=True,
    type=FOLDER,
    help="Folders of the bundles; several are of one catalogue of items, in different sizes.",
)
@option("--port", default=8080, help="Port of this machine to serve the page on; 0 for any free one.")
@option(
    "--out",
    type=PathType("folder", file_okay=False),
    help="Folder to write the page to instead of serving it, for any web server with https.",
)
def command(bundles: tuple[Path, ...], port: int, out: Path | None) -> None:
    """Try bundles in a web page that recommends as you click.

    \b
    Example:
      edgerec demo films.bundle

    The recommender runs in the page, offline too, and nothing is sent to a server. The page weighs about 75 KB without
    the bundle. Items have titles if the bundle was exported with --titles. A bundle without users (exported with
    --no-users) recommends from the items that you pick; one with users shows the items most similar to them. If you
    give several bundles, a slider in the page chooses one by its size. The address of the page is printed; Ctrl-C ends
    the command.

    \b
    More examples:
      edgerec demo small.bundle full.bundle
      edgerec demo films.bundle --out site
    """
    if out is not None:
        nbytes = write_demo(bundles, out)
        messages.print(f"{out}: {format_bytes(nbytes)}", markup=False)
        return
    with StaticServer(demo_site(bundles), port=port) as server:
        say(server.address)
        messages.print("open this address in a browser; press Ctrl-C to stop", markup=False)
        threading.Event().wait()
