"""Quality of models without a user table by bytes: the tied linear encoder, trained as it is stored, and fitted tables.

usage: python -m bench.experiments.item_only [--data ml-1m] [--sizes 4,8,16,32] [--limits 32KiB] [--split published]
                                             [--dimensions 64] [--set encoder=least_squares] [--precision int2]
                                             [--out result.json]

'lae' is trained within each size: bytes an item of values and scale, or a limit of the whole bundle with ids, in one
file. Without --precision it has int2 below 12 bytes an item and int4 from there on. The rivals are trained in full with
as many dimensions and exported without users, with `--precision auto --fit` to the bytes of lae's bundle. All figures
are of a bundle's own answers on the test part of a split, by default a random 80/20 split per user, to histories of the
training part; a seed is that of the split too. 'ease' and 'gf-cf' are full item-item models in fp32, ceilings and no
bundles,
'neighbours' as many nearest neighbours of each item as the bytes of lae's bundle allow; 'fit' what `edgerec fit`
chooses for these bytes in 12 trainings, without users.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, P, cached, experiment, named_or_stored, next_to_out
from bench.experiments.item_item import FULL, NEAREST, full_row, nearest_row
from edgerec.api import train
from edgerec.budget import parse_bytes
from edgerec.console import messages, print_table
from edgerec.data import Interactions, SplitSpec
from edgerec.data import split as split_of
from edgerec.fitting import fit
from edgerec.measure import evaluate
from edgerec.request import settings_of
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec_bench.record import over_seeds
from edgerec_export import Export, export, from_run

METRICS = ("ndcg@20", "recall@20", "coverage@20", "popularity@20")
FITTED, FIT_TRAININGS = "fit", 12
FEW_BYTES = 12
"""Bytes an item from which values have four bits."""
ONE_FILE_BYTES, BYTES_A_ROW = 14_500, 2.6
"""First guess of the bytes of one file besides values: in all, and of each row its id, weight and scale."""
COLUMNS = ("data", "size", "backbone", "bytes", "an item", "NDCG@20", "recall@20", "coverage@20", "popularity@20")


@dataclass(frozen=True)
class Training:
    """Arguments of every training.

    Attributes:
        split: the split, as text.
        dimensions: dimensions of a full row.
        settings: settings of lae, by name.
        max_epochs: maximum number of epochs of lae; None for its own.
        precision: that of lae; None for the one of the bytes an item.
        sample_users: number of users of validation; None for all.
    """

    split: str = "random:80/20"
    dimensions: int = 64
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_epochs: int | None = None
    precision: str | None = None
    sample_users: int | None = None

    def lae(self, interactions: Interactions, values: float, seed: int, max_epochs: int | None = None) -> Run:
        """Train lae with this number of bytes of values an item."""
        usual = "int2" if values + 1 < FEW_BYTES else "int4"
        return train(
            interactions,
            backbone="lae",
            budget=f"{values:.3f}B/row",
            precision=self.precision or usual,
            dimensions=self.dimensions,
            split=self.split,
            settings=self.settings,
            seed=seed,
            threads=1,
            max_epochs=max_epochs or self.max_epochs,
            sample_users=self.sample_users,
        )

    def rival(self, interactions: Interactions, backbone: str, seed: int) -> Run:
        """Train a rival in full, with its settings chosen on validation."""
        return train(
            interactions,
            backbone=backbone,
            method="dense",
            dimensions=self.dimensions,
            split=self.split,
            seed=seed,
            threads=1,
            sample_users=self.sample_users,
        )


def exported(run: Run, folder: Path, **how: Any) -> Export:
    """Export a run without users in one file."""
    how = {"precision": run.config["precision"], **how}
    return export(from_run(run), folder / "b.edgerec", users=False, similar=False, verify=False, **how)


def values_within(training: Training, interactions: Interactions, limit: int) -> float:
    """Return the bytes of values an item for a bundle of at most `limit` bytes, by bundles of one epoch."""
    n = interactions.n_items
    values = (limit - ONE_FILE_BYTES) / n - BYTES_A_ROW
    for _ in range(3):
        with tempfile.TemporaryDirectory() as scratch:
            taken = exported(training.lae(interactions, values, 0, 1), Path(scratch)).nbytes
        if 0.985 * limit < taken < 0.996 * limit:  # the bundle of all epochs is up to 0.3 % larger or smaller
            break
        values += (0.993 * limit - taken) / n
    return values


def measured(run: Run, interactions: Interactions, **how: Any) -> dict[str, float]:
    """Return bytes and metrics of a run's bundle."""
    with tempfile.TemporaryDirectory() as scratch:
        done = exported(run, Path(scratch), **how)
        found = evaluate(Recommender.load(done.folder), interactions, threads=1)
    return {"bytes": done.nbytes, **{name: found[name] for name in METRICS}}


