"""edgerec recommend: what a bundle answers."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from edgerec.cli.answers import show_answers
from edgerec.cli.options import FOLDER, filter_options, load, raw_id
from edgerec.cli.output import json_option
from edgerec.data import Interactions
from edgerec.errors import RequestError
from edgerec.measure import check_data
from edgerec.runtime import Recommender


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--user", help="A user's id, for a bundle with users.")
@click.option("--history", help="Item ids with commas, for a bundle without users; '' if there are none yet.")
@click.option("-k", default=10, show_default=True, help="How many items.")
@click.option("--exclude", default="", help="Item ids with commas that must not come back.")
@click.option("--allow", help="Item ids with commas: the only ones that may come back.")
@click.option("--data", help="The data it was trained on: exclude what the user has there, or take it as the history.")
@filter_options
@json_option
def command(
    bundle: Path,
    user: str | None,
    history: str | None,
    k: int,
    exclude: str,
    allow: str | None,
    data: str | None,
    min_user: int,
    min_item: int,
    encoding: str | None,
    as_json: bool,
) -> None:
    """Recommend items from a bundle.

    \b
    Example:
      edgerec recommend films.bundle --user 42 -k 10
      edgerec recommend films.bundle --user 42 --data ml-100k
      edgerec recommend films.bundle --history 50,181,1
    """
    if user is not None and history is not None:
        raise RequestError("--user and --history are two ways to say who asks: give one of them")
    if data is not None and user is None:
        raise RequestError("--data needs --user: whose interactions are meant?")
    if data is None and (min_user, min_item, encoding) != (1, 1, None):
        raise RequestError("--min-user and --min-item filter --data, and --encoding is of its files: give them too")
    model = Recommender.load(bundle)
    excluded, past = _items(model, exclude), None if history is None else _items(model, history)
    if data is not None and user is not None:
        seen = _seen(model, load(data, min_user, min_item, encoding), user)
        if model.n_users:
            excluded = [*excluded, *seen]
        else:
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


def _seen(model: Recommender, interactions: Interactions, user: str) -> list[int | str]:
    """The raw ids of what a user has in the data that a bundle was trained on.

    Raises:
        DataError: it was trained on other data. A bundle of somebody's own tables does not say.
        RequestError: an unknown user, or a bundle without ids.
    """
    if model.manifest.items.ids == "none":
        raise RequestError("this bundle ships no ids, so --data says nothing of its items: give their rows")
    if model.manifest.about.get("data_fingerprint") is not None:
        check_data(model.manifest.about, interactions)
    ids = interactions.user_ids
    rows = np.flatnonzero(ids == raw_id(user, numbers=ids.dtype.kind == "i"))
    if rows.size == 0:
        raise RequestError(f"user {user!r} is not in {interactions.name or 'these data'}")
    seen: list[int | str] = interactions.item_ids[interactions.items_of(int(rows[0]))].tolist()
    return model.known(seen)
