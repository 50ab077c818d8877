"""edgerec demo: a page in which bundles can be tried."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from edgerec.budget import format_bytes
from edgerec.cli.options import FOLDER, PathType
from edgerec.cli.output import say
from edgerec.console import messages
from edgerec_devices.web.demo_site import demo_site, write_demo
from edgerec_devices.web.static_site import StaticServer


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=FOLDER)
@click.option("--port", default=8080, show_default=True, help="Of this machine's loopback address; 0 for any free one.")
@click.option(
    "--out",
    type=PathType(file_okay=False),
    help="Write the page into this folder instead, for any web server with https.",
)
def command(bundles: tuple[Path, ...], port: int, out: Path | None) -> None:
    """Try a bundle in the browser: search titles, pick some, and see what it recommends.

    Several bundles of one catalogue stand on one page: a slider goes from the smallest to the largest, and the list
    changes with it. A second one moves popular titles up or down.

    The page works offline once it was opened: the recommender runs in it, and no server is needed. It needs
    onnxruntime-web, which 'edgerec devices setup browser' fetches once. A bundle without users (export --no-users)
    answers picks as it answers any history; one with users by the items most like them.

    \b
    Example:
      edgerec demo films.bundle
      edgerec demo small.bundle full.bundle
      edgerec demo films.bundle --out site
    """
    if out is not None:
        nbytes = write_demo(bundles, out)
        messages.print(f"{out}: {format_bytes(nbytes)}, of which onnxruntime-web is nearly all", markup=False)
        return
    with StaticServer(demo_site(bundles), port=port) as server:
        say(server.address)
        messages.print("open this address in a browser; Ctrl-C ends", markup=False)
        threading.Event().wait()
