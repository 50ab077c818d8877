"""edgerec data: lists the data sets that can be used by name, and shows what a data set contains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from edgerec.budget import parse_bytes
from edgerec.cli.help import Group, argument, option
from edgerec.cli.options import FOLDER, data_inputs, data_options, load_reported, reading_of, seed_option
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_facts, print_table, progress_bar, resumable
from edgerec.data import Interactions, SplitSpec, named_sets
from edgerec.data.build import build_data
from edgerec.data.folders import PARTS
from edgerec.data.stages import BuildOptions
from edgerec.outputs import Output, always, check_outputs

STAGES = {
    "read": "reading the files",
    "pairs": "numbering ids and dropping repeats",
    "core": "dropping rare users and items",
    "rank": "ordering ids by popularity",
    "sort": "sorting by user and time",
    "interactions": "writing the arrays",
    "split": "writing the parts of the split",
}
"""The stages of a build in words."""


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
        "dropped by --min-user, --min-item": report.rows - report.dropped - report.repeats - len(interactions),
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


@command.command()
@argument(
    "sources",
    metavar="SOURCE...",
    nargs=-1,
    required=True,
    help="Files, patterns of files in quotes, or one folder of a published data set.",
)
@option("--out", type=FOLDER, required=True, help="New folder for the built data; a build that stopped is continued.")
@option(
    "--memory",
    default="1GiB",
    metavar="SIZE",
    help="Memory that the build may use, at least 256MiB; "
    "about 120 bytes for each user and item may come on top at its end.",
)
@option(
    "--split",
    metavar="SPLIT",
    show_default="none",
    help="Split whose parts are stored, so that training with the same --split and --seed maps them from disk "
    "(see 'edgerec train --help').",
)
@seed_option
@data_options
@json_option
def build(sources: tuple[str, ...], out: Path, memory: str, as_json: bool, **options: Any) -> None:
    """Build data of any size, on disk and within --memory, into a folder that every command takes as DATA.

    \b
    Example:
      edgerec data build 'events/*.parquet' --out shop.data --min-user 5 --split random:80/20

    Files are read as 'edgerec data show' reads them. Users and items are numbered by popularity, repeated pairs are
    dropped but for the latest, and the interactions of a user are in the order of time. The folder holds arrays that
    are mapped into memory, so that commands start at once. After Ctrl-C or a kill, the same command continues after the
    last complete stage. A folder that holds anything else is never overwritten.
    """
    split = None if options["split"] is None else SplitSpec.parse(options["split"], seed=options["seed"])
    inputs = [path for source in sources for path in data_inputs(source, options)]
    check_outputs([Output(out, ours=always, folder=True)], inputs, overwrite=None)
    settings = BuildOptions(
        reading_of(options),
        options["min_user"],
        options["min_item"],
        options["item_attributes"],
        split,
        parse_bytes(memory),
    )
    with resumable(f"give the same command again to continue ({out})"), progress_bar("starting") as update:

        def show_stage(name: str, number: int, count: int) -> None:
            update(description=STAGES[name], completed=number - 1, total=count)
            messages.print(f"{number}/{count} {STAGES[name]}", markup=False)

        built = build_data(sources, out, settings, show_stage)
    facts = {
        "folder": str(out),
        "users": built.n_users,
        "items": built.n_items,
        "interactions": len(built),
        "split": options["split"],
        "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "fingerprint": built.fingerprint(),
    }
    if as_json:
        print_json(facts)
    else:
        print_facts("", {name: value for name, value in facts.items() if value is not None})


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
