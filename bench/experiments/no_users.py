"""Quality of bundles without users: user vectors encoded from histories compared with those of the user table.

usage: python -m bench.experiments.no_users [--data ml-1m] [--runs FOLDER] [--out result.json]

Tables are full with 64 dimensions, the split is random 80/20 per user with seed 0, metrics are on the test part.
'table' ranks with the user table; 'encoder' ranks with vectors encoded from the training interactions, by an encoder
fitted without the vector of that user; 'bundle' is the answer of bundles exported with --no-users to these histories.
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
from edgerec.models import BACKBONES
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec_export import ExportRequest, export_request, from_run

SPLIT = "random:80/20"
METRICS = ("ndcg@20", "recall@20")
PRECISIONS = ("fp32", "int8")
COLUMNS = ("backbone", "encoder", "table", "encoder", "bundle fp32", "bundle int8", "bytes with users", "bytes without")


def measure(interactions: Interactions, run: Run) -> dict[str, Any]:
    """Measure one backbone: metrics by source of the user vectors, and bytes of bundles with and without users."""
    row: dict[str, Any] = {
        "backbone": run.config["backbone"],
        "kind": None if run.encoder is None else run.encoder.kind,
        "epochs": run.config["epochs"],
        "settings": run.config["chosen_settings"],
        "table": None if run.users is None else _of(run.metrics["test"]),
        "encoder": _of(run.metrics["encoder" if run.users is not None else "test"]),
        "bundles": {},
    }
    source = from_run(run)
    with tempfile.TemporaryDirectory() as scratch:
        for precision in PRECISIONS:
            options = ExportRequest(precision=precision, users=False)
            without = export_request(source, Path(scratch, f"{precision}.without"), options)
            bundle: dict[str, Any] = {
                "bytes": without.nbytes,
                **_of(evaluate(Recommender.load(without.folder), interactions)),
            }
            if run.users is not None:
                with_users = ExportRequest(precision=precision, verify=False)
                bundle["bytes_with_users"] = export_request(
                    source, Path(scratch, f"{precision}.with"), with_users
                ).nbytes
            row["bundles"][precision] = bundle
    return row


def _of(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in METRICS}


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as table cells: NDCG@20 everywhere, bytes of the int8 bundles."""
    fp32, int8 = (row["bundles"][precision] for precision in PRECISIONS)
    scores = [row["table"], row["encoder"], fp32, int8]
    shown = ["" if score is None else f"{score['ndcg@20']:.4f}" for score in scores]
    with_users = int8.get("bytes_with_users")
    return [row["backbone"], row["kind"], *shown, "" if with_users is None else f"{with_users:,}", f"{int8['bytes']:,}"]


@experiment("no_users")
@click.option("--data", default="ml-1m", show_default=True, help="Data set.")
@click.option("--backbones", default=",".join(BACKBONES), show_default=True, help="Backbones, separated by commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--threads", default=2, show_default=True, help="Threads of training.")
@runs_option
def main(data: str, backbones: str, dimensions: int, threads: int, runs: Path | None) -> Figures:
    """Train, export without users, and compare the quality with that of the user table."""
    interactions, rows = load_data(data), []
    for name in backbones.split(","):
        run = trained_run(interactions, runs, name, backbone=name, dimensions=dimensions, split=SPLIT, threads=threads)
        rows.append(measure(interactions, run))
        messages.print(", ".join(map(str, cells(rows[-1]))), markup=False)
    print_table(f"{data}, {SPLIT}, d={dimensions}, NDCG@20, bytes of int8", COLUMNS, [cells(row) for row in rows])
    return {
        "split": f"{SPLIT}, seed 0",
        "data_fingerprint": interactions.fingerprint(),
        "rows": rows,
    }


if __name__ == "__main__":
    main()
