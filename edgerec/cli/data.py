"""edgerec data: lists the data sets that can be used by name, and shows what a data set contains."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from edgerec.cli.help import Group, argument
from edgerec.cli.options import data_options, load_reported
from edgerec.cli.output import json_option, print_json
from edgerec.console import print_facts, print_table
from edgerec.data import Interactions, named_sets
from edgerec.data.folders import PARTS


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
    help="Interactions: the name of a data set (see 'edgerec data list'), or files or a folder of your own.",
)
@data_options
@json_option
def show(data: str, as_json: bool, **options: Any) -> None:
    """Show what a data set contains, and how its files are read.

    \b
    Example:
      edgerec data show orders.csv --min-user 5

    Files of your own are tables (CSV, TSV, JSON lines or Parquet, compressed by gzip or zstd too). Columns are known by
    common names, such as customer_id, sku, date and rating, or named with --user-column and the like; a text file
    without a header has them in the order user, item, rating, timestamp. Several files are given as one pattern in
    quotes ('orders-*.parquet') or between commas. A folder is a data set as MovieLens, RecBole or LightGCN publish it.
    Every row counts as a positive, whatever its rating: choose them with --min-rating or --where.

    \b
    More examples:
      edgerec data show 'orders-*.csv.gz' --item-column sku --where "price > 0"
      edgerec data show ml-100k --min-rating 4
    """
    interactions, report = load_reported(data, options)
    facts: dict[str, Any] = {
        "name": interactions.name,
        "rows read": report.rows,
        "rows dropped by filters": report.dropped,
        "repeats dropped": report.repeats,
        "columns": report.used,
        "columns ignored": report.ignored,
        "users": interactions.n_users,
        "items": interactions.n_items,
        "interactions": len(interactions),
        "density": round(len(interactions) / (interactions.n_users * interactions.n_items), 6),
        "interactions of a user (median)": float(np.median(interactions.user_counts())),
        "interactions of an item (median)": float(np.median(interactions.item_counts())),
        "ratings": interactions.ratings is not None,
        "timestamps": report.times or interactions.timestamps is not None,
        "time range": _time_range(interactions),
        "titles": interactions.titles is not None,
        "categories": None if interactions.categories is None else len(set(interactions.categories.tolist()) - {""}),
        "published split": _parts(interactions),
        "fingerprint": interactions.fingerprint(),
    }
    if as_json:
        print_json(facts)
        return
    facts["columns"] = ", ".join(f"{role}: {column}" for role, column in report.used.items())
    facts["columns ignored"] = ", ".join(report.ignored)
    facts["time range"] = " to ".join(facts["time range"] or [])
    facts["published split"] = ", ".join(f"{part}: {count:,}" for part, count in facts["published split"].items())
    print_facts("", {name: value for name, value in facts.items() if value not in ("", None)})


def _time_range(interactions: Interactions) -> list[str] | None:
    """Return the first and the last time as ISO dates in UTC."""
    if interactions.timestamps is None:
        return None
    ends = np.array([interactions.timestamps.min(), interactions.timestamps.max()])
    return [f"{end}Z" for end in ends.astype("datetime64[s]").astype(str).tolist()]


def _parts(interactions: Interactions) -> dict[str, int]:
    """Return the sizes of the parts of a published split."""
    if interactions.parts is None:
        return {}
    counts = np.bincount(interactions.parts, minlength=len(PARTS)).tolist()
    return {part: count for part, count in zip(PARTS, counts, strict=True) if count}
