"""Quality and training time of full tables, compared with a well-known library.

usage: python -m bench.experiments.quality [--data ml-1m] [--out result.json]      (needs the 'peers' extra: implicit)

Tables are full with 64 dimensions, the split is random 80/20 per user with seed 0, NDCG@20 is on the test part. Our
backbones choose epochs and settings on 5 % of train and are trained again on all of it. The library is trained on all
of train with each of `PEER_SETTINGS`, of which the first are its defaults.
"""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from edgerec.api import train
from edgerec.console import print_table
from edgerec.data import Interactions, load_data
from edgerec.data import split as split_interactions
from edgerec.extras import require
from edgerec.measure import measure_vectors
from edgerec.models import SizePlan, backbone
from edgerec.training import FitOptions, Run

SPLIT = "random:80/20"
PEER_SETTINGS: tuple[dict[str, float], ...] = ({}, {"alpha": 4.0, "regularization": 0.1})
"""The library's defaults, and the settings of a published reference figure on MovieLens-1M."""


def measure(interactions: Interactions, names: tuple[str, ...], dimensions: int, threads: int) -> list[dict[str, Any]]:
    """Train each contender; return its name, seconds of the final fit and of all training, metrics and epochs."""
    peers = [_peer(interactions, settings, dimensions, threads) for settings in PEER_SETTINGS]
    return [*peers, *(_ours(interactions, name, dimensions, threads) for name in names)]


def _ours(interactions: Interactions, name: str, dimensions: int, threads: int) -> dict[str, Any]:
    started = time.perf_counter()
    options = FitOptions(threads=threads)
    run = train(interactions, backbone=name, method="dense", dimensions=dimensions, split=SPLIT, **vars(options))
    total = time.perf_counter() - started
    return {
        "name": f"edgerec {name}",
        "fit_seconds": _fit_seconds(interactions, run, dimensions, threads),
        "all_seconds": total,
        **{metric: run.metrics["test"][metric] for metric in ("ndcg@20", "recall@20")},
        "epochs": run.config["epochs"],
        "settings": run.config["chosen_settings"],
    }


def _fit_seconds(interactions: Interactions, run: Run, dimensions: int, threads: int) -> float:
    """Time the final fit alone, which corresponds to the library's `fit`."""
    model = backbone(run.config["backbone"])
    parts = split_interactions(interactions, SPLIT)
    data, config = parts.train_all, model.config(**run.config["chosen_settings"])
    started = time.perf_counter()
    trainer = model.trainer(data, SizePlan(dimensions), config, seed=0, threads=threads)
    for _ in range(run.config["epochs"]):
        trainer.epoch()
    trainer.vectors()
    return time.perf_counter() - started


def _peer(interactions: Interactions, settings: dict[str, float], dimensions: int, threads: int) -> dict[str, Any]:
    als = require("implicit.als", "peers")
    limits = require("threadpoolctl", "train").threadpool_limits
    sparse = require("scipy.sparse", "train")
    parts = split_interactions(interactions, SPLIT)
    matrix = sparse.csr_matrix(parts.train_all.matrix())
    with limits(1, "blas"):  # recommended by the library
        model = als.AlternatingLeastSquares(factors=dimensions, random_state=0, num_threads=threads, **settings)
        started = time.perf_counter()
        model.fit(matrix, show_progress=False)
        seconds = time.perf_counter() - started
    users, items = (np.asarray(factors, np.float32) for factors in (model.user_factors, model.item_factors))
    metrics = measure_vectors(parts, users, items, threads)
    return {
        "name": "implicit als",
        "fit_seconds": seconds,
        "all_seconds": seconds,
        **{metric: metrics[metric] for metric in ("ndcg@20", "recall@20")},
        "epochs": model.iterations,
        "settings": settings or "defaults",
    }


@experiment("quality")
@click.option("--data", default="ml-1m", show_default=True, help="Data set.")
@click.option("--backbones", default="svd,ials,mf", show_default=True, help="Backbones, separated by commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--threads", default=2, show_default=True, help="Threads of training.")
def main(data: str, backbones: str, dimensions: int, threads: int) -> Figures:
    """Compare the quality and the training time of backbones with those of implicit."""
    interactions = load_data(data)
    rows = measure(interactions, tuple(backbones.split(",")), dimensions, threads)
    shown = ("name", "settings", "epochs", "fit_seconds", "all_seconds", "ndcg@20", "recall@20")
    print_table(f"{data}, {SPLIT}, d={dimensions}, {threads} threads", shown, [[row[s] for s in shown] for row in rows])
    return {
        "split": f"{SPLIT}, seed 0",
        "data_fingerprint": interactions.fingerprint(),
        "rows": rows,
    }


if __name__ == "__main__":
    main()
