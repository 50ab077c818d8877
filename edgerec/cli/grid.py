"""edgerec grid: many trainings, exports and measurements in one result file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edgerec.cli.options import FOLDER, PathType, data_path
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_table, resumable
from edgerec.errors import BenchError
from edgerec.outputs import Output, check_outputs
from edgerec_bench.grid import AXES, GridPlan, GridResult, GridStatus, Row, grid_outputs, run_grid

FILE = PathType(dir_okay=False)
METRICS = ("ndcg@20", "recall@20", "coverage@20")


@click.command()
@click.argument("plan", metavar="PLAN.toml", type=FILE)
@click.option("--out", type=FILE, help="The result file, JSON lines.  [default: PLAN.jsonl]")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Cells at a time.")
@click.option("--bundles", type=FOLDER, help="Folder that keeps the bundles of the cells that this call makes.")
@click.option("--no-verify", is_flag=True, help="Do not compare the bundles with numpy in a fresh process.")
@json_option
def command(plan: Path, out: Path | None, workers: int, bundles: Path | None, no_verify: bool, as_json: bool) -> None:
    """Train, export and measure every cell of a plan: data, backbone, method, budget, precision and seed.

    A cell's row is appended to the result file as it ends; cells that are there are not made again. Stopped at any
    point, the same command goes on, and cells that failed are tried again.

    \b
    Example:
      edgerec grid plan.toml --out results.jsonl --workers 2
    """
    out = out or plan.with_suffix(".jsonl")
    outputs = grid_outputs(out)
    if bundles is not None:
        outputs.append(Output(bundles, "--bundles", folder=True, shared=True))
    check_outputs(outputs, [plan], overwrite=None)
    asked = GridPlan.read(plan)
    check_outputs(outputs, map(data_path, asked.data), overwrite=None)
    with resumable(f"what is done is in {out}, and the same command goes on"), progress_bar() as progress:
        grid = run_grid(
            asked,
            out,
            workers=workers,
            verify=not no_verify,
            bundles=bundles,
            progress=progress,
            on_message=lambda line: messages.print(line, markup=False),
        )
    _show(grid, as_json)
    if grid.failures:
        failed = f"{len(grid.failures)} of {len(grid.failures) + len(grid.rows)} cells failed"
        raise BenchError(f"{failed}, and the same command tries them again: {grid.reasons}")


@contextmanager
def progress_bar() -> Iterator[Callable[[GridStatus], None]]:
    """A bar on standard error for `run_grid`, while the block runs."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def show(status: GridStatus) -> None:
            parts = [*status.running]
            if status.failed:
                parts.append(f"{status.failed} failed")
            if status.best is not None:
                parts.append(f"best {status.best[1]:.4f} {status.best[0]}")
            bar.update(task, description="\n".join(parts), completed=status.done, total=status.total)

        yield show


def _show(grid: GridResult, as_json: bool) -> None:
    for note in grid.notes:
        messages.print(note, markup=False)
    if as_json:
        print_json({"rows": grid.rows, "failures": grid.failures, "notes": grid.notes})
    else:
        print_table("", [*AXES, *METRICS, "bundle bytes", "table bytes"], map(_cells, grid.rows))


def _cells(row: Row) -> Sequence[str | float | None]:
    axes = [row["cell"][axis] for axis in AXES]
    sizes = [f"{row[name]:,}" for name in ("bundle_bytes", "table_bytes")]
    return [*axes, *(row["metrics"]["bundle"][name] for name in METRICS), *sizes]
