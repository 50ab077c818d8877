"""edgerec similar: shows the items that are most similar to an item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FOLDER, raw_id
from edgerec.cli.output import json_option
from edgerec.cli.recommend import limits_of, list_options, show_answers
from edgerec.runtime import Recommender


@click.command(cls=Command)
@argument("bundle", type=FOLDER, help="Folder of the bundle.")
@argument("item", help="Id of the item.")
@option("-k", default=10, help="Number of items to show.")
@list_options
@json_option
def command(bundle: Path, item: str, k: int, as_json: bool, **lists: Any) -> None:
    """Show the items of a bundle that are most similar to an item.

    \b
    Example:
      edgerec similar films.bundle 50 -k 5

    The score is the cosine of the two items' vectors, at most 1; the item itself is left out. The bundle needs the
    graph that 'edgerec export' includes, unless --no-similar or --max-bytes leaves it out.
    """
    model = Recommender.load(bundle)
    raw = raw_id(item, numbers=model.manifest.items.ids != "str")
    show_answers(model, model.similar(raw, k, **limits_of(model, lists)), as_json)
