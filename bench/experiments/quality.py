"""How good and how fast plain training is, beside a well-known library, in one run.

usage: python -m bench.experiments.quality [--data ml-1m] [--out result.json]      (needs the 'peers' extra: implicit)

Full tables of 64 dimensions, random 80/20 split per user, seed 0, NDCG@20 on the test part. Our backbones choose
epochs and settings on 5 % of train and are trained again on all of it; the library is given the settings of
`PEER_SETTINGS`, the first its own defaults, and trains on all of train.
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
"""The library's defaults, and the settings of the field's reference figure on MovieLens-1M."""


def measure(interactions: Interactions, names: tuple[str, ...], dimensions: int, threads: int) -> list[dict[str, Any]]:
    """One row a contender: name, seconds of the final fit, seconds of all training, NDCG@20, Recall@20, epochs."""
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
    """The final fit again, alone: what the library's `fit` is compared with."""
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
    with limits(1, "blas"):  # as the library asks for
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
@click.option("--data", default="ml-1m", show_default=True)
@click.option("--backbones", default="svd,ials,mf", show_default=True)
@click.option("--dimensions", default=64, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(data: str, backbones: str, dimensions: int, threads: int) -> Figures:
    """Train and compare."""
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
