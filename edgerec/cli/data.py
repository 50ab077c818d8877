"""edgerec data: lists the data sets that have a name, and shows what a data set holds."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from edgerec.cli.help import Group
from edgerec.cli.options import data_argument, filter_options, load
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_facts, print_table
from edgerec.data import named_sets


@click.group(cls=Group)
def command() -> None:
    """List the data sets that have a name, and show what a data set holds.

    \b
    Example:
      edgerec data list

    A named set is downloaded from its publisher when it is first used; its licence is printed then. The name
    synthetic needs no download: synthetic:300x200x9000 generates 300 users, 200 items and 9000 interactions.
    """


@command.command("list")
@json_option
def list_sets(as_json: bool) -> None:
    """List the data sets that have a name, with their sizes and licences.

    \b
    Example:
      edgerec data list
    """
    rows: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "users": entry.users,
            "items": entry.items,
            "interactions": entry.interactions,
            "licence": entry.licence,
        }
        for entry in named_sets().values()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table("", list(rows[0]), [list(row.values()) for row in rows])


@command.command()
@data_argument
@filter_options
@json_option
def show(data: str, min_user: int, min_item: int, encoding: str | None, as_json: bool) -> None:
    """Show how many users, items and interactions a data set holds.

    \b
    Example:
      edgerec data show ratings.csv --min-user 5

    A file of your own is a table (CSV, TSV, Parquet; gzip too) with a header that names user, item and optionally
    rating and timestamp; a folder is a data set of MovieLens, RecBole or LightGCN. Every row counts as a positive,
    whatever its rating.
    """
    interactions = load(data, min_user, min_item, encoding)
    facts: dict[str, Any] = {
        "name": interactions.name,
        "users": interactions.n_users,
        "items": interactions.n_items,
        "interactions": len(interactions),
        "density": round(len(interactions) / (interactions.n_users * interactions.n_items), 6),
        "interactions of a user (median)": float(np.median(interactions.user_counts())),
        "interactions of an item (median)": float(np.median(interactions.item_counts())),
        "ratings": interactions.ratings is not None,
        "timestamps": interactions.timestamps is not None,
        "titles": interactions.titles is not None,
        "fingerprint": interactions.fingerprint(),
    }
    if as_json:
        print_json(facts)
    else:
        print_facts("", facts)
