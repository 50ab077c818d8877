"""Out-of-core export: peak memory and time of exporting a table from its file, with verification.

usage: python -m bench.experiments.out_of_core_export --items 10000000 [--dimensions 64] [--out result.json]

The table is random and lies on disk. Each precision is exported by a process of its own; its peak memory is VmHWM,
including verification. The memory of the verifying child process is reported separately.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.harness import ROOT, Figures, experiment
from edgerec.budget import format_bytes
from edgerec.console import print_table
from edgerec.errors import BenchError
from edgerec.runtime.memory import memory_kib

USERS = 1000
ROWS_AT_ONCE = 1 << 18


def write_table(path: Path, items: int, dimensions: int, seed: int = 0) -> None:
    """Write an .npy file of (items, dimensions) normal float32 values in blocks."""
    rng = np.random.default_rng(seed)
    table = np.lib.format.open_memmap(path, "w+", np.float32, (items, dimensions))
    for start in range(0, items, ROWS_AT_ONCE):
        part = table[start : start + ROWS_AT_ONCE]
        part[...] = rng.standard_normal(part.shape, np.float32)
    table.flush()


def export_one(items: Path, out: Path, layout: str, precision: str) -> dict[str, Any]:
    """Export in this process; return bytes, seconds and peak memory."""
    from edgerec_export import export, from_arrays

    started = time.perf_counter()
    table = np.load(items, mmap_mode="r")
    users = np.random.default_rng(1).standard_normal((USERS, table.shape[1]), np.float32)
    done = export(from_arrays(table, users), out, layout=layout, precision=precision)
    verified = done.verification
    return {
        "layout": layout,
        "precision": precision,
        "bundle_bytes": done.nbytes,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_bytes": 1024 * memory_kib()["VmHWM"] if memory_kib() else None,
        "max_error": None if verified is None else verified.max_error,
        "verifying_process_bytes": None if verified is None else verified.peak_bytes,
    }


def export_isolated(items: Path, out: Path, layout: str, precision: str) -> dict[str, Any]:
    """Run `export_one` in a fresh process. Raises BenchError if it fails."""
    command = [
        sys.executable,
        "-m",
        "bench.experiments.out_of_core_export",
        "--export",
        str(items),
        str(out),
        layout,
        precision,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise BenchError(f"the export failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@experiment("streaming")
@click.option("--items", default=10_000_000, show_default=True, help="Number of items.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the table.")
@click.option(
    "--precision", "precisions", multiple=True, default=("fp32", "int8"), show_default=True, help="Repeatable."
)
@click.option("--export", "one", nargs=4, type=str, hidden=True)
def main(items: int, dimensions: int, precisions: tuple[str, ...], one: tuple[str, ...] | None) -> Figures:
    """Measure the peak memory and the time of exporting a large table from its file."""
    if one:
        click.echo(json.dumps(export_one(Path(one[0]), Path(one[1]), *one[2:])))
        return {}
    with tempfile.TemporaryDirectory(prefix="edgerec-streaming-") as scratch:
        table = Path(scratch, "items.npy")
        write_table(table, items, dimensions)
        rows = [export_isolated(table, Path(scratch, precision), "dense", precision) for precision in precisions]
    shown = [
        [
            f"{row['layout']} {row['precision']}",
            format_bytes(row["bundle_bytes"]),
            f"{row['seconds']:.0f}",
            "" if row["peak_bytes"] is None else format_bytes(row["peak_bytes"]),
        ]
        for row in rows
    ]
    heading = f"{items:,} x {dimensions} from a file of {format_bytes(4 * items * dimensions)}"
    print_table(heading, ["", "bundle", "seconds", "peak memory of the export"], shown)
    return {
        "items": items,
        "dimensions": dimensions,
        "table_bytes": 4 * items * dimensions,
        "exports": rows,
    }


if __name__ == "__main__":
    main()
