"""BET's search with iALS as proxy compared with fine-tuning the backbone: seconds, and quality of the final model.

usage: python -m bench.experiments.search_proxies [DATA] [--backbone lightgcn] [--proxy ials] [--out result.json]

Both evaluate equally many actions, train the best in full and select the best of those on validation; the final model
is trained again on train and validation. Figures are of the test part. After an interruption, the same command resumes
if --work is given.
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

from bench.experiments.harness import Figures, cached, experiment, rows_over_seeds
from bench.experiments.search_job import search_options
from edgerec.api import TrainRequest, train_request
from edgerec.console import messages, print_table
from edgerec.data import Interactions, load_data
from edgerec.methods.search import parse_workers
from edgerec.request import settings_of
from edgerec.training import Step
from edgerec_bench.record import with_spread

PROXIES = ("ials", "backbone")
METRICS = ("ndcg@20", "recall@20")
SECONDS = ("search_s", "seconds", "cpu_s")
_WHILE = {"full": "search_s", "search": "search_s"}
"""The figure that a step's time belongs to, by phase: the search includes the full-size model and the actions."""


def measure(
    interactions: Interactions, request: TrainRequest, workers: int | str | None, folder: Path
) -> dict[str, Any]:
    """Run a search; return METRICS of the final model, and SECONDS: of the search, in total, and of the processors.

    Args:
        folder: folder of the run; an interrupted run resumes, and its seconds are those of the last call.
    """
    seconds: dict[str, float] = defaultdict(float)
    last = started = time.perf_counter()

    def count(step: Step) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[_WHILE.get(step.phase, "rest_s")] += now - last
        last = now

    before = _cpu()
    run = train_request(interactions, request, out=folder, resume=True, progress=count, workers=workers)
    found = {"search_s": seconds["search_s"], "seconds": time.perf_counter() - started, "cpu_s": _cpu() - before}
    return {**found, **{metric: run.metrics["test"][metric] for metric in METRICS}}


def _cpu() -> float:
    """Return the processor seconds of this process and of its finished children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Format the rows as table cells: the proxy, mean seconds, and METRICS with their spread."""
    return [
        [row["oracle"], *(f"{row[name]['mean']:.0f}" for name in SECONDS), *(with_spread(row[m]) for m in METRICS)]
        for row in rows
    ]


@experiment("search-oracles")
@click.argument("data", default="ml-1m")
@click.option("--backbone", default="lightgcn", show_default=True, help="Backbone to train.")
@search_options(split="random:50+25/25")
@click.option("--iterations", default=50, show_default=True, help="Number of actions that a search evaluates.")
@click.option("--retrain", default=5, show_default=True, help="Number of actions to train in full.")
@click.option("--epochs", type=int, help="Maximum number of epochs of a training in full.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the backbone. Repeatable.")
@click.option("--proxy", "proxies", multiple=True, type=click.Choice(PROXIES), default=PROXIES, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Number of seeds.")
@click.option("--workers", help="Number of worker processes, as in 'edgerec train'.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder in which to store runs and resume them.")
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
    """Compare BET's search with different proxies."""
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
                found[proxy].append(cached(folder.with_suffix(".json"), request.to_dict(), once))
                messages.print(f"{proxy}, seed {seed}: {found[proxy][-1]}", markup=False)
    rows = rows_over_seeds("oracle", found, (*SECONDS, *METRICS))
    columns = ("proxy", "search, s", "all, s", "CPU, s", *METRICS)
    print_table(f"{data}, {backbone} at {budget}, {iterations} actions", columns, cells(rows))
    return {"workers": workers, "rows": rows}


if __name__ == "__main__":
    main()
