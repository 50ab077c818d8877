"""edgerec recommend: what a bundle answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from edgerec.cli.options import FOLDER, load, raw_id
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_table
from edgerec.errors import RequestError
from edgerec.runtime import Recommendation, Recommender


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--user", help="A user's id, for a bundle with users.")
@click.option("--history", help="Item ids with commas, for a bundle without users.")
@click.option("-k", default=10, show_default=True, help="How many items.")
@click.option("--exclude", default="", help="Item ids with commas that must not come back.")
@click.option("--data", help="Exclude what the user has in this data set, or take it as the history.")
@json_option
def command(
    bundle: Path,
    user: str | None,
    history: str | None,
    k: int,
    exclude: str,
    data: str | None,
    as_json: bool,
) -> None:
    """Recommend items from a bundle.

    \b
    Example:
      edgerec recommend films.bundle --user 42 -k 10
      edgerec recommend films.bundle --user 42 --data ml-100k
      edgerec recommend films.bundle --history 50,181,1
    """
    model = Recommender.load(bundle)
    excluded, past = _items(model, exclude), None if history is None else _items(model, history)
    if data is not None:
        if user is None:
            raise RequestError("--data needs --user: whose interactions are meant?")
        # Filters may have kept some of the data out of the bundle; what it lacks cannot come back either.
        seen = model.known(_seen(data, user))
        if model.n_users:
            excluded = [*excluded, *seen]
        elif past is None:
            past = seen
    if user is not None and not model.n_users and past is None:
        raise RequestError("this bundle has no users: give --history, or --data to take the user's history from")
    users = model.manifest.users
    subject = None if user is None or users is None else raw_id(user, numbers=users.ids == "int")
    answers = model.recommend(subject, k, history=past, exclude=excluded)
    _show(model, answers, as_json)


def _show(model: Recommender, answers: Sequence[Recommendation], as_json: bool) -> None:
    if as_json:
        print_json([{"item": a.item, "score": a.score, "title": model.title(a.item)} for a in answers])
        return
    rows = [[place, a.item, f"{a.score:.4f}", model.title(a.item)] for place, a in enumerate(answers, 1)]
    if all(row[3] is None for row in rows):
        print_table("", ["", "item", "score"], [row[:3] for row in rows])
    else:
        print_table("", ["", "item", "score", "title"], rows)


def _items(model: Recommender, text: str) -> list[int | str]:
    numbers = model.manifest.items.ids == "int"
    return [raw_id(part.strip(), numbers=numbers) for part in text.split(",") if part.strip()]


def _seen(data: str, user: str) -> list[int | str]:
    """The raw ids of what a user has in a data set. Raises RequestError for an unknown user."""
    interactions = load(data)
    ids = interactions.user_ids
    rows = np.flatnonzero(ids == raw_id(user, numbers=ids.dtype.kind == "i"))
    if rows.size == 0:
        raise RequestError(f"user {user!r} is not in {data}")
    seen: list[int | str] = interactions.item_ids[interactions.items_of(int(rows[0]))].tolist()
    return seen
