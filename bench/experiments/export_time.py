"""Time of an export that chooses precisions and row sizes itself, and how often it reports its progress.

usage: python -m bench.experiments.export_time [--rows 50000] [--dimensions 384] [--out result.json]

The table is made up, as of sentence embeddings: dimensions of falling importance, without users. It is fitted by
`--precision auto` to 32 bytes a row. Seconds are of the processor, and by the clock.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from bench.experiments.fitted import synthetic
from bench.experiments.harness import Figures, experiment
from edgerec.console import print_table
from edgerec_export import ExportStep, export

BYTES_A_ROW = 32
COLUMNS = ("rows", "dimensions", "stored", "bytes", "seconds of a processor", "seconds", "steps", "longest step")


@experiment("export-time")
@click.option("--rows", default=50_000, show_default=True, help="Number of items.")
@click.option("--dimensions", default=384, show_default=True, help="Dimensions of the table.")
@click.option("--seed", default=0, show_default=True, help="Seed of the table.")
def main(rows: int, dimensions: int, seed: int) -> Figures:
    """Export a large table with --precision auto, and time it."""
    source = synthetic(rows, dimensions, seed)
    times: list[float] = []

    def reported(_: ExportStep) -> None:
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory(prefix="edgerec-export-") as scratch:
        began, started = time.process_time(), time.perf_counter()
        done = export(
            source,
            Path(scratch, "b"),
            precision="auto",
            max_bytes=rows * BYTES_A_ROW,
            users=False,
            verify=False,
            progress=reported,
        )
        seconds, spent = time.perf_counter() - started, time.process_time() - began
    taken = done.chosen.tried[0]
    longest = max(b - a for a, b in zip([started, *times], [*times, started + seconds], strict=True))
    row = {
        "rows": rows,
        "dimensions": dimensions,
        "stored": f"{taken.layout} {taken.precision}",
        "nbytes": done.nbytes,
        "process_seconds": spent,
        "seconds": seconds,
        "steps": len(times),
        "longest_step_seconds": longest,
    }
    print_table(
        "export with --precision auto",
        COLUMNS,
        [[f"{v:.1f}" if isinstance(v, float) else str(v) for v in row.values()]],
    )
    return {"rows": [row]}


if __name__ == "__main__":
    main()
