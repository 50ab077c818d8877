"""edgerec recommend: recommends items from a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np

from edgerec.cli.help import DATA, Choice, Command, F, argument, option
from edgerec.cli.options import FOLDER, check_data_given, data_options, load, rarity_option, raw_id
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_table
from edgerec.data import Interactions
from edgerec.errors import RequestError
from edgerec.measure import check_data
from edgerec.runtime import Recommendation, Recommender
from edgerec.runtime.ids import OnUnknown


def list_options(command: F) -> F:
    """Add the options that limit the items of an answer, which `limits_of` reads."""
    command = option(
        "--on-unknown",
        type=Choice(get_args(OnUnknown)),
        default="error",
        help="What to do about ids of a list that the bundle does not know: refuse them, or skip them as if they were "
        "not given.",
    )(command)
    command = option(
        "--allow", metavar="IDS", help="Ids of the items to choose from, separated by commas; all by default."
    )(command)
    return option("--exclude", metavar="IDS", help="Ids of items to leave out, separated by commas.")(command)


@click.command(cls=Command)
@argument("bundle", type=FOLDER, help="Folder of the bundle.")
@option("--user", metavar="ID", help="Id of the user, for a bundle with users.")
@option(
    "--history",
    metavar="IDS",
    help="Ids of the items of the user's history, separated by commas, for a bundle without users; they are not "
    "recommended, and '' is a new user, who gets popular items.",
)
@option("--popular", is_flag=True, help="Recommend the most popular items, to nobody in particular.")
@option("-k", default=10, help="Number of items to recommend.")
@rarity_option
@list_options
@option(
    "--data",
    metavar="DATA",
    section=DATA,
    help="Interactions that the bundle was trained on; the items of --user there are excluded, or are the history if "
    "the bundle has no users.",
)
@data_options
@json_option
def command(
    bundle: Path,
    user: str | None,
    history: str | None,
    popular: bool,
    k: int,
    rarity: float,
    exclude: str | None,
    allow: str | None,
    on_unknown: OnUnknown,
    data: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Recommend items to a user from a bundle.

    \b
    Example:
      edgerec recommend films.bundle --user 42 -k 10

    Give --user for a bundle with users; items that the user interacted with in training are left out only with --data
    or --exclude. Give --history for a bundle without users (exported with --no-users, or of the backbones svd, lae
    and neighbours).

    \b
    More examples:
      edgerec recommend films.bundle --user 42 --data ml-100k
      edgerec export runs/films --no-users --out app.bundle
      edgerec recommend app.bundle --history 50,181,1
      edgerec recommend app.bundle --popular --exclude 50
    """
    if popular and (user, history, data) != (None, None, None):
        raise RequestError("--popular is for nobody in particular; leave out --user, --history and --data")
    if popular and rarity:
        raise RequestError("--popular has no scores for --rarity to change; leave it out")
    if user is not None and history is not None:
        raise RequestError("--user and --history both name the user; give one of them")
    if data is not None and user is None:
        raise RequestError("--data needs --user, whose interactions are read; give it too")
    check_data_given(data, options)
    model = Recommender.load(bundle)
    limits = limits_of(model, {"exclude": exclude, "allow": allow, "on_unknown": on_unknown})
    if popular:
        show_answers(model, model.popular(k, **limits), as_json)
        return
    past = None if history is None else _items(model, history)
    if data is not None and user is not None:
        seen = _seen(model, load(data, options), user)
        if model.n_users:
            limits["exclude"] += seen
        else:
            past = seen
    if user is not None and not model.n_users and past is None:
        raise RequestError("this bundle has no users; give --history, or --data to take the user's history from")
    if user is None and history is None:
        way = "--user" if model.n_users else "--history with the ids of items"
        raise RequestError(f"recommending needs a user; give {way}, or --popular")
    users = model.manifest.users
    subject = None if user is None or users is None else raw_id(user, numbers=users.ids != "str")
    show_answers(model, model.recommend(subject, k, history=past, rarity=rarity, **limits), as_json)


def limits_of(model: Recommender, lists: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a recommender's calls for the values of `list_options`."""
    allow = None if lists["allow"] is None else _items(model, lists["allow"])
    return {"exclude": _items(model, lists["exclude"] or ""), "allow": allow, "on_unknown": lists["on_unknown"]}


def _items(model: Recommender, text: str) -> list[int | str]:
    numbers = model.manifest.items.ids != "str"
    return [raw_id(part.strip(), numbers=numbers) for part in text.split(",") if part.strip()]


def _seen(model: Recommender, interactions: Interactions, user: str) -> list[int | str]:
    """Return the raw ids of the items that a user has in the data that a bundle was trained on.

    Raises:
        DataError: the bundle was trained on other data; one of a user's own tables does not record them.
        RequestError: an unknown user, or a bundle without ids.
    """
    if model.manifest.items.ids == "none":
        raise RequestError(
            "this bundle has no ids, so that --data cannot name its items; give their rows with --exclude"
        )
    if model.manifest.about.get("data_fingerprint") is not None:
        check_data(model.manifest.about, interactions)
    ids = interactions.user_ids
    rows = np.flatnonzero(ids == raw_id(user, numbers=ids.dtype.kind == "i"))
    if rows.size == 0:
        raise RequestError(
            f"user {user!r} is not in {interactions.name or 'these data'}; check the id, or give --history"
        )
    seen: list[int | str] = interactions.item_ids[interactions.items_of(int(rows[0]))].tolist()
    return model.known(seen)


def show_answers(model: Recommender, answers: Sequence[Recommendation], as_json: bool) -> None:
    """Print items (rows if the bundle has no ids) with their scores, and their titles if the bundle has any."""
    kind = "row" if model.manifest.items.ids == "none" else "item"
    if as_json:
        found: list[dict[str, Any]] = [
            {"item": a.item, "score": a.score, "title": model.title(a.item)} for a in answers
        ]
        if model.metadata.attributes:
            found = [{**one, "attributes": model.attributes(one["item"])} for one in found]
        print_json(found)
        return
    rows = [[place, a.item, f"{a.score:.4f}", model.title(a.item)] for place, a in enumerate(answers, 1)]
    if all(row[3] is None for row in rows):
        print_table("", ["", kind, "score"], [row[:3] for row in rows])
    else:
        print_table("", ["", kind, "score", "title"], rows)
