"""Default settings compared with the best of a wide grid, on six data sets.

usage: python -m bench.experiments.defaults [--train gowalla:ials,gowalla:implicit] --out result.json
       (needs the 'peers' extra: implicit)

A cell is a data set and a contender. `ials` and `svd` are trained with their defaults, which choose settings on the
validation part; `implicit` and `svd grid` are the best of `PEER_GRID` and `SVD_GRID` on the same validation part, every
point trained in full, and the best one again on train and validation. NDCG@20 is on the test part, seconds are of
everything, choice and final training. These four are means of three random splits, whose seed is that of training too;
others have one. A finished cell is stored next to the result, and the same command resumes; cells that were not
measured are listed as missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product
from statistics import fmean
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, cached, experiment, load_average, named_or_stored, next_to_out
from edgerec.api import train
from edgerec.console import messages, print_table
from edgerec.data import Interactions, Split, SplitSpec, split
from edgerec.extras import require
from edgerec.measure import measure_vectors
from edgerec.models import SharingTrainer, SizePlan, Vectors, backbone
from edgerec.training import FitOptions, validate

SPLITS = {
    "ml-100k": "random:80/20",
    "ml-1m": "random:80/20",
    "lastfm": "random:80/20",
    "amazon-beauty": "random:80/20",
    "gowalla": "published",
    "yelp2018": "published",
}
PEER_GRID = tuple(product((2.0, 4.0, 11.0, 31.0, 101.0), (0.1, 3.0, 30.0)))
"""alpha, which is 1 plus that of `ials`, and regularization of implicit."""
SVD_GRID = tuple(product((0.0, 0.2, 0.4, 0.6), (0.2, 0.3, 0.4, 0.5), (8, 16), (-0.2, 0.0), (0.0, 0.5)))
"""a, b, steps, c and power."""
METRIC = "ndcg@20"
Grid = Sequence[tuple[float, ...]]
Point = dict[str, float]
GRIDS: dict[str, Grid] = {"implicit": PEER_GRID, "svd grid": SVD_GRID}
NAMES = ("ials", "implicit", "svd", "svd grid", "mf", "lightgcn")
SEVERAL_SEEDS = ("ials", "implicit", "svd", "svd grid")
SEEDS = 3


def contenders() -> dict[str, Callable[[str, Split, int, int], Figures]]:
    """Return the measurement of each contender by name: of a data set, its parts, dimensions and threads."""
    backbones = {name: _default(name) for name in ("ials", "svd", "mf", "lightgcn")}
    return {"implicit": _peer, "svd grid": _svd_grid, **backbones}


def _default(name: str) -> Callable[[str, Split, int, int], Figures]:
    def measured(data: str, parts: Split, dimensions: int, threads: int) -> Figures:
        started = time.perf_counter()
        run = train(
            _interactions(data),
            backbone=name,
            dimensions=dimensions,
            split=parts.spec,
            seed=parts.spec.seed,
            threads=threads,
        )
        found = {METRIC: run.metrics["test"][METRIC], "recall@20": run.metrics["test"]["recall@20"]}
        if run.users is not None and "encoder" in run.metrics:
            found["ndcg@20 of histories"] = run.metrics["encoder"][METRIC]
            found["recall@20 of histories"] = run.metrics["encoder"]["recall@20"]
        return {
            **found,
            "validation": run.metrics["validation"][METRIC],
            "seconds": time.perf_counter() - started,
            "settings": run.config["chosen_settings"],
            "trials": sum(entry["phase"] == "settings" for entry in run.history),
        }

    return measured


def _best(
    names: Sequence[str], grid: Grid, fit: Callable[[Interactions, Point], Vectors], parts: Split, threads: int
) -> Figures:
    """Choose the best point on validation, and train it again on train and validation."""
    started, points = time.perf_counter(), [dict(zip(names, values, strict=True)) for values in grid]
    scores = [validate(parts, fit(parts.train, point), FitOptions(threads=threads))[METRIC] for point in points]
    best = points[int(np.argmax(scores))]
    vectors = fit(parts.train_all, best)
    seconds = time.perf_counter() - started
    metrics = measure_vectors(parts, vectors.users, vectors.items, threads)
    found = {name: metrics[name] for name in (METRIC, "recall@20")}
    return {**found, "validation": max(scores), "seconds": seconds, "settings": best, "trials": len(points)}


def _peer(_: str, parts: Split, dimensions: int, threads: int) -> Figures:
    als, seed = require("implicit.als", "peers"), parts.spec.seed
    limits = require("threadpoolctl", "train").threadpool_limits
    sparse = require("scipy.sparse", "train")

    def fit(data: Interactions, point: Point) -> Vectors:
        with limits(1, "blas"):  # recommended by the library
            model = als.AlternatingLeastSquares(factors=dimensions, random_state=seed, num_threads=threads, **point)
            model.fit(sparse.csr_matrix(data.matrix()), show_progress=False)
        return Vectors(np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32))

    return _best(("alpha", "regularization"), GRIDS["implicit"], fit, parts, threads)


def _svd_grid(_: str, parts: Split, dimensions: int, threads: int) -> Figures:
    model, seed = backbone("svd"), parts.spec.seed
    shared: dict[int, Any] = {}

    def fit(data: Interactions, point: Point) -> Vectors:
        config = model.config(**point)
        if len(data) not in shared:
            shared[len(data)] = model.shared_start(data, dimensions, model.config(), seed)
        trainer = model.trainer(data, SizePlan(dimensions), config, seed=seed, threads=threads)
        assert isinstance(trainer, SharingTrainer)
        trainer.begin(partial(shared.__getitem__, len(data)))
        trainer.epoch()
        return trainer.vectors()

    return _best(("a", "b", "steps", "c", "power"), GRIDS["svd grid"], fit, parts, threads)


_interactions = cache(named_or_stored)


def seeds_of(data: str, name: str) -> int:
    """Return the number of seeds of a cell."""
    return SEEDS if name in SEVERAL_SEEDS and SPLITS[data] != "published" else 1


def over_splits(found: Sequence[Figures]) -> Figures:
    """Return the means of a contender's figures over seeds, and what it chose by seed."""
    if len(found) == 1:
        return found[0]
    means = {name: fmean(one[name] for one in found) for name in (METRIC, "recall@20", "validation", "seconds")}
    lists = {name: [one[name] for one in found] for name in ("settings", "trials")}
    return {**means, f"{METRIC} by seed": [one[METRIC] for one in found], **lists}


