"""Quality per byte of bundles: plain tables in every precision, and tables that export fits into the same bytes.

usage: EDGEREC_DATA=FOLDER python -m bench.experiments.quality_per_byte [--data ml-1m] [--out result.json]

'plain' bundles hold tables of several dimensions, each trained from scratch, stored dense with a scale per block.
'fitted' bundles hold the table with the most dimensions, exported with `--precision auto` to the bytes of each plain
bundle. Every bundle is evaluated by its own answers on the test part, with users and items quantised alike; bytes are
those of all files of the bundle.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment
from edgerec.api import train
from edgerec.budget import format_bytes
from edgerec.console import print_table
from edgerec.data import Interactions, load_data
from edgerec.measure import evaluate
from edgerec.runtime import Recommender
from edgerec.training import FitOptions, Run
from edgerec_export import ExportRequest, export_request, from_run

PRECISIONS = ("fp32", "fp16", "int8", "int4")
METRIC = "ndcg@20"
SCALES = {"int8": "block", "int4": "block"}


@dataclass(frozen=True)
class MeasuredBundle:
    """The size and the quality of one bundle.

    Attributes:
        form: 'plain' or 'fitted'.
        dimensions: dimensions of the trained table.
        stored: layout and precision of the bundle.
        nbytes: bytes of all its files.
        density: share of the item table's values in the bundle; 'kept' on disk.
        ndcg: METRIC of its answers.
    """

    form: str
    dimensions: int
    stored: str
    nbytes: int
    density: float
    ndcg: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as the file of figures has them."""
        return {"kept" if name == "density" else name: value for name, value in asdict(self).items()}


def measure(run: Run, options: ExportRequest, form: str, interactions: Interactions) -> MeasuredBundle:
    """Export a run, evaluate the bundle and count its bytes."""
    with tempfile.TemporaryDirectory(prefix="edgerec-quality-") as scratch:
        done = export_request(from_run(run), Path(scratch, "b"), options)
        found = evaluate(Recommender.load(done.folder), interactions)[METRIC]
    taken = done.chosen.tried[0]
    return MeasuredBundle(
        form, run.items.d, f"{taken.layout} {taken.precision}", done.nbytes, done.chosen.density, found
    )


def rows(points: list[dict[str, Any]]) -> list[list[str]]:
    """Format as table cells, for every size of plain bundles (sizes within 3 % are grouped), the best plain and the
    best fitted bundle of at most that size."""
    sizes: list[int] = []
    for nbytes in sorted({point["nbytes"] for point in points if point["form"] == "plain"}, reverse=True):
        if not sizes or nbytes < 0.97 * sizes[-1]:
            sizes.append(nbytes)
    table = []
    for size in reversed(sizes):
        row = [format_bytes(size)]
        for form in ("plain", "fitted"):
            within = [point for point in points if point["form"] == form and point["nbytes"] <= size]
            best = max(within, key=lambda point: point["ndcg"])
            row += [f"d {best['dimensions']} {best['stored']}", f"{best['ndcg']:.4f}"]
        table.append(row)
    return table


@experiment("quality-per-byte")
@click.option("--data", default="ml-1m", show_default=True, help="Data set.")
@click.option("--backbone", default="ials", show_default=True, help="Backbone to train.")
@click.option(
    "--dimensions", multiple=True, type=int, default=(64, 32, 16, 8), show_default=True, help="Dimensions. Repeatable."
)
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
def main(data: str, backbone: str, dimensions: tuple[int, ...], seed: int) -> Figures:
    """Train tables of several dimensions, export them in every precision and evaluate the bundles."""
    interactions = load_data(data)
    options = FitOptions(seed=seed, threads=1)
    runs = {
        d: train(interactions, backbone=backbone, method="dense", dimensions=d, **vars(options)) for d in dimensions
    }
    plain = [
        measure(
            run,
            ExportRequest("dense", precision, scales=SCALES.get(precision, "auto"), similar=False),
            "plain",
            interactions,
        )
        for run in runs.values()
        for precision in PRECISIONS
    ]
    whole = runs[max(dimensions)]
    fitted = []
    for limit in sorted({point.nbytes for point in plain}):
        options_within = ExportRequest(precision="auto", max_bytes=limit, fit=True, similar=False)
        fitted.append(measure(whole, options_within, "fitted", interactions))
    points = sorted([*plain, *fitted], key=lambda point: (point.nbytes, point.form))
    print_table(
        f"{data}, {backbone}, {METRIC} of the bundle's own answers",
        ["", "trained d", "stored", "bytes", "density", METRIC],
        [[p.form, str(p.dimensions), p.stored, f"{p.nbytes:,}", f"{p.density:.0%}", f"{p.ndcg:.4f}"] for p in points],
    )
    return {
        "metric": METRIC,
        "unquantised": {str(d): run.metrics["test"][METRIC] for d, run in runs.items()},
        "points": [point.to_json() for point in points],
    }


if __name__ == "__main__":
    main()
