"""Quality of integer bundles with and without the rotation of both tables before rounding.

usage: python -m bench.experiments.rotation [--data ml-1m,amazon-beauty] [--runs FOLDER] [--out result.json]

Tables have 64 dimensions, the split is random 80/20 per user with seed 0; NDCG@20 is of a bundle's own answers on the
test part. 'dense' tables are full and exported dense; 'popularity' tables have a quarter of the values and are exported
mixed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment, runs_option, trained_run
from edgerec.console import messages, print_table
from edgerec.data import Interactions, load_data
from edgerec.measure import evaluate
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec_export import export, from_run

SPLIT = "random:80/20"
METHODS = {"dense": (None, "dense"), "popularity": ("25%", "mixed")}
"""Budget and layout of each method."""
FORMS = (("int2", "auto"), ("int4", "auto"), ("int4", "row"), ("int8", "auto"))
COLUMNS = ("data", "backbone", "method", "users", "precision", "scales", "bytes", "not rotated", "rotated")


def measure(interactions: Interactions, run: Run, layout: str) -> list[dict[str, Any]]:
    """Measure a run's bundles: NDCG@20 and bytes by precision and scales, with and without users and rotation."""
    rows = []
    for users in (True, False) if run.users is not None else (False,):
        for precision, scales in FORMS:
            row: dict[str, Any] = {"layout": layout, "users": users, "precision": precision, "scales": scales}
            for rotate in (False, True):
                with tempfile.TemporaryDirectory() as scratch:
                    done = export(
                        from_run(run),
                        Path(scratch, "b"),
                        layout=layout,
                        precision=precision,
                        scales=scales,
                        users=users,
                        rotate=rotate,
                        verify=False,
                    )
                    found = evaluate(Recommender.load(done.folder), interactions)
                row |= {f"bytes_{_name(rotate)}": done.nbytes, f"ndcg@20_{_name(rotate)}": found["ndcg@20"]}
            rows.append(row)
    return rows


def _name(rotate: bool) -> str:
    return "rotated" if rotate else "not_rotated"


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as table cells."""
    named = [str(row[name]) for name in ("data", "backbone", "method", "users", "precision", "scales")]
    scores = [f"{row[f'ndcg@20_{_name(rotate)}']:.4f}" for rotate in (False, True)]
    return [*named, f"{row['bytes_rotated']:,}", *scores]


@experiment("rotation")
@click.option("--data", default="ml-1m,amazon-beauty", show_default=True, help="Data sets, separated by commas.")
@click.option("--backbones", default="ials,svd", show_default=True, help="Backbones, separated by commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--threads", default=2, show_default=True, help="Threads of training.")
@runs_option
def main(data: str, backbones: str, dimensions: int, threads: int, runs: Path | None) -> Figures:
    """Train, export with and without the rotation, and compare the quality of the bundles' answers."""
    rows: list[dict[str, Any]] = []
    for name in data.split(","):
        interactions = load_data(name)
        for backbone in backbones.split(","):
            for method, (budget, layout) in METHODS.items():
                run = trained_run(
                    interactions,
                    runs,
                    f"{Path(name).name}-{backbone}-{method}",
                    backbone=backbone,
                    dimensions=dimensions,
                    split=SPLIT,
                    threads=threads,
                    method=method,
                    budget=budget,
                )
                about = {"data": Path(name).name, "backbone": backbone, "method": method}
                for row in measure(interactions, run, layout):
                    rows.append(about | row)
                    messages.print(", ".join(cells(rows[-1])), markup=False)
    print_table(f"NDCG@20, {SPLIT}, d={dimensions}", COLUMNS, [cells(row) for row in rows])
    return {"split": f"{SPLIT}, seed 0", "rows": rows}


if __name__ == "__main__":
    main()
