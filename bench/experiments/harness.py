"""Shared parts of the experiments: command line, interleaved timing, rows over seeds, and the file of figures.

    @experiment("load")
    @click.option("--processes", default=15, show_default=True)
    def main(processes: int) -> Figures:
        ...
        return {"rows": rows}

`python -m bench.experiments.NAME --out FILE` writes what the function returns as JSON of format 'edgerec.KIND', with
the command, the options (including seeds), the time, the load and the machine. Rows that take long to compute are
stored one by one: in a grid's file (`grid_rows`), or in a folder (`cached`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any, ParamSpec

import click
import numpy as np
from numpy.typing import NDArray

from edgerec.api import train
from edgerec.console import messages
from edgerec.data import Interactions, SplitSpec, load_data, metrics_per_user, named_sets, split, tested_rows
from edgerec.errors import BenchError
from edgerec.files import cache_folder, write_json
from edgerec.measure import bundle_rankings
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec_bench.command import ASIDE, BenchCommand, check_out, typed
from edgerec_bench.grid import GridPlan, GridStatus, Row, run_grid
from edgerec_bench.record import over_seeds, with_spread, write_record

ROOT = Path(__file__).parents[2]
"""The root of the checkout, in which `python -m bench.experiments.NAME` runs."""
RESAMPLES = 10_000
"""Samples of users of a bootstrap."""
Figures = dict[str, Any]
P = ParamSpec("P")


def experiment(
    kind: str, *, needs_out: bool = False, command: Callable[..., Any] = click.command
) -> Callable[[Callable[P, Figures]], click.Command]:
    """Turn a function that returns figures into a command, with the options --note and --out.

    The command exits with status 1 if the figures contain 'faults', and with status 2 and one line for an error of the
    user.

    Args:
        kind: kind of the file, whose format is 'edgerec.KIND'.
        needs_out: True if --out is required because rows are stored next to it.
        command: `click.command`, or the method of a group.
    """

    def decorate(function: Callable[P, Figures]) -> click.Command:
        module = function.__globals__["__spec__"].name  # also where it runs as __main__

        @wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> Figures:
            values: dict[str, Any] = dict(kwargs)
            note = values.pop("note")
            check_out({**values, "out": out_path()})
            figures = function(*args, **values)
            if (out := out_path()) is not None:
                _write(out, kind, module, {"note": note, **figures})
            if figures.get("faults"):
                raise SystemExit(1)
            return figures

        measured = click.option("--note", default="", help="Text for the record: what else runs on the machine.")(
            measured
        )
        measured = click.option(
            "--out",
            type=click.Path(path_type=Path),
            required=needs_out,
            expose_value=False,
            callback=_remember_out,
            help="Write the figures to this file as JSON.",
        )(measured)
        result: click.Command = command(cls=BenchCommand)(measured)
        return result

    return decorate


def _remember_out(context: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    context.meta[__name__] = value
    return value


def out_path() -> Path | None:
    """Return the --out of the running command, or None."""
    found: Path | None = click.get_current_context().meta[__name__]
    return found


def next_to_out(suffix: str) -> Path:
    """Return a path next to the file of figures, in which to store rows. Raises BenchError without --out."""
    out = out_path()
    if out is None:
        raise BenchError("rows are stored next to the file of figures; name it with --out FILE")
    return out.with_suffix(suffix)


def _write(out: Path, kind: str, module: str, figures: Figures) -> None:
    context = click.get_current_context()
    within = [] if context.parent is None else [str(context.info_name)]
    given = ((name, value) for name, value in context.params.items() if name not in ASIDE)
    options = {name: str(value) if isinstance(value, Path) else value for name, value in given}
    about = {"options": options, "load_average": load_average()}
    write_record(out, kind, typed(context, "python", "-m", module, *within), {**about, **figures})


def load_average() -> float | None:
    """Return the one-minute load average; None on Windows, which has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def time_interleaved(calls: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Time the calls round by round, after a round of warm-up; return the milliseconds of each call."""
    taken: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, times in zip(calls, taken, strict=True):
            started = time.perf_counter()
            call()
            if number:
                times.append(1e3 * (time.perf_counter() - started))
    return taken


def median_seconds(call: Callable[[], Any], rounds: int) -> float:
    """Return the median time of several calls, including the first."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return median(taken)


def rows_over_seeds(
    label: str, found: Mapping[str, Sequence[Mapping[str, float]]], figures: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for each name in `found`: the name under `label`, and each of the figures over the seeds.

    Args:
        found: the figures of each seed, by name.
    """
    return [
        {label: name, **{figure: over_seeds([one[figure] for one in by_seed]) for figure in figures}}
        for name, by_seed in found.items()
    ]


def cells_with_spread(rows: Sequence[Mapping[str, Any]], label: str, figures: Sequence[str]) -> list[list[str]]:
    """Format rows of `rows_over_seeds` as table cells: the name, and each of the figures with its spread."""
    return [[row[label], *(with_spread(row[figure]) for figure in figures)] for row in rows]


def grid_rows(plan: GridPlan, path: Path, *, workers: int) -> list[Row]:
    """Train the cells of a plan that `path` does not hold yet, and print the name of each when it starts.

    Raises BenchError if a cell fails.
    """
    begun: set[str] = set()

    def show(status: GridStatus) -> None:
        for name in status.running:
            if name not in begun:
                messages.print(name, markup=False)
                begun.add(name)

    result = run_grid(plan, path, workers=workers, verify=False, progress=show, on_message=_print_message)
    if result.failures:
        raise BenchError(result.reasons)
    return result.rows


def _print_message(line: str) -> None:
    messages.print(line, markup=False)


runs_option = click.option(
    "--runs", type=click.Path(path_type=Path), help="Folder of the runs; finished runs in it are not trained again."
)
"""The option --runs, for `trained_run`."""


def trained_run(
    interactions: Interactions,
    runs: Path | None,
    name: str,
    *,
    backbone: str,
    dimensions: int,
    split: str,
    threads: int,
    method: str = "dense",
    budget: str | None = None,
) -> Run:
    """Train a run, or return the finished one of this name in the folder `runs`; without a folder nothing is stored."""
    return train(
        interactions,
        backbone=backbone,
        method=method,
        budget=budget,
        dimensions=dimensions,
        split=split,
        threads=threads,
        out=None if runs is None else runs / name,
        resume=True,
    )


def named_or_stored(data: str) -> Interactions:
    """Return a named set, or the folder of that name among the data sets."""
    folder = Path(os.environ.get("EDGEREC_DATA") or cache_folder("data")) / data
    return load_data(folder if data not in named_sets() and folder.is_dir() else data)


def usual_split(data: str) -> str:
    """Return the split that a named set is measured on: its published one, if papers use it."""
    return "published" if data in ("gowalla", "yelp2018") else "random:80/20"


def metric_per_user(bundle: Path, interactions: Interactions, spec: SplitSpec, metric: str) -> NDArray[np.float64]:
    """Return (n,) a metric such as ndcg@20 of a bundle's answers to each user of the split's test part."""
    parts, k = split(interactions, spec), int(metric.partition("@")[2])
    rows = tested_rows(parts.test, None)
    with Recommender.load(bundle) as model:
        rankings = bundle_rankings(model, parts.train_all, parts.train_all, rows, k)
    return metrics_per_user(rankings, parts.test, rows=rows, ks=(k,))[metric]


def interval_over_users(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences (n,) by a bootstrap over users."""
    rng, n = np.random.default_rng(0), len(differences)
    means = np.array([differences[rng.integers(0, n, n)].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def cached(path: Path, request: Mapping[str, Any], measure: Callable[[], Figures]) -> Figures:
    """Return the figures stored in `path` for the same request; otherwise measure and store them."""
    if path.exists() and (known := json.loads(path.read_text()))["request"] == request:
        return dict(known["found"])
    path.parent.mkdir(parents=True, exist_ok=True)
    found = measure()
    write_json(path, {"request": request, "found": found})
    return found
