"""edgerec grid: trains, exports and measures many combinations into one result file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgerec.cli.help import Command, argument, option
from edgerec.cli.options import FILE, FOLDER, data_paths
from edgerec.cli.output import json_option, print_json
from edgerec.cli.training import WORKERS, parsed_workers
from edgerec.console import print_table, progress_bar, resumable, tell
from edgerec.errors import BenchError
from edgerec.outputs import Output, check_outputs
from edgerec_bench.grid import AXES, GridPlan, GridResult, GridStatus, Row, grid_outputs, run_grid

METRICS = ("ndcg@20", "recall@20", "coverage@20")


@click.command(cls=Command)
@argument("plan", metavar="PLAN.toml", type=FILE, help="Plan: a TOML file of what to combine.")
@option(
    "--out", type=FILE, show_default="the plan's name with .jsonl", help="Result file, one JSON line per combination."
)
@option(
    "--workers",
    callback=parsed_workers,
    metavar=WORKERS,
    default="1",
    help="Number of combinations to run at the same time, or a Ray cluster that runs them (ray://HOST:PORT; ray starts "
    "one here).",
)
@option(
    "--bundles",
    type=FOLDER,
    help="Folder to store the bundles of the combinations in, which are deleted otherwise.",
)
@option("--no-verify", is_flag=True, help="Skip the comparison of the bundles with numpy in a fresh process.")
@json_option
def command(
    plan: Path, out: Path | None, workers: int | str, bundles: Path | None, no_verify: bool, as_json: bool
) -> None:
    """Train, export and measure every combination of a plan file.

    \b
    Example:
      edgerec grid plan.toml --out results.jsonl --workers 2

    A plan has one value or a list of each of data, backbone, method, budget, precision and seed, which are combined;
    other settings of 'edgerec train', such as dimensions, split or epochs, are given once, for all. A wrong name lists
    all names. Each combination's result is appended to the result file when it is complete. If the command is
    interrupted, give it again: it skips the combinations that are in the file, and tries those that failed again.

    \b
    Example of a plan:
      data = ["ml-100k", "ratings.csv"]
      backbone = "ials"
      method = ["uniform", "popularity"]
      budget = ["5%", "10%"]
      precision = ["fp32", "int8"]
      seed = [0, 1, 2]
      dimensions = 32
    """
    out = out or plan.with_suffix(".jsonl")
    outputs = grid_outputs(out)
    if bundles is not None:
        outputs.append(Output(bundles, "--bundles", folder=True, shared=True))
    check_outputs(outputs, [plan], overwrite=None)
    combinations = GridPlan.read(plan)
    check_outputs(outputs, [path for data in combinations.data for path in data_paths(data)], overwrite=None)
    grid = run_cells(combinations, out, workers=workers, verify=not no_verify, bundles=bundles)
    _show(grid, as_json)
    fail_if_any_failed(grid)


def run_cells(plan: GridPlan, out: Path, *, workers: int | str, **options: Any) -> GridResult:
    """Run a plan as `run_grid` does, with a bar on standard error; print that the same command resumes if interrupted.

    Raises BenchError if every cell failed, and as `run_grid` does.
    """
    with (
        resumable(f"the results so far are in {out}; the same command resumes"),
        progress_bar("starting") as update,
    ):

        def show(status: GridStatus) -> None:
            parts = [*status.running]
            if status.failed:
                parts.append(f"{status.failed} failed")
            if status.best is not None:
                parts.append(f"best {status.best[1]:.4f} {status.best[0]}")
            update(description="\n".join(parts), completed=status.done, total=status.total)

        return run_grid(plan, out, workers=workers, progress=show, on_message=tell, **options)


def fail_if_any_failed(grid: GridResult) -> None:
    """Raise BenchError with the reasons if a cell failed."""
    if grid.failures:
        failed = f"{len(grid.failures)} of {len(grid.failures) + len(grid.rows)} combinations failed"
        raise BenchError(f"{failed}; the same command tries them again: {grid.reasons}")


def _show(grid: GridResult, as_json: bool) -> None:
    for note in grid.notes:
        tell(note)
    if as_json:
        print_json({"rows": grid.rows, "failures": grid.failures, "notes": grid.notes})
    else:
        print_table("", [*AXES, *METRICS, "bundle bytes", "table bytes"], map(_cells, grid.rows))


def _cells(row: Row) -> Sequence[str | float | None]:
    axes = [row["cell"][axis] for axis in AXES]
    sizes = [f"{row[name]:,}" for name in ("bundle_bytes", "table_bytes")]
    return [*axes, *(row["metrics"]["bundle"][name] for name in METRICS), *sizes]