def lae_row(training: Training, interactions: Interactions, size: str, seed: int) -> Figures:
    """Train and measure lae within a size of the whole bundle (64KiB), or an item (8)."""
    whole = not size.replace(".", "").isdigit()
    if whole:  # in a bundle of limited bytes an open encoder is 'sum', in those of one epoch too
        training = replace(training, settings={"encoder": "sum", **training.settings})
    values = values_within(training, interactions, parse_bytes(size)) if whole else float(size) - 1
    start = time.process_time()
    run = training.lae(interactions, values, seed)
    seconds = time.process_time() - start
    row = measured(run, interactions, **({"max_bytes": parse_bytes(size)} if whole else {}))
    chosen = run.config["chosen_settings"]
    how = {"values_a_row": values, "training_cpu_seconds": seconds, "epochs": run.config["epochs"]}
    return {**row, **how, "validation": run.metrics["validation"]["ndcg@20"], "settings": chosen}


def rival(training: Training, interactions: Interactions, backbone: str, seed: int) -> Callable[[Figures], Figures]:
    """Return the measurement of a rival in the bytes of a row of lae; it is trained once."""
    if backbone == FITTED:
        return lambda lae: fitted_row(interactions, training.split, int(lae["bytes"]), seed)
    if backbone in (*FULL, NEAREST):
        parts = split_of(interactions, SplitSpec.parse(training.split, seed=seed))
        return lambda lae: full_row(parts, backbone) if backbone in FULL else nearest_row(parts, int(lae["bytes"]))
    run = lru_cache(1)(partial(training.rival, interactions, backbone, seed))
    return lambda lae: measured(run(), interactions, precision="auto", fit=True, max_bytes=int(lae["bytes"]))


def fitted_row(interactions: Interactions, split: str, max_bytes: int, seed: int) -> Figures:
    """Search the best bundle of this size, and measure it; settings are the recipe's name."""
    how: dict[str, Any] = {"trials": FIT_TRAININGS, "users": False, "split": SplitSpec.parse(split, seed=seed)}
    with tempfile.TemporaryDirectory() as scratch:
        found = fit(interactions, Path(scratch) / "b.edgerec", max_bytes=max_bytes, seed=seed, **how)
    assert found.test is not None  # a split with a test part
    test = {name: found.test[name] for name in METRICS}
    return {"bytes": found.nbytes, **test, "settings": f"{found.recipe.name}, {found.variant.name}"}


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as table cells."""
    size = row["size"] if "B" in row["size"] else f"{row['size']} B an item"
    figures = [f"{row[name]['mean']:.4f}" for name in METRICS[:2]]
    shown = [*figures, f"{row['coverage@20']['mean']:.3f}", f"{row['popularity@20']['mean']:.0f}"]
    nbytes = row["bytes"]["mean"]
    return [row["data"], size, row["backbone"], f"{nbytes:,.0f}", f"{nbytes / row['items']:.1f}", *shown]


_OPTIONS = (
    click.option("--dimensions", default=Training.dimensions, show_default=True, help="Dimensions of a full row."),
    click.option("--max-epochs", type=int, help="Maximum number of epochs of lae."),
    click.option("--precision", help="Precision of lae; by default that of the bytes an item."),
    click.option("--sample-users", type=int, help="Number of users of validation; by default all."),
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of lae; may be repeated."),
)


def training_options(command: Callable[P, Figures]) -> Callable[P, Figures]:
    """Add the options of a `Training` but its split."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@experiment("item_only", needs_out=True)
