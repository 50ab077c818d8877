"""Memory and time of sparse training compared with dense training, and an ablation of SparseRec's claims.

usage: python -m bench.experiments.sparse_training memory [--data synthetic:12000x8000x200000] [--dimensions 128]
       python -m bench.experiments.sparse_training ablation [--data ml-100k] [--backbone mf] [--seeds 3]

Memory is measured for one epoch of MF, each contender in a process of its own, without validation, which scores with
full tables for every contender. Peaks are the growth of the process's memory since before there was a table, and
include activations, which depend on the batch. Arrays are those that grow with the rows or the active values: table,
gradients, moments and sums.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import ROOT, Figures, experiment
from edgerec.api import train
from edgerec.budget import format_bytes
from edgerec.console import print_table
from edgerec.data import Interactions, load_data
from edgerec.errors import BenchError
from edgerec.methods.sparse.sparserec import SparseRecConfig, backward_of
from edgerec.models import SizePlan, backbone
from edgerec.models.mf import MFConfig
from edgerec.runtime.memory import memory_kib
from edgerec_bench.record import over_seeds, with_spread

CONTENDERS = ("dense", "dense, same batch", "sparserec")

MEMORY = (
    "",
    "interactions a step",
    "start",
    "training",
    "of dense",
    "arrays",
    "of dense",
    "ms a step",
    "s an epoch",
)


def claims(backbone_name: str) -> dict[str, dict[str, str]]:
    """Return method settings by row: without each claim, without all claims, and with the backbone's initial values.

    On graph backbones, whose gradients are of all rows, one row samples the backward pass instead."""
    other = "sampled" if backward_of(backbone_name) == "dense" else "dense"
    return {
        "sparserec": {},
        "random mask": {"mask_init": "random"},
        "grown by the last batch": {"grow": "last-batch"},
        f"{other} backward": {"backward": other},
        "none of the three": {"mask_init": "random", "grow": "last-batch", "backward": "dense"},
        "values of the backbone": {"start": "backbone"},
    }


def measured(name: str, data: str, dimensions: int, density: float, negatives: int) -> dict[str, Any]:
    """Train one epoch of one contender in this process; return its memory peaks and times.

    Raises BenchError if the system does not report memory.
    """
    if not memory_kib():
        raise BenchError("peak memory is read from /proc, which this system does not have; run it on Linux")
    interactions = load_data(data)
    n_rows = interactions.n_users + interactions.n_items
    rows = int(density * n_rows)
    small = max(rows // 2, 1)
    if name == "sparserec":
        return _sparse(interactions, dimensions, density, rows, MFConfig(negatives=negatives))
    config = MFConfig(negatives=negatives, **({"batch": small} if name == "dense, same batch" else {}))
    batch = max(1, min(config.batch, len(interactions) // 64))
    steps = -(-len(interactions) // batch)
    trainer = backbone("mf").trainer(interactions, SizePlan(1), config, seed=0, threads=1)
    trainer.epoch()  # fills torch's caches
    del trainer
    before = _reset()
    trainer = backbone("mf").trainer(interactions, SizePlan(dimensions), config, seed=0, threads=1)
    start_peak = _peak() - before
    _reset()
    seconds = _timed(trainer)
    arrays = dict.fromkeys(("table", "gradients", "moments"), 4 * n_rows * dimensions)
    arrays["moments"] *= 2
    return _figures(start_peak, _peak() - before, seconds, steps, batch, arrays)


def _sparse(interactions: Interactions, dimensions: int, density: float, rows: int, config: MFConfig) -> dict[str, Any]:
    from edgerec.methods.sparse.mf_ncf import MFObjective
    from edgerec.methods.sparse.plan import SparsePlan
    from edgerec.methods.sparse.trainer import trainer_of

    n_rows = interactions.n_users + interactions.n_items

    def trainer_with(d: int, own: SparseRecConfig) -> Any:
        count = max(int(density * n_rows * d), n_rows)
        plan = SparsePlan(
            ((0, n_rows),), (count,), own.mask_init, own.grow, "sampled", rows, own.uniform, own.fraction, 0.0, None,
            18, own.nmf_iterations,
        )  # fmt: skip
        return trainer_of(interactions, MFObjective(interactions, d, config, 1, rows), plan, seed=0, threads=1)

    trainer_with(1, SparseRecConfig(nmf_iterations=1)).epoch()
    before = _reset()
    trainer = trainer_with(dimensions, SparseRecConfig())
    table = trainer.table
    start_peak = _peak() - before
    _reset()
    seconds = _timed(trainer)
    arrays = {
        "table": table.values.nbytes + table.columns.nbytes + table.pointers.nbytes,
        "gradients": 4 * rows * dimensions,
        "moments": table.first.nbytes + table.second.nbytes,
        "sums": trainer.accumulator.nbytes,
        "importances": trainer.sampler.importance.nbytes,
    }
    steps = MFObjective(interactions, dimensions, config, 1, rows).steps
    return _figures(start_peak, _peak() - before, seconds, steps, len(interactions) // steps, arrays)


def _figures(
    start_peak: int, peak: int, seconds: float, steps: int, batch: int, arrays: dict[str, int]
) -> dict[str, Any]:
    return {
        "start_peak_bytes": start_peak,
        "training_peak_bytes": peak,
        "step_ms": 1e3 * seconds / steps,
        "epoch_s": seconds,
        "steps": steps,
        "interactions_a_step": batch,
        "arrays": arrays,
        "array_bytes": sum(arrays.values()),
    }


def _timed(trainer: Any) -> float:
    started = time.perf_counter()
    trainer.epoch()
    return time.perf_counter() - started


def _reset() -> int:
    """Reset the peak; return the bytes in use. Freed memory is returned to the system first, because new arrays in it
    would not count."""
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory_kib()["VmRSS"] * 1024


def _peak() -> int:
    return memory_kib()["VmHWM"] * 1024


def measure_isolated(name: str, *settings: Any) -> dict[str, Any]:
    """Run `measured` in a process of its own. Raises BenchError with its last line of output if it fails."""
    command = [sys.executable, "-m", "bench.experiments.sparse_training", "one", json.dumps([name, *settings])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise BenchError(f"{name} could not be measured: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"name": name, **answer}


def ablation(
    data: str, backbone_name: str, budget: str, dimensions: int, seeds: int, epochs: int | None
) -> list[dict[str, Any]]:
    """Train each choice of claims; return a row for each with NDCG@20 and recall@20 on the test part over the seeds."""
    interactions, rows = load_data(data), []
    for name, method_settings in claims(backbone_name).items():
        runs = [
            train(
                interactions,
                backbone=backbone_name,
                method="sparserec",
                budget=budget,
                dimensions=dimensions,
                method_settings=method_settings,
                seed=seed,
                threads=1,
                max_epochs=epochs,
            )
            for seed in range(seeds)
        ]
        row: dict[str, Any] = {"name": name, "settings": method_settings}
        row["epochs"] = [run.config["epochs"] for run in runs]
        for metric in ("ndcg@20", "recall@20"):
            row[metric] = over_seeds([run.metrics["test"][metric] for run in runs])
        rows.append(row)
    return rows


@click.group()
def main() -> None:
    """Measure memory and claims of sparse training."""


@experiment("sparse-training", command=main.command)
@click.option("--data", default="synthetic:12000x8000x200000", show_default=True, help="Data set.")
@click.option("--dimensions", default=128, show_default=True, help="Dimensions of the tables.")
@click.option("--density", default=0.1, show_default=True, help="Share of active values.")
@click.option(
    "--negatives",
    default=8,
    show_default=True,
    help="Maximum number of negatives to draw per interaction; with 1 the user's items are not looked up.",
)
def memory(data: str, dimensions: int, density: float, negatives: int) -> Figures:
    """Measure the peak memory and the time of an epoch, each contender in a process of its own."""
    rows = [measure_isolated(name, data, dimensions, density, negatives) for name in CONTENDERS]
    print_table(f"{data}, mf, {dimensions} dimensions, {density:.0%}", MEMORY, memory_cells(rows))
    return {"rows": rows}


def memory_cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Format rows as table cells under `MEMORY`; the first row is dense training."""
    whole = rows[0]
    return [
        [
            row["name"],
            f"{row['interactions_a_step']:,}",
            format_bytes(row["start_peak_bytes"]),
            *(
                text
                for name in ("training_peak_bytes", "array_bytes")
                for text in (format_bytes(row[name]), f"{row[name] / whole[name]:.1%}")
            ),
            f"{row['step_ms']:.1f}",
            f"{row['epoch_s']:.1f}",
        ]
        for row in rows
    ]


