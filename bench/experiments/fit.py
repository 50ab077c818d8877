"""Quality of `edgerec fit` and of the best single path: one training with defaults, exported one way, within the size.

usage: python -m bench.experiments.fit [--data ml-100k] [--sizes 64KiB,256KiB,1MiB] [--seeds 3] [--out result.json]

A path is a backbone with the default dimensions, trained in full and fitted at export in each precision, or trained
within the size by `uniform` or `popularity` in int8 or int4, with and without a user table. The paths' bundles are
measured on the validation data of the search, as fit's are; the best is trained on all training data too, and its
bundle is measured on test data. The difference of the two bundles is the mean over test users of NDCG@20, with a 95 %
interval by a paired bootstrap over users. Finished cells are stored next to --out, and an interrupted one continues.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import (
    Figures,
    cached,
    experiment,
    interval_over_users,
    metric_per_user,
    named_or_stored,
    next_to_out,
    usual_split,
)
from edgerec.budget import parse_bytes
from edgerec.console import messages, print_table
from edgerec.data import Interactions, SplitSpec
from edgerec.data import split as split_interactions
from edgerec.fitting import fit
from edgerec.fitting.fit import finish
from edgerec.fitting.recipes import CODED, GRADIENT, Recipe
from edgerec.fitting.search import Search
from edgerec.fitting.splits import validation_split
from edgerec.fitting.study import Study
from edgerec.fitting.trial import Limits, Trials
from edgerec_bench.record import over_seeds

METRIC = "ndcg@20"
BACKBONES = ("svd", "ials", "mf", "lightgcn")
COLUMNS = ("data", "size", "seed", "fit", "NDCG@20", "best path", "NDCG@20", "difference", "95 %", "fit s", "paths s")


def every_precision(recipe: Recipe, values: int, max_bytes: int | None) -> Sequence[str]:
    """Return every precision of `edgerec export`, which `--fit` shortens the rows for."""
    return [recipe.precision] if recipe.within else ["auto", "fp16", "int8", "int4", "int2"]


def _paths() -> Iterator[Recipe]:
    for backbone in BACKBONES:
        yield Recipe(backbone, 64)
        for method in ("uniform", "popularity"):
            for precision in ("int8", "int4") if backbone not in GRADIENT else ("int8",):
                yield Recipe(backbone, 64, method, within=True, precision=precision)
    for precision in ("int2", "int4"):
        yield Recipe(CODED, 64, "popularity", within=True, precision=precision)


@experiment("fit_paths", needs_out=True)
@click.option("--data", default="ml-100k", show_default=True, metavar="NAMES", help="Data sets, separated by commas.")
@click.option("--sizes", default="64KiB,256KiB,1MiB", show_default=True, help="Sizes of whole bundles.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Splits and trainings; 0, 1, ...")
@click.option("--trials", default=16, show_default=True, type=click.IntRange(1), help="Trainings of a fit.")
@click.option("--minutes", type=float, help="Time of a fit, instead of --trials.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of trainings.")
def main(data: str, sizes: str, seeds: int, trials: int, minutes: float | None, threads: int) -> Figures:
    """Compare the bundles of `edgerec fit` with the best single path."""
    folder, rows = next_to_out(".cells"), list[dict[str, Any]]()
    search = {"minutes": minutes, "threads": threads} if minutes else {"trials": trials, "threads": threads}
    for seed in range(seeds):
        for name in data.split(","):
            interactions = named_or_stored(name)
            for size in sizes.split(","):
                spec = SplitSpec.parse(usual_split(name), seed=seed)
                place = folder / f"{Path(name).name}-{size}-{seed}"
                messages.print(place.name)
                key = {"spec": str(spec), "data": interactions.fingerprint(), **search}
                measure = partial(_cell, interactions, parse_bytes(size), spec, place, search)
                found = cached(place / "cell.json", key, measure)
                rows.append({"data": Path(name).name, "size": size, "seed": seed, **found})
                _print(rows[-1:])
    _print(rows)
    return {"rows": rows, "over_seeds": list(_over_seeds(rows))}


def _cell(interactions: Interactions, size: int, spec: SplitSpec, place: Path, search: dict[str, Any]) -> Figures:
    """Return the figures of one data set, size and seed."""
    place.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    fitted = fit(interactions, place / "fit.bundle", max_bytes=size, split=spec, seed=spec.seed, **search)
    fit_seconds = time.monotonic() - started
    started = time.monotonic()
    path, study = _best_path(interactions, size, spec, place, search["threads"])
    paths_seconds = time.monotonic() - started
    ours, theirs = (metric_per_user(one, interactions, spec, METRIC) for one in (fitted.out, path))
    low, high = interval_over_users(ours - theirs)
    best = study.final or {}
    trial = study.trials[best["trial"]]
    variant = max(trial.bundles, key=study.score).variant.name
    found = {
        "fit": {
            "training": fitted.recipe.name,
            "export": fitted.variant.name,
            "bytes": fitted.nbytes,
            "validation": fitted.validation,
            METRIC: float(ours.mean()),
            "trainings": len(fitted.study.trials),
            "seconds": round(fit_seconds, 1),
        },
        "path": {
            "training": trial.recipe.name,
            "export": variant,
            "bytes": best["nbytes"],
            "validation": best["validation"],
            METRIC: float(theirs.mean()),
            "trainings": len(study.trials),
            "seconds": round(paths_seconds, 1),
        },
        "users": len(ours),
        "difference": float((ours - theirs).mean()),
        "interval": [low, high],
    }
    for one in (fitted.out, path):
        shutil.rmtree(one)
    return found


def _best_path(interactions: Interactions, size: int, spec: SplitSpec, place: Path, threads: int) -> tuple[Path, Study]:
    """Return the bundle of the path that validation chooses, and the record of all paths."""
    folder, out = place / "paths", place / "path.bundle"
    folder.mkdir(exist_ok=True)
    command = {"data_fingerprint": interactions.fingerprint(), "max_bytes": size, "split": spec.to_dict()}
    study = Study.opened(folder, command, METRIC)
    limits = Limits(size, None, None, None, "raw", titles=False)
    training = split_interactions(interactions, spec).train_all
    trials = Trials(
        training,
        validation_split(spec, training),
        limits,
        threads,
        sample_users=None,
        one_file=False,
        precisions=every_precision,
    )
    search = Search(
        trials,
        folder,
        study,
        recipes=list(_paths()),
        progress=lambda state: messages.print(f"  {state.finished.recipe.name}") if state.finished else None,
    )
    search.run([size], trials=None)
    best = search.best()
    if best is None:
        raise click.ClickException(f"no path fits {size} bytes: {'; '.join(study.failures)}")
    finish(search, best, interactions, spec, out, None, overwrite=True)
    return out, study


def _over_seeds(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, size in dict.fromkeys((row["data"], row["size"]) for row in rows):
        cells = [row for row in rows if (row["data"], row["size"]) == (name, size)]
        yield {
            "data": name,
            "size": size,
            "fit": over_seeds([row["fit"][METRIC] for row in cells]),
            "path": over_seeds([row["path"][METRIC] for row in cells]),
        }


def _print(rows: Sequence[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        ours, theirs, (low, high) = row["fit"], row["path"], row["interval"]
        names = (f"{one['training']}, {one['export']}" for one in (ours, theirs))
        scores = (f"{one[METRIC]:.4f}" for one in (ours, theirs))
        head = [row["data"], row["size"], str(row["seed"])]
        pairs = [text for pair in zip(names, scores, strict=True) for text in pair]
        difference = [f"{row['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"]
        cells.append([*head, *pairs, *difference, f"{ours['seconds']:.0f}", f"{theirs['seconds']:.0f}"])
    print_table("", COLUMNS, cells)


if __name__ == "__main__":
    main()
