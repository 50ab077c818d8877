"""edgerec data: which data sets there are, and what is in one."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from edgerec.cli.options import filter_options, load
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_facts, print_table
from edgerec.data import named_sets


@click.group()
def command() -> None:
    """List and look at data sets."""


@command.command("list")
@json_option
def list_sets(as_json: bool) -> None:
    """List the data sets that have a name.

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
@click.argument("data", default="ml-100k")
@filter_options
@json_option
def show(data: str, min_user: int, min_item: int, encoding: str | None, as_json: bool) -> None:
    """Show what a data set holds. DATA is a name, or a file or folder; else ml-100k.

    \b
    Example:
      edgerec data show ml-100k
      edgerec data show ratings.csv --min-user 5
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
