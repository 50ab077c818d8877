"""Quality of LightGCN on Gowalla by training time, on the published split.

usage: EDGEREC_DATA=FOLDER python -m bench.experiments.gowalla --minutes 60 [--out result.json] [--checkpoint FOLDER]
       python -m bench.experiments.gowalla --validation ...      (for choosing settings, without the test part)

The model has 64 dimensions and 3 layers. Recall@20 and NDCG@20 are measured during training; evaluation time is counted
separately. Training time is reported as elapsed seconds and as processor seconds, because only the latter are
meaningful if other programs run.
`SETTINGS` were chosen on 20 % of train held back (--validation --held-back 0.2), after 60 to 150 epochs; the horizon is
the number of epochs within an hour on two busy cores. Nothing is chosen by the test part. After an interruption, the
same command resumes from its checkpoint.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from bench.experiments.harness import Figures, experiment, load_average
from edgerec.data import Interactions, evaluate_vectors, load_data, read
from edgerec.errors import DataError
from edgerec.files import cache_folder
from edgerec.models import SizePlan, Trainer, backbone
from edgerec.training.checkpoint import Checkpoint, Snapshot

DIMENSIONS = 64
SETTINGS: dict[str, Any] = {"lr": 0.04, "l2": 0.02, "negatives": 4096, "popular": 0.5, "horizon": 500}
PUBLISHED = {"recall@20": 0.1824, "ndcg@20": 0.1547}
"""LightGCN, 3 layers, 1,000 epochs (the authors' LightGCN-PyTorch, README)."""
AIM = {"recall@20": 0.170, "ndcg@20": 0.145}
"""Targets within an hour of training on two cores."""
SAVE_SECONDS = 30.0


def published_split(folder: Path | None = None) -> tuple[Interactions, Interactions]:
    """Return train (810,128) and test (217,242 interactions) of LightGCN's files.

    Args:
        folder: folder of train.tsv.gz and test.tsv.gz; by default gowalla in the cache of `load_data`.

    Raises DataError if the folder has no separate test file.
    """
    folder = folder or Path(os.environ.get("EDGEREC_DATA") or cache_folder("data")) / "gowalla"
    if not (folder / "test.tsv.gz").exists():
        raise DataError(f"{folder} has no test.tsv.gz; the published split needs separate files for train and test")
    whole, test = load_data(folder), read(folder / "test.tsv.gz")
    places = (np.searchsorted(whole.user_ids, test.user_ids), np.searchsorted(whole.item_ids, test.item_ids))
    tested = np.isin(
        _pairs(whole, whole.user_rows(), whole.indices),
        _pairs(whole, places[0][test.user_rows()], places[1][test.indices]),
    )
    return whole.select(~tested), whole.select(tested)


def _pairs(whole: Interactions, users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.int64]:
    keys: NDArray[np.int64] = users.astype(np.int64) * whole.n_items + items
    return keys


def validation_split(train: Interactions, share: float, seed: int) -> tuple[Interactions, Interactions]:
    """Split off a random share of each user's interactions, at least one and never all; return both."""
    counts, users = train.user_counts(), train.user_rows()
    held = np.minimum(np.maximum(counts * share, 1).astype(np.int64), np.maximum(counts - 1, 0))
    places = np.empty(len(train), np.int64)
    places[np.lexsort((np.random.default_rng(seed).random(len(train)), users))] = np.arange(len(train))
    is_held = places - train.indptr[users] < held[users]
    return train.select(~is_held), train.select(is_held)


class TimedRun:
    """A resumable training with its times and its curve of metrics.

    Attributes:
        at: elapsed and processor seconds of training, seconds of checkpoints and evaluations, epochs, and the curve.
    """

    def __init__(
        self, trainer: Trainer, parts: tuple[Interactions, Interactions], checkpoint: Checkpoint | None
    ) -> None:
        self._trainer, (self._train, self._test), self._checkpoint = trainer, parts, checkpoint
        found = checkpoint.load() if checkpoint else None
        seconds = ("train_seconds", "train_cpu_seconds", "evaluate_seconds", "checkpoint_seconds")
        start = {"epoch": 0, **dict.fromkeys(seconds, 0.0), "curve": []}
        self.at: dict[str, Any] = found.loop if found else start
        if found:
            trainer.restore(found.trainer)

    def go(self, seconds: float, epochs: int, every: float) -> None:
        """Train until `seconds` of training or `epochs` are reached; evaluate every `every` seconds."""
        at, saved = self.at, time.perf_counter()
        while at["train_seconds"] < seconds and at["epoch"] < epochs:
            started, used = time.perf_counter(), time.process_time()
            loss = self._trainer.epoch()["loss"]
            at["train_seconds"] += time.perf_counter() - started
            at["train_cpu_seconds"] += time.process_time() - used
            at["epoch"] += 1
            last = at["curve"][-1]["train_seconds"] if at["curve"] else 0.0
            due = at["train_seconds"] >= last + every
            if due or at["train_seconds"] >= seconds or at["epoch"] == epochs:
                self._evaluate(loss)
            if due or time.perf_counter() - saved > SAVE_SECONDS:
                self._save()
                saved = time.perf_counter()
        self._save()

    def _evaluate(self, loss: float) -> None:
        started, load = time.perf_counter(), load_average()
        vectors = self._trainer.vectors()
        metrics = evaluate_vectors(vectors.users, vectors.items, self._train, self._test, ks=(20,))
        at = self.at
        at["evaluate_seconds"] += time.perf_counter() - started
        point = {"epoch": at["epoch"], "loss": loss}
        point |= {name: round(at[name], 1) for name in ("train_seconds", "train_cpu_seconds")}
        point |= {name: metrics[name] for name in PUBLISHED} | {"load_average": load}
        at["curve"].append(point)
        click.echo(json.dumps(point))

    def _save(self) -> None:
        if self._checkpoint is not None:
            started = time.perf_counter()
            self._checkpoint.save(Snapshot(self.at, self._trainer.state()))
            self.at["checkpoint_seconds"] += time.perf_counter() - started


def summary(curve: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the point of a curve with the best NDCG@20, and the first that meets `AIM` or None."""
    reached = (point for point in curve if all(point[name] >= value for name, value in AIM.items()))
    return {"best": max(curve, key=lambda point: point["ndcg@20"], default=None), "aim_reached": next(reached, None)}


@experiment("gowalla")
@click.option("--minutes", default=60.0, show_default=True, help="Minutes of training, without evaluations.")
@click.option("--settings", default="{}", help="Settings of the backbone as JSON, which replace those of this file.")
@click.option("--validation", is_flag=True, help="Evaluate on a part of train that is held back.")
@click.option("--held-back", default=0.05, show_default=True, help="Share of each user's interactions to hold back.")
@click.option("--every", default=120.0, show_default=True, help="Seconds of training between evaluations.")
@click.option("--threads", default=2, show_default=True, help="Threads of training.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Folder of the checkpoint (55 MB).")
def main(
    minutes: float,
    settings: str,
    validation: bool,
    held_back: float,
    every: float,
    threads: int,
    seed: int,
    checkpoint: Path | None,
) -> Figures:
    """Train LightGCN on Gowalla and measure its quality over time."""
    # Waiting threads of torch spin and slow down scipy's: with another process running, a step took 0.86 s, and 0.60 s
    # with this setting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    train, test = published_split()
    parts = validation_split(train, held_back, seed) if validation else (train, test)
    model = backbone("lightgcn")
    config = model.config(**{**SETTINGS, **json.loads(settings)})
    about = {"settings": asdict(config), "seed": seed, "threads": threads, "validation": validation}
    started = time.perf_counter()
    trainer = model.trainer(parts[0], SizePlan(DIMENSIONS), config, seed=seed, threads=threads)
    prepared = time.perf_counter() - started
    key = {**about, "data": parts[0].fingerprint()}
    run = TimedRun(trainer, parts, Checkpoint(checkpoint, key) if checkpoint else None)
    run.at.setdefault("prepare_seconds", prepared)
    run.go(60 * minutes, config.horizon, every)
    return {
        "split": f"{held_back:.0%} of each user's interactions in LightGCN's train"
        if validation
        else "LightGCN's train and test",
        "interactions": {"train": len(parts[0]), "test": len(parts[1])},
        "dimensions": DIMENSIONS,
        **about,
        "published": PUBLISHED,
        "aim": AIM,
        **summary(run.at["curve"]),
        **run.at,
    }


if __name__ == "__main__":
    main()
