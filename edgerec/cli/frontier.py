"""edgerec frontier: finds the best bundle for each size on one data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes
from edgerec.cli.grid import fail_if_any_failed, run_cells
from edgerec.cli.help import Choice, Command, option
from edgerec.cli.options import FILE, data_argument, data_paths, dimensions_option, encoding_option, overwrite_option
from edgerec.cli.output import json_option, print_json, print_text, say
from edgerec.cli.training import WORKERS, parsed_workers
from edgerec.console import print_table, tell
from edgerec.errors import BenchError, RequestError
from edgerec.files import write_bytes
from edgerec.models import BACKBONES
from edgerec.outputs import Output, check_outputs, json_of, page, text_of
from edgerec_bench.command import is_default, typed
from edgerec_bench.frontier import (
    BUDGETS,
    COLUMNS,
    METHODS,
    PRECISIONS,
    QUICK,
    Frontier,
    front_rows,
    frontier_plan,
    points,
    rival_sentences,
    to_csv,
    to_markdown,
)
from edgerec_bench.grid import GridResult, grid_outputs
from edgerec_bench.record import write_record

KIND = "frontier"
"""Kind of the record, in its format."""


@click.command("frontier", cls=Command)
@data_argument
@encoding_option
@option("--backbone", type=Choice(BACKBONES), default="ials", help="Model to train, as in 'edgerec train'.")
@option(
    "--method",
    multiple=True,
    default=METHODS,
    metavar="NAME",
    help="Method of 'edgerec train' to compare; may be repeated.",
)
@option(
    "--budget",
    multiple=True,
    default=BUDGETS,
    metavar="BUDGET",
    help="Budget of 'edgerec train' to compare, such as 10% or 64KiB; may be repeated.",
)
@option(
    "--precision",
    multiple=True,
    default=PRECISIONS,
    metavar="NAME",
    help="Precision of 'edgerec export' to compare; may be repeated. With auto, a dense table is shortened and "
    "quantized to the bytes of each budget.",
)
@option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    help="Number of trainings of each combination, each with its own seed.",
)
@dimensions_option(64)
@option(
    "--no-users",
    is_flag=True,
    help="Leave the user table out of the bundles, as in 'edgerec export'; budgets are still those of the training.",
)
@option("--quick", is_flag=True, help="Try the command in less than a minute, on synthetic data and few combinations.")
@option(
    "--workers",
    callback=parsed_workers,
    metavar=WORKERS,
    show_default="one per processor",
    help="Number of combinations to run at the same time, or a Ray cluster that runs them (ray://HOST:PORT; ray starts "
    "one here).",
)
@option(
    "--out",
    type=FILE,
    default="frontier.html",
    help="Page to write, whose name ends in .html; the same figures are written as .json, .md, .csv and .jsonl with "
    "the same name.",
)
@overwrite_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    data: str,
    encoding: str | None,
    no_users: bool,
    workers: int | str | None,
    out: Path,
    overwrite: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Find the best bundle for each size, over methods, budgets and precisions.

    \b
    Example:
      edgerec frontier ml-100k --out films.html

    Every combination is trained, exported and measured by the answers of its bundle; the page charts quality against
    bytes, with plain tables (the methods dense and uniform) as the baseline. It begins with the bundle to ship, the
    smallest within 1 % of the best quality, and the commands that build it. If the command is interrupted, give it
    again: it skips the combinations that are done.

    \b
    More examples:
      edgerec frontier ratings.csv --backbone mf --method popularity --method uniform --budget 64KiB --budget 128KiB
      edgerec frontier ml-100k --no-users --method dense --precision int4 --precision auto
      edgerec frontier --quick
    """
    if out.suffix not in (".html", ".htm"):
        raise RequestError(f"{out} does not end in .html, and --out is a page; give --out {out.with_suffix('.html')}")
    if chosen.pop("quick"):
        given = {name for name in ("data", *chosen) if not is_default(context, name)}
        trial = {name: value for name, value in QUICK.items() if name not in given}
        data, chosen = trial.pop("data", data), {**chosen, **trial}
    if encoding is not None:
        chosen["encoding"] = encoding
    if no_users:
        chosen["users"] = False
    plan, cells = frontier_plan(data, **chosen), out.with_suffix(".jsonl")
    check_outputs([*_outputs(out), *grid_outputs(cells)], data_paths(data), overwrite=overwrite)
    grid = run_cells(plan, cells, workers=workers or _processors())
    if not grid.rows:
        raise BenchError(f"every combination failed: {grid.reasons}")
    frontier = Frontier(
        data, chosen, points(grid.rows), [*grid.notes, *_failures(grid)], typed(context, "edgerec", "frontier")
    )
    _write(out, frontier)
    if as_json:
        print_json(frontier.to_json())
    else:
        print_table(frontier.title, COLUMNS, front_rows(frontier.points))
        _print_ship(frontier)
        for sentence in rival_sentences(frontier.points):
            say(sentence)
        tell(f"wrote {out}")
    fail_if_any_failed(grid)


def _print_ship(frontier: Frontier) -> None:
    ship = frontier.ship()
    if ship is not None and ship[1]:
        point, commands = ship
        say(f"ship this: {point.name}, {format_bytes(point.nbytes)}")
        for command in commands:
            print_text(f"  {command}\n")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _failures(grid: GridResult) -> list[str]:
    return [f"{name} failed: {reason}" for name, reason in grid.failures.items()]


def _outputs(out: Path) -> list[Output]:
    """Return the page, and the tables with the same name and other suffixes."""
    return [
        Output(out, ours=page),
        Output(out.with_suffix(".md"), ours=text_of(to_markdown([]).encode())),
        Output(out.with_suffix(".csv"), ours=text_of(to_csv([]).encode())),
        Output(out.with_suffix(".json"), ours=json_of(f"edgerec.{KIND}")),
    ]


def _write(out: Path, frontier: Frontier) -> None:
    from edgerec_bench.reports.frontier_page import write_page

    write_bytes(out.with_suffix(".md"), to_markdown(frontier.points).encode())
    write_bytes(out.with_suffix(".csv"), to_csv(frontier.points).encode())
    write_page(out, frontier)
    write_record(out.with_suffix(".json"), KIND, frontier.command, frontier.to_json())