@click.option("--data", default="ml-1m", show_default=True, help="Data sets, separated by commas.")
@click.option("--sizes", default="4,8,16,32", show_default=True, help="Bytes an item of values and scale.")
@click.option("--limits", default="", show_default=True, help="Sizes of whole bundles.")
@click.option("--rivals", default="svd,ials", show_default=True, help="Backbones, ease, gf-cf, neighbours, fit.")
@click.option("--seeds", default=1, show_default=True, help="Seeds of splits and training, from 0.")
@click.option("--split", default=Training.split, show_default=True, help="The split of all data sets.")
@training_options
def main(
    data: str,
    sizes: str,
    limits: str,
    rivals: str,
    seeds: int,
    split: str,
    dimensions: int,
    max_epochs: int | None,
    precision: str | None,
    sample_users: int | None,
    settings: tuple[str, ...],
) -> Figures:
    """Train within each size, and compare the quality of the bundles' answers with fitted ones of as many bytes."""
    rows: list[dict[str, Any]] = []
    fingerprints = {}
    folder = next_to_out(".rows")
    training = Training(split, dimensions, settings_of(settings), max_epochs, precision, sample_users)
    shared: dict[str, Any] = {"split": split, "dimensions": dimensions}
    shared |= {} if sample_users is None else {"sample_users": sample_users}
    own: dict[str, Any] = {"settings": training.settings, "max_epochs": max_epochs}
    own |= {} if precision is None else {"precision": precision}
    for name in data.split(","):
        interactions = named_or_stored(name)
        fingerprints[name] = interactions.fingerprint()
        found: dict[tuple[str, str], list[Figures]] = {}
        named = [*filter(None, sizes.split(",")), *filter(None, limits.split(","))]
        for seed in range(seeds):
            for size in named:
                request = {**shared, **own, "data": fingerprints[name], "size": size, "seed": seed}
                measure = partial(lae_row, training, interactions, size, seed)
                row = cached(folder / f"{name}-{size}-{seed}.json", request, measure)
                found.setdefault((size, "lae"), []).append(row)
                messages.print(f"{name} {size} seed {seed}: {row['ndcg@20']:.4f} {row['bytes']:,}", markup=False)
            for backbone in filter(None, rivals.split(",")):
                measured_in = rival(training, interactions, backbone, seed)
                for size in named:
                    lae = found[size, "lae"][-1]
                    limit = {} if backbone in FULL else {"max_bytes": int(lae["bytes"])}
                    request = {**shared, "data": fingerprints[name], **limit, "seed": seed}
                    path = folder / f"{name}-{size}-{seed}-{backbone}.json"
                    row = cached(path, request | {"backbone": backbone}, partial(measured_in, lae))
                    found.setdefault((size, backbone), []).append(row)
        for (size, backbone), by_seed in found.items():
            chosen = [one["settings"] for one in by_seed if "settings" in one]
            names = [figure for figure in by_seed[0] if figure != "settings"]
            figures = {figure: over_seeds([one[figure] for one in by_seed]) for figure in names}
            row = {"data": name, "size": size, "backbone": backbone, "items": interactions.n_items, **figures}
            rows.append({**row, "chosen_settings": chosen} if chosen else row)
    print_table("bundles without users, one file, their own answers", COLUMNS, [cells(row) for row in rows])
    return {"split": split, "data_fingerprints": fingerprints, "rows": rows}


if __name__ == "__main__":
    main()
