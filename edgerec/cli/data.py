"""edgerec data: lists the data sets that can be used by name, and shows what a data set contains."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from edgerec.cli.help import Group, argument
from edgerec.cli.options import filter_options, load
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_facts, print_table
from edgerec.data import named_sets


@click.group(cls=Group)
def command() -> None:
    """List the data sets that can be used by name, and show what a data set contains.

    \b
    Example:
      edgerec data list

    A named set is downloaded from its publisher when it is first used, and its licence is printed then. The
    name synthetic needs no download: synthetic:300x200x9000 generates 300 users, 200 items and 9000 interactions.
    """


@command.command("list")
@json_option
def list_sets(as_json: bool) -> None:
    """List the data sets that can be used by name, with their sizes and licences.

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
@argument(
    "data",
    default="ml-100k",
    help="Interactions: the name of a data set (see 'edgerec data list'), or a file or folder of your own.",
)
@filter_options
@json_option
def show(data: str, min_user: int, min_item: int, encoding: str | None, as_json: bool) -> None:
    """Show how many users, items and interactions a data set contains.

    \b
    Example:
      edgerec data show ratings.csv --min-user 5

    A file of your own is a table (CSV, TSV or Parquet, gzip too). Its header names the columns, such as user_id,
    item_id and, optionally, rating and timestamp; a text file without a header has them in this order. A folder is a
    data set as MovieLens, RecBole or LightGCN publish it. Every row counts as a positive, whatever its rating.
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
