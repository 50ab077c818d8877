"""Backbones beside each other: full tables, and a tenth of them by popularity, each with its defaults.

usage: python -m bench.experiments.backbones [--data ml-100k] [--seeds 3] [--workers 2] --out result.json

NDCG@20 of the exported bundles on the test part. Cells go through the grid runner: killed, the same command goes on.
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
    """One a backbone and method: METRIC over the seeds, and what was chosen."""
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
    """A line a backbone: METRIC by method, with its standard deviation where there is one."""
    shown: dict[str, list[str]] = {}
    for row in rows:
        shown.setdefault(row["backbone"], [f"`{row['backbone']}`"]).append(with_spread(row[METRIC]))
    return list(shown.values())


@experiment("backbones", needs_out=True)
@click.option("--data", default="ml-100k", show_default=True)
@click.option("--backbones", default=",".join(BACKBONES), show_default=True)
@click.option("--budget", default="10%", show_default=True)
@click.option("--dimensions", default=64, show_default=True)
@click.option("--split", default="random:80/20", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--epochs", type=int, help="At most; a backbone's own where not given.")
@click.option("--workers", default=2, show_default=True, help="Cells at a time.")
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
    """Train, export and measure; then the table."""
    plan: dict[str, Any] = {"data": data, "backbone": backbones.split(","), "method": list(METHODS), "budget": budget}
    plan |= {"split": split, "dimensions": dimensions, "seed": list(range(seeds))}
    if epochs is not None:
        plan["epochs"] = epochs
    rows = summary(grid_rows(GridPlan.parse(plan), next_to_out(".cells.jsonl"), workers=workers))
    print_table(f"{data}, {split}, d={dimensions}, {METRIC}", ("", "dense", f"popularity, {budget}"), cells(rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
