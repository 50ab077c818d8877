"""BET's search with sizes judged by iALS, beside one that judges by fine-tuning the backbone: seconds, and what ships.

usage: python -m bench.experiments.search_proxies [DATA] [--backbone lightgcn] [--proxy ials] [--out result.json]

Both judge as many actions, train the best in full and keep the best of those on validation; the final model is trained
once more on train and validation. Figures are of the test part. Stopped, the same command goes on with --work.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.experiments.harness import Figures, experiment, kept, rows_over_seeds
from bench.experiments.search_job import search_options
from edgerec.api import TrainRequest, train_request
from edgerec.console import messages, print_table
from edgerec.data import Interactions, load_data
from edgerec.methods.search.workers import parse_workers
from edgerec.request import settings_of
from edgerec.training import Step
from edgerec_bench.record import with_spread

PROXIES = ("ials", "backbone")
METRICS = ("ndcg@20", "recall@20")
SECONDS = ("search_s", "seconds", "cpu_s")
_WHILE = {"full": "search_s", "search": "search_s"}
"""What is a part of the search, by the phase of a step: the full-size model, and the actions."""


def measure(
    interactions: Interactions, request: TrainRequest, workers: int | str | None, folder: Path
) -> dict[str, Any]:
    """METRICS of a search's result, and SECONDS: of the search alone, of all of it, and the processors' own.

    Args:
        folder: where the run is kept; a run that was stopped goes on, and its seconds are those of the last call.
    """
    seconds: dict[str, float] = defaultdict(float)
    last = started = time.perf_counter()

    def told(step: Step) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[_WHILE.get(step.phase, "rest_s")] += now - last
        last = now

    before = _cpu()
    run = train_request(interactions, request, out=folder, resume=True, progress=told, workers=workers)
    found = {"search_s": seconds["search_s"], "seconds": time.perf_counter() - started, "cpu_s": _cpu() - before}
    return {**found, **{metric: run.metrics["test"][metric] for metric in METRICS}}


def _cpu() -> float:
    """Seconds of this process and of those that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line an oracle: mean seconds, and METRICS with their spread."""
    return [
        [row["oracle"], *(f"{row[name]['mean']:.0f}" for name in SECONDS), *(with_spread(row[m]) for m in METRICS)]
        for row in rows
    ]


@experiment("search-oracles")
@click.argument("data", default="ml-1m")
@click.option("--backbone", default="lightgcn", show_default=True)
@search_options(split="random:50+25/25")
@click.option("--iterations", default=50, show_default=True, help="Actions that a search judges.")
@click.option("--retrain", default=5, show_default=True, help="Actions that are trained in full.")
@click.option("--epochs", type=int, help="Of a training in full, at most.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the backbone.")
@click.option("--proxy", "proxies", multiple=True, type=click.Choice(PROXIES), default=PROXIES, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--workers", help="As of edgerec train.")
@click.option("--work", type=click.Path(path_type=Path), help="Keep runs here, and go on from those that are there.")
def main(
    data: str,
    backbone: str,
    budget: str,
    dimensions: int,
    split: str,
    iterations: int,
    retrain: int,
    epochs: int | None,
    settings: tuple[str, ...],
    proxies: tuple[str, ...],
    seeds: int,
    workers: str | None,
    work: Path | None,
) -> Figures:
    """Measure and print."""
    interactions, pool = load_data(data), None if workers is None else parse_workers(workers)
    found: dict[str, list[dict[str, Any]]] = {proxy: [] for proxy in proxies}
    with TemporaryDirectory() as temporary:
        for seed in range(seeds):
            for proxy in proxies:
                request = TrainRequest.make(
                    backbone,
                    "bet",
                    budget=budget,
                    dimensions=dimensions,
                    split=split,
                    settings=settings_of(settings),
                    method_settings={
                        "proxy": proxy,
                        "iterations": iterations,
                        "retrain": retrain,
                        "include_uniform_baseline": False,
                    },
                    seed=seed,
                    threads=1,
                    max_epochs=epochs,
                )
                folder = (work or Path(temporary)) / f"{proxy}-{seed}"
                once = partial(measure, interactions, request, pool, folder)
                found[proxy].append(kept(folder.with_suffix(".json"), request.to_dict(), once))
                messages.print(f"{proxy}, seed {seed}: {found[proxy][-1]}", markup=False)
    rows = rows_over_seeds("oracle", found, (*SECONDS, *METRICS))
    columns = ("judged by", "search, s", "all, s", "CPU, s", *METRICS)
    print_table(f"{data}, {backbone} at {budget}, {iterations} actions", columns, cells(rows))
    return {"workers": workers, "rows": rows}


if __name__ == "__main__":
    main()
