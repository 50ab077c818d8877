"""LightGCN on Gowalla, on LightGCN's own split: quality against training time.

usage: EDGEREC_DATA=FOLDER python -m edgerec_bench.gowalla --minutes 60 [--out result.json] [--checkpoint FOLDER]
       python -m edgerec_bench.gowalla --validation ...      (how settings are chosen: without the test part)

64 dimensions, 3 layers. Recall@20 and NDCG@20 are measured as training goes on; the time that takes is counted apart.
`SETTINGS` were chosen with --validation; nothing is chosen by the test part. Killed, the same command goes on from its
checkpoint.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions, evaluate_vectors, load_data, read
from edgerec.data.named import default_cache
from edgerec.errors import DataError
from edgerec.files import write_json
from edgerec.models import SizePlan, Trainer, backbone
from edgerec.training.checkpoint import Checkpoint, Snapshot
from edgerec_devices import Local

DIMENSIONS = 64
HELD_BACK = 0.05
SETTINGS: dict[str, Any] = {"lr": 0.04, "l2": 0.01, "negatives": 2048, "horizon": 400}
PUBLISHED = {"recall@20": 0.1824, "ndcg@20": 0.1547}
"""LightGCN, 3 layers, 1,000 epochs (the authors' LightGCN-PyTorch, README)."""
SAVE_SECONDS = 30.0


def published_split(folder: Path | None = None) -> tuple[Interactions, Interactions]:
    """Train (810,128) and test (217,242) of LightGCN's files.

    Args:
        folder: where train.tsv.gz and test.tsv.gz lie; by default gowalla in the cache that `load_data` reads.

    Raises DataError where the folder keeps the two as one.
    """
    folder = folder or Path(os.environ.get("EDGEREC_DATA") or default_cache()) / "gowalla"
    if not (folder / "test.tsv.gz").exists():
        raise DataError(f"{folder} has no test.tsv.gz; the published split needs train and test apart")
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


def validation_split(train: Interactions, seed: int) -> tuple[Interactions, Interactions]:
    """Train without, and with only, a random 5 % of its interactions."""
    held = np.random.default_rng(seed).random(len(train)) < HELD_BACK
    return train.select(~held), train.select(held)


class TimedRun:
    """One fit, its time and its curve; it may be killed and continued.

    Attributes:
        at: seconds of training, checkpoints and evaluations, epochs, and the curve so far.
    """

    def __init__(
        self, trainer: Trainer, parts: tuple[Interactions, Interactions], checkpoint: Checkpoint | None
    ) -> None:
        self._trainer, (self._train, self._test), self._checkpoint = trainer, parts, checkpoint
        found = checkpoint.load() if checkpoint else None
        start = {"epoch": 0, "train_seconds": 0.0, "evaluate_seconds": 0.0, "checkpoint_seconds": 0.0, "curve": []}
        self.at: dict[str, Any] = found.loop if found else start
        if found:
            trainer.restore(found.trainer)

    def go(self, seconds: float, epochs: int, every: float) -> None:
        """Train for so many seconds or epochs in all, whichever come first; evaluate every `every` seconds."""
        at, saved = self.at, time.perf_counter()
        while at["train_seconds"] < seconds and at["epoch"] < epochs:
            started = time.perf_counter()
            loss = self._trainer.epoch()["loss"]
            at["train_seconds"] += time.perf_counter() - started
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
        started, load = time.perf_counter(), os.getloadavg()[0]
        vectors = self._trainer.vectors()
        metrics = evaluate_vectors(vectors.users, vectors.items, self._train, self._test, ks=(20,))
        at = self.at
        at["evaluate_seconds"] += time.perf_counter() - started
        point = {"epoch": at["epoch"], "train_seconds": round(at["train_seconds"], 1), "loss": loss}
        point |= {name: metrics[name] for name in PUBLISHED} | {"load_average": round(load, 2)}
        at["curve"].append(point)
        click.echo(json.dumps(point))

    def _save(self) -> None:
        if self._checkpoint is not None:
            started = time.perf_counter()
            self._checkpoint.save(Snapshot(self.at, self._trainer.state()))
            self.at["checkpoint_seconds"] += time.perf_counter() - started


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="Of training, evaluations apart.")
@click.option("--settings", default="{}", help="Of the backbone, as JSON, where they shall not be this file's.")
@click.option("--validation", is_flag=True, help="Train on 95 % of train and measure on the rest.")
@click.option("--every", default=120.0, show_default=True, help="Seconds of training between evaluations.")
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Folder, outside the repository: 55 MB.")
@click.option("--note", default="", help="What else ran on the machine, for the record.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures here as JSON.")
def main(
    minutes: float,
    settings: str,
    validation: bool,
    every: float,
    threads: int,
    seed: int,
    checkpoint: Path | None,
    note: str,
    out: Path | None,
) -> None:
    """Train and measure."""
    # Waiting threads of torch spin, and slow scipy's: beside another process a step took 0.86 s and 0.60 s without.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    train, test = published_split()
    parts = validation_split(train, seed) if validation else (train, test)
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
    if out is not None:
        command = f"python -m edgerec_bench.gowalla --minutes {minutes:g} --threads {threads} --seed {seed}"
        result = {
            "format": "edgerec.gowalla",
            "version": 1,
            "command": command + (f" --settings '{settings}'" if settings != "{}" else ""),
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "split": "5 % of LightGCN's train" if validation else "LightGCN's train and test",
            "interactions": {"train": len(parts[0]), "test": len(parts[1])},
            "dimensions": DIMENSIONS,
            **about,
            "device": Local().info(),
            "note": note,
            "published": PUBLISHED,
            **run.at,
        }
        write_json(out, result)


if __name__ == "__main__":
    main()
