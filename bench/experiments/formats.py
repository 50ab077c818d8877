"""Quality of small bundles without users in the forms of the bundle format: version 1.0, 2.0, and 2.0 as one file.

usage: python -m bench.experiments.formats [--data ml-1m,amazon-beauty] [--equal-rows] [--runs FOLDER]
                                           [--out result.json]

Tables have 64 dimensions, the split is random 80/20 per user with seed 0. Each is exported without users, with
`--precision auto --fit` to each size, which is given in bytes an item, ids, graphs and manifest included; NDCG@20 is of
a bundle's own answers on the test part. With --equal-rows the tables are also cut to as many leading dimensions in each
row as fit version 1.0, without a rotation, in int8 and in int4; the better of these on the test part is shown.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment, named_or_stored, runs_option, trained_run
from edgerec.console import messages, print_table
from edgerec.data import Interactions
from edgerec.errors import BudgetError
from edgerec.measure import evaluate
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec_export import export, from_run

SPLIT = "random:80/20"
EQUAL = {
    "1.0, equal rows": [
        ("b", {"version": "1.0", "layout": "dense", "precision": precision, "rotate": False})
        for precision in ("int8", "int4")
    ]
}
FORMS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "1.0": [("b", {"version": "1.0"})],
    "2.0": [("b", {})],
    "2.0, one file": [("b.edgerec", {})],
}
"""Names of bundles, of which the best is shown, and settings of the export that are not those of all, by form."""
SHARED: dict[str, Any] = {"precision": "auto", "fit": True, "users": False, "verify": False}


def measure(interactions: Interactions, run: Run, max_bytes: int, equal_rows: bool) -> dict[str, Any]:
    """Return the form, bytes and NDCG@20 of a run's bundles within a size, in each form."""
    row: dict[str, Any] = {"max_bytes": max_bytes}
    for name, ways in ((EQUAL if equal_rows else {}) | FORMS).items():
        found = [one for way in ways if (one := exported(interactions, run, max_bytes, *way)) is not None]
        row[name] = max(found, key=lambda one: float(one["ndcg@20"]), default=None)
    return row


def exported(
    interactions: Interactions, run: Run, max_bytes: int, place: str, settings: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the form, bytes and NDCG@20 of one bundle; None if none fits."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            done = export(from_run(run), Path(scratch, place), max_bytes=max_bytes, **SHARED | settings)
        except BudgetError:
            return None
        found = evaluate(Recommender.load(done.folder), interactions)
    draft = done.chosen.draft
    form = f"{draft.request.layout} {'+'.join(sorted(draft.precisions()))}"
    return {"form": form, "bytes": done.nbytes, "ndcg@20": found["ndcg@20"]}


def columns(row: dict[str, Any]) -> list[str]:
    """Return the columns of `cells`."""
    return ["data", "backbone", "bytes at most", *(name for form in _forms(row) for name in (form, "NDCG@20"))]


def _forms(row: dict[str, Any]) -> list[str]:
    return [name for name in (*EQUAL, *FORMS) if name in row]


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as table cells."""
    found = [row["data"], row["backbone"], f"{row['max_bytes']:,}"]
    for name in _forms(row):
        one = row[name]
        found += ["does not fit", ""] if one is None else [one["form"], f"{one['ndcg@20']:.4f}"]
    return found


@experiment("formats")
@click.option("--data", default="ml-1m,amazon-beauty", show_default=True, help="Data sets, separated by commas.")
@click.option("--backbones", default="svd,ials", show_default=True, help="Backbones, separated by commas.")
@click.option("--sizes", default="13.3,17.7,26.6", show_default=True, help="Bytes an item, separated by commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--equal-rows", is_flag=True, help="Compare with rows of one size without a rotation, too.")
@click.option("--threads", default=2, show_default=True, help="Threads of training.")
@runs_option
def main(
    data: str, backbones: str, sizes: str, dimensions: int, equal_rows: bool, threads: int, runs: Path | None
) -> Figures:
    """Train, export within each size, and compare the quality of the bundles' answers."""
    rows: list[dict[str, Any]] = []
    for name in data.split(","):
        interactions = named_or_stored(name)
        for backbone in backbones.split(","):
            run = trained_run(
                interactions,
                runs,
                f"{Path(name).name}-{backbone}",
                backbone=backbone,
                dimensions=dimensions,
                split=SPLIT,
                threads=threads,
            )
            about = {"data": Path(name).name, "backbone": backbone}
            for size in sizes.split(","):
                rows.append(about | measure(interactions, run, round(float(size) * interactions.n_items), equal_rows))
                messages.print(", ".join(cells(rows[-1])), markup=False)
    print_table(f"NDCG@20, {SPLIT}, d={dimensions}, without users", columns(rows[0]), [cells(row) for row in rows])
    return {"split": f"{SPLIT}, seed 0", "rows": rows}


if __name__ == "__main__":
    main()
