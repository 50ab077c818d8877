"""Quality for users whom training did not see, in comparison with those whom it did: strong generalisation.

usage: python -m bench.experiments.unseen_users [--data ml-1m] [--split random:80/20] [--size 16] [--out result.json]

A tenth of the users are left out of training wholly. All users have a history, the training part of the split, from
which the bundle answers, and are measured on the test part: 'seen' users, whose histories trained the items, and
'unseen' ones. Models are those of `item_only`: 'lae' within a size, its rivals fitted to the bytes of its bundle.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from bench.experiments.harness import (
    Figures,
    cached,
    cells_with_spread,
    experiment,
    named_or_stored,
    next_to_out,
    rows_over_seeds,
)
from bench.experiments.item_only import Training, exported, training_options
from edgerec.console import print_table
from edgerec.data import Interactions, Split, SplitSpec, metrics_of_users, split
from edgerec.measure import bundle_rankings
from edgerec.request import settings_of
from edgerec.runtime import Recommender

K = 20
FIGURES = ("seen ndcg@20", "unseen ndcg@20", "seen recall@20", "unseen recall@20")


def without(parts: Split, unseen: NDArray[np.int64]) -> Interactions:
    """Return the interactions of the other users, with the train and test parts of `parts` as their published split."""
    numbered = ((0, parts.train_all), (2, parts.test))
    users = np.concatenate([part.user_rows() for _, part in numbered])
    items = np.concatenate([part.indices for _, part in numbered]).astype(np.int64)
    of_part = np.concatenate([np.full(len(part), number, np.int8) for number, part in numbered])
    known = ~np.isin(users, unseen)
    ids, rows = np.unique(users[known], return_inverse=True)
    return Interactions.from_rows(
        parts.train.user_ids[ids], rows, parts.train.item_ids, items[known], parts=of_part[known]
    )


def measured(parts: Split, unseen: NDArray[np.int64], model: Recommender) -> Figures:
    """Return the metrics of the bundle's answers to the histories of seen and of unseen users."""
    found: Figures = {}
    tested = np.flatnonzero(parts.test.user_counts())
    for name, rows in (("seen", np.setdiff1d(tested, unseen)), ("unseen", np.intersect1d(tested, unseen))):

        def rank(some: slice, rows: NDArray[np.int64] = rows) -> NDArray[np.int64]:
            return bundle_rankings(model, parts.train_all, parts.train_all, rows[some], K)

        metrics = metrics_of_users(rank, parts.test, rows, ks=(K,))
        found |= {f"{name} {metric}": metrics[metric] for metric in (f"ndcg@{K}", f"recall@{K}")}
        found[f"{name} users"] = len(rows)
    return found


def figures_of(
    training: Training, interactions: Interactions, backbones: list[str], size: float, seed: int
) -> dict[str, Figures]:
    """Train on nine tenths of the users, and measure the bundle of each backbone."""
    parts = split(interactions, SplitSpec.parse(training.split, seed=seed))
    count = max(interactions.n_users // 10, 1)
    unseen = np.sort(np.random.default_rng(seed).permutation(interactions.n_users)[:count])
    known, among = without(parts, unseen), replace(training, split="published")
    found: dict[str, Figures] = {}
    limit = 0
    for backbone in backbones:
        with tempfile.TemporaryDirectory() as scratch:
            if backbone == "lae":
                done = exported(among.lae(known, size - 1, seed), Path(scratch))
                limit = done.nbytes
            else:
                run = among.rival(known, backbone, seed)
                done = exported(run, Path(scratch), precision="auto", fit=True, max_bytes=limit)
            found[backbone] = {"bytes": done.nbytes, **measured(parts, unseen, Recommender.load(done.folder))}
    return found


@experiment("unseen_users", needs_out=True)
@click.option("--data", default="ml-1m", show_default=True, help="The data set.")
@click.option("--split", "spec", default=Training.split, show_default=True, help="The split of every user.")
@click.option("--size", default=16.0, show_default=True, help="Bytes an item of values and scale.")
@click.option("--rivals", default="svd,ials", show_default=True, help="Backbones to compare with.")
@training_options
@click.option("--seeds", default=1, show_default=True, help="Seeds of split, left-out users and training, from 0.")
def main(
    data: str,
    spec: str,
    size: float,
    rivals: str,
    dimensions: int,
    max_epochs: int | None,
    precision: str | None,
    sample_users: int | None,
    settings: tuple[str, ...],
    seeds: int,
) -> Figures:
    """Compare the quality for users who were not in training with that for users who were."""
    interactions = named_or_stored(data)
    training = Training(spec, dimensions, settings_of(settings), max_epochs, precision, sample_users)
    backbones = ["lae", *filter(None, rivals.split(","))]
    fingerprint = interactions.fingerprint()
    found: dict[str, list[Figures]] = {}
    for seed in range(seeds):
        request: dict[str, Any] = {"data": fingerprint, "split": spec, "size": size, "backbones": backbones}
        request |= {"dimensions": dimensions, "settings": dict(training.settings), "seed": seed}
        request |= {"max_epochs": max_epochs, "precision": precision, "sample_users": sample_users}
        measure = partial(figures_of, training, interactions, backbones, size, seed)
        for name, figures in cached(next_to_out(".rows") / f"{data}-{seed}.json", request, measure).items():
            found.setdefault(name, []).append(figures)
    rows = rows_over_seeds("backbone", found, [*found["lae"][0]])
    title = f"{data}, {size:g} B an item, bundles without users"
    print_table(title, ("", *FIGURES), cells_with_spread(rows, "backbone", FIGURES))
    return {"split": spec, "data_fingerprint": fingerprint, "rows": rows}


if __name__ == "__main__":
    main()