def compared(cells: dict[str, dict[str, Figures]]) -> list[dict[str, Any]]:
    """Return a row for each data set: NDCG@20 and seconds by contender, and the defaults relative to the grids."""
    rows = []
    for data, found in cells.items():
        row: dict[str, Any] = {"data": data, "split": SPLITS[data], "cells": found}
        for mine, grid in (("ials", "implicit"), ("svd", "svd grid")):
            if mine in found and grid in found:
                row[f"{mine} relative to {grid}"] = found[mine][METRIC] / found[grid][METRIC]
                row[f"seconds of {mine} relative to {grid}"] = found[mine]["seconds"] / found[grid]["seconds"]
        rows.append(row)
    return rows


@experiment("defaults", needs_out=True)
@click.option("--data", default=",".join(SPLITS), show_default=True, help="Data sets, separated by commas.")
@click.option("--contenders", "names", default=",".join(NAMES), show_default=True, help="Contenders, by commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--threads", default=2, show_default=True, help="Threads of training.")
@click.option(
    "--train",
    "work",
    help="Cells to measure now, as DATA:CONTENDER, separated by commas, or none; other cells are read if they are "
    "stored, and else listed as missing. By default every cell is measured.",
)
def main(data: str, names: str, dimensions: int, threads: int, work: str | None) -> Figures:
    """Compare default settings with the best of wide grids."""
    cells: dict[str, dict[str, Figures]] = {}
    missing = []
    for one, name in product(data.split(","), names.split(",")):
        cell, path = f"{one}:{name}", next_to_out(".cells") / f"{one}-{name.replace(' ', '-')}.json"
        if work is not None and cell not in work.split(",") and not path.exists():
            missing.append(cell)
            continue
        messages.print(cell, markup=False)
        request: Figures = {
            "data": one,
            "split": SPLITS[one],
            "contender": name,
            "dimensions": dimensions,
            "threads": threads,
            "grid": [list(point) for point in GRIDS.get(name, ())],
        }
        seeds = seeds_of(one, name)
        request |= {"seeds": seeds} if seeds > 1 else {}

        def measure(one: str = one, name: str = name, seeds: int = seeds) -> Figures:
            specs = [SplitSpec.parse(SPLITS[one], seed=seed) for seed in range(seeds)]
            run = contenders()[name]
            found = [run(one, split(_interactions(one), spec), dimensions, threads) for spec in specs]
            return {**over_splits(found), "load_average": load_average()}

        cells.setdefault(one, {})[name] = cached(path, request, measure)
    rows = compared(cells)
    shown = [[row["data"], *(_text(row["cells"].get(name)) for name in names.split(","))] for row in rows]
    print_table(f"{METRIC} on the test part (seconds), d={dimensions}", ("", *names.split(",")), shown)
    return {"grids": GRIDS, "rows": rows, "missing": missing}


def _text(cell: Figures | None) -> str:
    return "" if cell is None else f"{cell[METRIC]:.4f} ({cell['seconds']:.0f})"


if __name__ == "__main__":
    main()
