"""Time of fitted bundles, over that of the plain dense one of the same synthetic table.

usage: python -m bench.experiments.fitted [--items 3706,41000,200000] [--bytes 4,8,16] [--out result.json]

Tables have 64 dimensions of falling importance, rows of different lengths, and an encoder of histories instead of
users. Bundles are fitted by `--precision auto` to the bytes a row, besides ids, graphs and what else a bundle has. Each
round asks every bundle once for the 20 best of a history of 20 items, on one thread; the ratio is the median of those
within a round.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import click
import numpy as np

from bench.experiments.harness import Figures, experiment, time_interleaved
from bench.experiments.trained import request_of
from edgerec.console import print_table
from edgerec.models.encoder import LinearEncoder
from edgerec.runtime import Recommender
from edgerec_export import Source, export, from_arrays

PLAIN = ("fp32", "int8", "int4")
OTHER_BYTES, OTHER_BYTES_A_ROW = 14_000, 3
"""Bytes of a bundle besides its values: graphs and manifest; and of each row its id, weight and scale."""
COLUMNS = ("items", "stored", "bytes a row", "bytes", "ms", "of dense fp32")


def synthetic(items: int, dimensions: int, seed: int) -> Source:
    """Return a table of items whose dimensions fall in importance by 4 % each."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((items, dimensions)) * 0.96 ** np.arange(dimensions) * rng.gamma(2, 1, (items, 1))
    encoder = LinearEncoder(rng.uniform(0.1, 1, items).astype(np.float32))
    counts = (1e4 / np.arange(1, items + 1)).astype(np.int64) + 1
    return from_arrays(values.astype(np.float32), None, encoder=encoder, item_counts=counts)


def measure(items: int, dimensions: int, sizes: list[float], rounds: int, seed: int) -> list[Figures]:
    """Return a row for each bundle of a table."""
    source = synthetic(items, dimensions, seed)
    with tempfile.TemporaryDirectory(prefix="edgerec-fitted-") as scratch:
        exported: list[tuple[float | None, str, int, Path]] = []
        forms: list[str | float] = [*PLAIN, *sizes]
        for number, one in enumerate(forms):
            out = Path(scratch, str(number))
            if isinstance(one, str):
                done = export(source, out, layout="dense", precision=one, users=False, similar=False, verify=False)
            else:
                limit = round(items * (one + OTHER_BYTES_A_ROW)) + OTHER_BYTES
                done = export(source, out, precision="auto", max_bytes=limit, users=False, similar=False, verify=False)
            taken = done.chosen.tried[0]
            size = None if isinstance(one, str) else one
            exported.append((size, f"{taken.layout} {taken.precision}", done.nbytes, out))
        models = [Recommender.load(out) for *_, out in exported]
        times = time_interleaved([request_of(model, seed) for model in models], rounds)
        for model in models:
            model.close()
    return [
        {
            "items": items,
            "stored": stored,
            "bytes_a_row": size,
            "nbytes": nbytes,
            "p50_ms": median(taken),
            "of_dense": median(a / b for a, b in zip(taken, times[0], strict=True)),
        }
        for (size, stored, nbytes, _), taken in zip(exported, times, strict=True)
    ]


def cells(row: Figures) -> list[str]:
    """Format a row as cells of the table."""
    size = "" if row["bytes_a_row"] is None else f"{row['bytes_a_row']:g}"
    ratio = f"{row['of_dense']:.2f}"
    return [f"{row['items']:,}", row["stored"], size, f"{row['nbytes']:,}", f"{row['p50_ms']:.3f}", ratio]


@experiment("fitted")
@click.option("--items", default="3706,41000,200000", show_default=True, help="Numbers of items, separated by commas.")
@click.option("--bytes", "sizes", default="4,8,16", show_default=True, help="Bytes a row, separated by commas.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--rounds", default=300, show_default=True, help="Requests of each bundle that are timed.")
@click.option("--seed", default=0, show_default=True, help="Seed of the tables and requests.")
def main(items: str, sizes: str, dimensions: int, rounds: int, seed: int) -> Figures:
    """Fit synthetic tables to sizes, and compare the times of the bundles' answers."""
    each = [float(size) for size in sizes.split(",")]
    rows = [row for count in items.split(",") for row in measure(int(count), dimensions, each, rounds, seed)]
    print_table(f"{dimensions} dimensions, one thread", COLUMNS, [cells(row) for row in rows])
    return {"rows": rows}


if __name__ == "__main__":
    main()
