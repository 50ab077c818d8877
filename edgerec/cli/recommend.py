"""edgerec recommend: what a bundle answers."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from edgerec.cli.answers import show_answers
from edgerec.cli.options import FOLDER, load, raw_id
from edgerec.cli.output import json_option
from edgerec.errors import RequestError
from edgerec.runtime import Recommender


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--user", help="A user's id, for a bundle with users.")
@click.option("--history", help="Item ids with commas, for a bundle without users; '' if there are none yet.")
@click.option("-k", default=10, show_default=True, help="How many items.")
@click.option("--exclude", default="", help="Item ids with commas that must not come back.")
@click.option("--allow", help="Item ids with commas: the only ones that may come back.")
@click.option("--data", help="Exclude what the user has in this data set, or take it as the history.")
@json_option
def command(
    bundle: Path,
    user: str | None,
    history: str | None,
    k: int,
    exclude: str,
    allow: str | None,
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
        if model.manifest.items.ids == "none":
            raise RequestError("this bundle ships no ids, so --data says nothing of its items: give their rows")
        # Filters may have kept some of the data out of the bundle; what it lacks cannot come back either.
        seen = model.known(_seen(data, user))
        if model.n_users:
            excluded = [*excluded, *seen]
        elif past is None:
            past = seen
    if user is not None and not model.n_users and past is None:
        raise RequestError("this bundle has no users: give --history, or --data to take the user's history from")
    users = model.manifest.users
    subject = None if user is None or users is None else raw_id(user, numbers=users.ids != "str")
    allowed = None if allow is None else _items(model, allow)
    answers = model.recommend(subject, k, history=past, exclude=excluded, allow=allowed)
    show_answers(model, answers, as_json)


def _items(model: Recommender, text: str) -> list[int | str]:
    numbers = model.manifest.items.ids != "str"
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
