"""Bytes, quality and time of trained tables, with a user table and without one.

usage: EDGEREC_DATA=FOLDER python -m bench.experiments.trained [--data ml-1m] [--out result.json]

Full tables of SVD and iALS are exported plain (dense) in several precisions, and fitted to sizes by `--precision auto
--fit`. Bytes are all files of a bundle, NDCG@20 is that of its own answers on the test part, and the time is the median
of single requests (20 best, nothing excluded), all bundles interleaved on one thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from bench.experiments.harness import Figures, experiment, time_interleaved
from edgerec.api import train
from edgerec.budget import format_bytes, parse_bytes
from edgerec.console import print_table
from edgerec.data import Interactions, load_data
from edgerec.measure import evaluate
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec_export import export, from_run

METRIC = "ndcg@20"
PLAIN = ("fp32", "int8", "int4")
HISTORY, SUBJECTS = 20, 100
"""Items of a history, and the number of users or histories that requests are for: skipped blocks differ by user."""
COLUMNS = ("backbone", "users", "stored", "bytes", "NDCG@20", "ms a request", "of dense fp32")


def bundles(run: Run, limits: tuple[str, ...], folder: Path) -> list[tuple[dict[str, Any], Path]]:
    """Export plain and fitted bundles of a run, with its user table if it has one, and without."""
    source = from_run(run)
    found: list[tuple[dict[str, Any], Path]] = []
    for users in (True, False) if run.users is not None else (False,):
        plain: list[dict[str, Any]] = [{"layout": "dense", "precision": precision} for precision in PLAIN]
        fitted: list[dict[str, Any]] = [
            {"precision": "auto", "fit": True, "max_bytes": parse_bytes(limit)} for limit in limits
        ]
        for settings in (*plain, *fitted):
            out = folder / f"{run.config['backbone']}-{len(found)}"
            done = export(source, out, users=users, similar=False, verify=False, **settings)
            taken = done.chosen.tried[0]
            row = {
                "backbone": run.config["backbone"],
                "users": users,
                "stored": f"{taken.layout} {taken.precision}",
                "limit": settings.get("max_bytes"),
                "nbytes": done.nbytes,
            }
            found.append((row, done.folder))
    return found


def request_of(
    model: Recommender, seed: int, histories: Sequence[NDArray[np.int64]] | None = None
) -> Callable[[], Any]:
    """Return a call of `recommend_rows` for one user after the other.

    Users are random rows. Without a user table they have these histories of item rows, or random items.
    """
    rng, nothing = np.random.default_rng(seed), np.empty((1, 0), np.int64)
    if model.n_users:
        inputs = [{"user": rng.integers(0, model.n_users, 1)} for _ in range(SUBJECTS)]
    elif histories is None:
        size = 1, min(HISTORY, model.n_items)
        inputs = [{"history": rng.choice(model.n_items, size, replace=False)} for _ in range(SUBJECTS)]
    else:
        inputs = [{"history": history[None]} for history in histories]
    subjects = cycle(inputs)
    return lambda: model.recommend_rows(next(subjects), nothing, 20)


def measure(
    interactions: Interactions, backbones: list[str], split: str, limits: tuple[str, ...], rounds: int
) -> list[Figures]:
    """Measure the bundles of each backbone: a row each, with times over that of its dense fp32 with the same users."""
    with tempfile.TemporaryDirectory(prefix="edgerec-trained-") as scratch:
        exported = []
        for name in backbones:
            run = train(interactions, backbone=name, method="dense", split=split, seed=0, threads=1)
            exported += bundles(run, limits, Path(scratch))
        models = [Recommender.load(folder) for _, folder in exported]
        rows = [
            {**row, "ndcg": evaluate(model, interactions)[METRIC]}
            for (row, _), model in zip(exported, models, strict=True)
        ]
        taken = time_interleaved([request_of(model, 0) for model in models], rounds)
        for model in models:
            model.close()
    rows = [{**row, "p50_ms": median(times)} for row, times in zip(rows, taken, strict=True)]
    base = {(row["backbone"], row["users"]): row["p50_ms"] for row in rows if row["stored"] == "dense fp32"}
    return [{**row, "of_dense": row["p50_ms"] / base[row["backbone"], row["users"]]} for row in rows]


def cells(row: Figures) -> list[str]:
    """Format a row as cells of the table."""
    limit = "" if row["limit"] is None else f", fitted to {format_bytes(row['limit'])}"
    shown = [f"{row['nbytes']:,}", f"{row['ndcg']:.4f}", f"{row['p50_ms']:.3f}", f"{row['of_dense']:.2f}"]
    return [row["backbone"], "table" if row["users"] else "histories", row["stored"] + limit, *shown]


@experiment("trained")
@click.option("--data", default="ml-1m", show_default=True)
@click.option("--backbones", default="svd,ials", show_default=True)
@click.option("--split", default="random:80/20", show_default=True)
@click.option("--limit", "limits", multiple=True, default=("64KiB", "128KiB", "320KiB"), show_default=True)
@click.option("--rounds", default=300, show_default=True, help="Requests of each bundle that are timed.")
def main(data: str, backbones: str, split: str, limits: tuple[str, ...], rounds: int) -> Figures:
    """Train, export with users and without, measure answers and times."""
    rows = measure(load_data(data), backbones.split(","), split, limits, rounds)
    print_table(f"{data}, {split}, 64 dimensions, one thread", COLUMNS, [cells(row) for row in rows])
    return {"metric": METRIC, "split": f"{split}, seed 0", "rows": rows}


if __name__ == "__main__":
    main()
