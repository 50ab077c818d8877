"""Quality and coverage of a bundle's answers by the rarity of a request.

usage: python -m bench.experiments.rarity --out result.json [--data ml-1m,amazon-beauty,gowalla] [--backbone svd]
                                          [--rarities=-0.3,0,0.1,0.2,0.3,0.5]

A bundle without users in int4, of a random 80/20 split per user and one seed; figures are of its own answers on the
test part.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment, named_or_stored
from bench.experiments.item_only import METRICS, Training, exported
from edgerec.console import messages, print_table
from edgerec.measure import evaluate
from edgerec.runtime import Recommender

COLUMNS = ("data", "rarity", "NDCG@20", "recall@20", "coverage@20", "popularity@20")


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as table cells."""
    ndcg, recall, coverage, popularity = (row[name] for name in METRICS)
    return [row["data"], f"{row['rarity']:g}", f"{ndcg:.4f}", f"{recall:.4f}", f"{coverage:.3f}", f"{popularity:.0f}"]


@experiment("rarity", needs_out=True)
@click.option("--data", default="ml-1m,amazon-beauty,gowalla", show_default=True, help="Data sets.")
@click.option("--backbone", default="svd", show_default=True, help="Backbone to train, with its defaults.")
@click.option("--rarities", default="-0.3,0,0.1,0.2,0.3,0.5", show_default=True, help="Rarities of requests.")
def main(data: str, backbone: str, rarities: str) -> Figures:
    """Measure quality and coverage of a bundle's answers by the rarity of a request."""
    rows: list[dict[str, Any]] = []
    for name in data.split(","):
        interactions = named_or_stored(name)
        run = Training().rival(interactions, backbone, 0)
        with tempfile.TemporaryDirectory() as scratch:
            model = Recommender.load(exported(run, Path(scratch), precision="int4").folder)
            for rarity in map(float, rarities.split(",")):
                found = evaluate(model, interactions, threads=1, rarity=rarity)
                rows.append({"data": name, "rarity": rarity, **{metric: found[metric] for metric in METRICS}})
                messages.print(" ".join(cells(rows[-1])), markup=False)
    print_table(f"{backbone} without users, int4", COLUMNS, [cells(row) for row in rows])
    return {"rows": rows}


if __name__ == "__main__":
    main()
