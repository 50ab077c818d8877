"""A table that is larger than memory allows, exported from its file: peak memory, time, and that it verifies.

usage: python -m bench.experiments.streaming --items 10000000 [--dimensions 64] [--out result.json]

The table is random and lies on disk; each precision is exported by a process of its own, whose peak memory is VmHWM,
verification included. What the verifying child process takes is told beside it.
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
    """An .npy of (items, dimensions) normal float32 values, written a part at a time."""
    rng = np.random.default_rng(seed)
    table = np.lib.format.open_memmap(path, "w+", np.float32, (items, dimensions))
    for start in range(0, items, ROWS_AT_ONCE):
        part = table[start : start + ROWS_AT_ONCE]
        part[...] = rng.standard_normal(part.shape, np.float32)
    table.flush()


def export_one(items: Path, out: Path, layout: str, precision: str) -> dict[str, Any]:
    """Export in this process; bytes, seconds and peak memory of it."""
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


def export_apart(items: Path, out: Path, layout: str, precision: str) -> dict[str, Any]:
    """The same in a fresh process. Raises BenchError where it fails."""
    command = [sys.executable, "-m", "bench.experiments.streaming", "--export", str(items), str(out), layout, precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise BenchError(f"the export failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@experiment("streaming")
@click.option("--items", default=10_000_000, show_default=True)
@click.option("--dimensions", default=64, show_default=True)
@click.option("--precision", "precisions", multiple=True, default=("fp32", "int8"), show_default=True)
@click.option("--export", "one", nargs=4, type=str, hidden=True)
def main(items: int, dimensions: int, precisions: tuple[str, ...], one: tuple[str, ...] | None) -> Figures:
    """Generate, export, tell."""
    if one:
        click.echo(json.dumps(export_one(Path(one[0]), Path(one[1]), *one[2:])))
        return {}
    with tempfile.TemporaryDirectory(prefix="edgerec-streaming-") as scratch:
        table = Path(scratch, "items.npy")
        write_table(table, items, dimensions)
        rows = [export_apart(table, Path(scratch, precision), "dense", precision) for precision in precisions]
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