@experiment("sparse-training", command=partial(main.command, "ablation"))
@click.option("--data", default="ml-100k", show_default=True, help="Data set.")
@click.option("--backbone", "backbone_name", default="mf", show_default=True, help="Backbone to train.")
@click.option("--budget", default="10%", show_default=True, help="Size limit of the tables.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of a full row.")
@click.option("--seeds", default=3, show_default=True, help="Number of seeds.")
@click.option("--epochs", type=int, help="Maximum number of training epochs.")
def ablation_command(
    data: str,
    backbone_name: str,
    budget: str,
    dimensions: int,
    seeds: int,
    epochs: int | None,
) -> Figures:
    """Train without each of the three claims, and with the backbone's initial values."""
    rows = ablation(data, backbone_name, budget, dimensions, seeds, epochs)
    title = f"{data}, {backbone_name} at {budget}, {seeds} seeds"
    print_table(title, ("", "NDCG@20", "recall@20"), ablation_cells(rows))
    return {"rows": rows}


def ablation_cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Format rows as table cells: the name, NDCG@20 and recall@20 with their spread."""
    return [[row["name"], *(with_spread(row[metric]) for metric in ("ndcg@20", "recall@20"))] for row in rows]


@main.command(hidden=True)
@click.argument("settings")
def one(settings: str) -> None:
    """Measure one contender in this process, and print the figures as JSON."""
    click.echo(json.dumps(measured(*json.loads(settings))))


if __name__ == "__main__":
    main()
