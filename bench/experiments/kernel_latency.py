"""Latency of the kernel and of the bundle's graphs in onnxruntime: one recommendation, one thread, in one process.

usage: python -m bench.experiments.kernel_latency --package FOLDER [--items 1000000] [--calls 60] [--out result.json]

Bundles are exported from random tables, with users: dense rows, rows that are cut to mostly small widths, and rows with
a tenth of their values. Both backends answer the same users, call by call one after the other. Random rows are the
worst case of block skipping: their lengths hardly differ. FOLDER has the package `edgerec_kernel`, compiled for this
machine; without it, the installed package is measured.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment, time_interleaved
from edgerec.console import messages, print_table
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable, PrefixTable, SparseTable
from edgerec_export import ExportRequest, Source, export_request

FORMS = (
    *(("dense", "int8"), ("dense", "int4"), ("dense", "fp32")),
    *(("mixed", "int8"), ("mixed", "int4"), ("mixed", "fp32")),
    *(("ell", "int8"), ("ell", "fp32")),
)
BACKENDS = ("onnxruntime", "kernel")
USERS, K = 100, 10
WIDTHS, SHARES, DENSITY = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1), (0.4, 0.25, 0.2, 0.1, 0.05), 0.1
"""Widths of mixed rows as shares of the dimensions, and the share of rows of each; nonzero values of sparse rows."""
WARM = 5


def source(layout: str, items: int, d: int, seed: int) -> Source:
    """Return random tables of the kind that a layout is for."""
    rng = np.random.default_rng(seed)
    values, users = (rng.standard_normal((n, d), dtype=np.float32) for n in (items, USERS))
    table: Any = DenseTable(values)
    if layout == "mixed":
        widths = np.maximum(1, (d * np.array(WIDTHS)).astype(int))
        table = PrefixTable.from_dense(values, rng.choice(widths, items, p=SHARES))
    elif layout == "ell":
        mask = rng.random((items, d), dtype=np.float32) < DENSITY
        mask[:, 0] |= ~mask.any(1)
        table = SparseTable.from_dense(values, mask)
    return Source(table, np.arange(items), DenseTable(users), np.arange(USERS), about={})


def measure(bundle: Path, calls: int) -> dict[str, float]:
    """Return the median and the fastest milliseconds of each backend."""
    no_items = np.empty((1, 0), np.int64)

    def caller(backend: Any) -> Callable[[], Any]:
        model = Recommender.load(bundle, verify=False, backend=backend)
        users = iter(range(calls + WARM + 1))
        return lambda: model.recommend_rows({"user": np.array([next(users) % USERS])}, no_items, K)

    def answered(call: Callable[[], Any]) -> None:
        call()

    both = [partial(answered, caller(backend)) for backend in BACKENDS]
    figures = {}
    for backend, times in zip(BACKENDS, time_interleaved(both, calls + WARM), strict=True):
        figures[f"{backend}_ms"] = float(np.median(times[WARM:]))
        figures[f"{backend}_least_ms"] = min(times[WARM:])
    return figures


@experiment("kernel-latency")
@click.option("--package", type=click.Path(exists=True, path_type=Path), help="Folder with the compiled package.")
@click.option("--items", default=1_000_000, show_default=True, help="Number of items.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of a row.")
@click.option("--calls", default=60, show_default=True, help="Calls of each backend.")
@click.option("--seed", default=0, show_default=True, help="Seed of the tables.")
def main(package: Path | None, items: int, dimensions: int, calls: int, seed: int) -> Figures:
    """Measure recommendations by the kernel and by onnxruntime."""
    if package is not None:
        sys.path.insert(0, str(package.resolve()))
    rows: list[dict[str, Any]] = []
    tables: dict[str, Source] = {}
    for layout, precision in FORMS:
        messages.print(f"{layout} {precision}")
        if layout not in tables:
            tables = {layout: source(layout, items, dimensions, seed)}
        with tempfile.TemporaryDirectory(prefix="edgerec-kernel-") as scratch:
            options = ExportRequest(layout, precision, similar=False, verify=False)
            bundle = export_request(tables[layout], Path(scratch, "bundle"), options).folder
            rows.append({"layout": layout, "precision": precision, **measure(bundle, calls)})
    columns = ("bundle", "onnxruntime ms", "kernel ms", "fastest onnxruntime ms", "fastest kernel ms")
    names = ("onnxruntime_ms", "kernel_ms", "onnxruntime_least_ms", "kernel_least_ms")
    cells = [[f"{row['layout']} {row['precision']}", *(f"{row[name]:.2f}" for name in names)] for row in rows]
    print_table(f"{items:,} items, {dimensions} dimensions, one thread", columns, cells)
    return {"rows": rows}


if __name__ == "__main__":
    main()
