"""edgerec frontier: quality per byte of many trainings on one data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes
from edgerec.cli.grid import progress_bar
from edgerec.cli.options import PathType, data_path, overwrite_option
from edgerec.cli.output import json_option, print_json, print_text, say
from edgerec.console import messages, print_table, resumable
from edgerec.errors import BenchError, RequestError
from edgerec.files import write_bytes
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
    to_csv,
    to_markdown,
)
from edgerec_bench.grid import Grid, grid_outputs, run_grid
from edgerec_bench.record import write_record

KIND = "frontier"
"""Kind of the record, in its format."""


@click.command("frontier")
@click.argument("data", default="ml-100k")
@click.option("--backbone", default="ials", show_default=True, help="What is trained.")
@click.option("--method", multiple=True, default=METHODS, show_default=True, help="May be repeated.")
@click.option("--budget", multiple=True, default=BUDGETS, show_default=True, help="May be repeated.")
@click.option("--precision", multiple=True, default=PRECISIONS, show_default=True, help="May be repeated.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each.")
@click.option("--dimensions", type=click.IntRange(1), default=64, show_default=True, help="Of a full row.")
@click.option("--quick", is_flag=True, help="A trial in less than a minute: made-up data, few cells.")
@click.option("--workers", type=click.IntRange(1), help="Cells at a time.  [default: one a processor]")
@click.option(
    "--out",
    type=PathType(dir_okay=False),
    default="frontier.html",
    show_default=True,
    help="The page; .json, .md, .csv and the grid's .jsonl stand beside it.",
)
@overwrite_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    data: str,
    workers: int | None,
    out: Path,
    overwrite: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Draw which bundle is best at each size: methods, budgets and precisions on one data set.

    Every combination is trained, exported, and measured by its bundle's own answers; plain tables of any precision are
    the rivals. DATA is a name, or a file or folder; else ml-100k. Stopped at any point, the same command goes on, and
    what is there is not made again.

    \b
    Example:
      edgerec frontier ml-100k --out films.html
      edgerec frontier ratings.csv --backbone mf --method popularity --method uniform --budget 64KiB --budget 128KiB
      edgerec frontier --quick
    """
    if out.suffix not in (".html", ".htm"):
        raise RequestError(f"{out} is to be a page; give --out {out.with_suffix('.html')}")
    if chosen.pop("quick"):
        given = {name for name in ("data", *chosen) if not is_default(context, name)}
        trial = {name: value for name, value in QUICK.items() if name not in given}
        data, chosen = trial.pop("data", data), {**chosen, **trial}
    plan, cells = frontier_plan(data, **chosen), out.with_suffix(".jsonl")
    check_outputs([*_drawn(out), *grid_outputs(cells)], [data_path(data)], overwrite=overwrite)
    with resumable(f"what is done is in {cells}, and the same command goes on"), progress_bar() as progress:
        grid = run_grid(plan, cells, workers=workers or _processors(), progress=progress, tell=_tell)
    if not grid.rows:
        raise BenchError(f"no cell could be made: {grid.reasons}")
    frontier = Frontier(
        data, chosen, points(grid.rows), [*grid.notes, *_failures(grid)], typed(context, "edgerec", "frontier")
    )
    _write(out, frontier)
    if as_json:
        print_json(frontier.to_json())
    else:
        print_table(frontier.title, COLUMNS, front_rows(frontier.points))
        _print_ship(frontier)
        messages.print(f"wrote {out}", markup=False)
    if grid.failures:
        raise BenchError(f"{len(grid.failures)} cells failed, and the same command tries them again: {grid.reasons}")


def _print_ship(frontier: Frontier) -> None:
    ship = frontier.ship()
    if ship is not None and ship[1]:
        point, commands = ship
        say(f"ship this: {point.name}, {format_bytes(point.nbytes)}")
        for command in commands:
            print_text(f"  {command}\n")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tell(line: str) -> None:
    messages.print(line, markup=False)


def _failures(grid: Grid) -> list[str]:
    return [f"{name} failed: {reason}" for name, reason in grid.failures.items()]


def _drawn(out: Path) -> list[Output]:
    """Return the page, and the tables next to it under the same name."""
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
