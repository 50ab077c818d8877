"""Backbones compared with their default settings: full tables, and a budget of 10 % by popularity.

usage: python -m bench.experiments.backbones [--data ml-100k] [--seeds 3] [--workers 2] --out result.json

The metric is NDCG@20 of the exported bundles on the test part. Cells run in a grid: after an interruption, the same
command resumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from bench.experiments.harness import Figures, experiment, grid_rows, next_to_out
from edgerec.console import print_table
from edgerec_bench.grid import GridPlan, Row
from edgerec_bench.record import over_seeds, with_spread

BACKBONES = ("lightgcn", "ncf", "ngcf", "mf")
METHODS = ("dense", "popularity")
METRIC = "ndcg@20"


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a row for each backbone and method: METRIC over the seeds, epochs and bytes."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["cell"]["backbone"], row["cell"]["method"]), []).append(row)
    return [
        {
            "backbone": backbone,
            "method": method,
            METRIC: over_seeds([row["metrics"]["bundle"][METRIC] for row in those]),
            "epochs": [row["epochs"] for row in those],
            "bundle_bytes": [row["bundle_bytes"] for row in those],
        }
        for (backbone, method), those in found.items()
    ]


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Format as table cells, for each backbone, METRIC by method with its spread."""
    shown: dict[str, list[str]] = {}
    for row in rows:
        shown.setdefault(row["backbone"], [f"`{row['backbone']}`"]).append(with_spread(row[METRIC]))
    return list(shown.values())


@experiment("backbones", needs_out=True)
@click.option("--data", default="ml-100k", show_default=True, help="Data set.")
@click.option("--backbones", default=",".join(BACKBONES), show_default=True, help="Backbones, separated by commas.")
@click.option("--budget", default="10%", show_default=True, help="Size limit of the tables.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of a full row.")
@click.option("--split", default="random:80/20", show_default=True, help="Split of the interactions.")
@click.option("--seeds", default=3, show_default=True, help="Number of seeds.")
@click.option("--epochs", type=int, help="Maximum number of training epochs; by default the backbone's.")
@click.option("--workers", default=2, show_default=True, help="Number of cells that run at a time.")
def main(
    data: str,
    backbones: str,
    budget: str,
    dimensions: int,
    split: str,
    seeds: int,
    epochs: int | None,
    workers: int,
) -> Figures:
    """Train, export and evaluate each backbone, and print a table."""
    plan: dict[str, Any] = {"data": data, "backbone": backbones.split(","), "method": list(METHODS), "budget": budget}
    plan |= {"split": split, "dimensions": dimensions, "seed": list(range(seeds))}
    if epochs is not None:
        plan["epochs"] = epochs
    rows = summary(grid_rows(GridPlan.parse(plan), next_to_out(".cells.jsonl"), workers=workers))
    print_table(f"{data}, {split}, d={dimensions}, {METRIC}", ("", "dense", f"popularity, {budget}"), cells(rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
