"""Several ranks train what one process trains: the quality of both, and their processor time.

usage: python -m bench.experiments.ranks [--data ml-100k] [--backbone lightgcn] [--processes 2] [--seeds 3]
    [--epochs 6] [--set NAME=VALUE] [--out result.json]

`edgerec train` runs for each seed in one process and in several, one thread each. A seed decides the split as well.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment
from edgerec.errors import BenchError
from edgerec.models import BACKBONES
from edgerec.training import Run
from edgerec_bench.record import over_seeds

FIGURES = ("ndcg@20", "processor_seconds")


@experiment("ranks")
@click.option("--data", default="ml-100k", show_default=True, help="Data set.")
@click.option("--backbone", default="lightgcn", show_default=True, type=click.Choice(BACKBONES), help="Backbone.")
@click.option("--precision", default="fp32", show_default=True, help="Precision of the bundle to be exported.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(2), help="Number of ranks.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Number of seeds, from 0.")
@click.option("--epochs", type=click.IntRange(1), help="Maximum number of epochs; the default is the backbone's.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of training; may be repeated.")
def main(
    data: str,
    backbone: str,
    precision: str,
    processes: int,
    seeds: int,
    epochs: int | None,
    settings: tuple[str, ...],
) -> Figures:
    """Train in one process and in several, and compare both."""
    command = [sys.executable, "-m", "edgerec", "train", data, "--backbone", backbone, "--precision", precision]
    command += [] if epochs is None else ["--epochs", str(epochs)]
    command += [word for setting in settings for word in ("--set", setting)]
    rows = [
        {"seed": seed, "processes": count, **_trained([*command, "--seed", str(seed)], count)}
        for seed in range(seeds)
        for count in (1, processes)
    ]
    return {"rows": rows, "means": [_means(rows, count) for count in (1, processes)]}


def _trained(command: list[str], count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out, before = Path(folder, "run"), _seconds()
        words = [*command, "--threads", "1", "--processes", str(count), "--out", str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise BenchError(f"the training failed: {done.stderr.strip()}")
        run, after = Run.load(out), _seconds()
    quality = {"ndcg@20": run.metrics["test"]["ndcg@20"], "epochs": run.config["epochs"]}
    return {**quality, "processor_seconds": round(after - before, 1)}


def _seconds() -> float:
    """Return the processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _means(rows: list[dict[str, Any]], count: int) -> dict[str, Any]:
    own = [row for row in rows if row["processes"] == count]
    return {"processes": count, **{name: over_seeds([row[name] for row in own]) for name in FIGURES}}


if __name__ == "__main__":
    main()
