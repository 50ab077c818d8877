"""edgerec similar: the items most like an item."""

from __future__ import annotations

from pathlib import Path

import click

from edgerec.cli.answers import show_answers
from edgerec.cli.options import FOLDER, raw_id
from edgerec.cli.output import json_option
from edgerec.runtime import Recommender


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("item")
@click.option("-k", default=10, show_default=True, help="How many items.")
@json_option
def command(bundle: Path, item: str, k: int, as_json: bool) -> None:
    """Show the items of a bundle most like ITEM, by the cosine of their vectors.

    \b
    Example:
      edgerec similar films.bundle 50 -k 5
    """
    model = Recommender.load(bundle)
    raw = raw_id(item, numbers=model.manifest.items.ids != "str")
    show_answers(model, model.similar(raw, k), as_json)
