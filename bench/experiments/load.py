"""Startup time of an app: imports, opening a bundle, and the first answer, with the share of sha256 verification.

usage: python -m bench.experiments.load [--megabytes 10] [--processes 15] [--out result.json]

Bundles have users and about the given number of megabytes. Each figure is the median over fresh processes, interleaved
with and without verification; files are in the page cache. numpy and onnxruntime are imported first and timed
separately; then edgerec is imported, the bundle is opened, and `recommend` is called once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from bench.experiments.patch_tables import versions
from edgerec.budget import format_bytes
from edgerec.console import messages, print_table
from edgerec.runtime import metadata
from edgerec_export import export

FORMS = (("dense", "int8", 145_000), ("mixed", "int8", 700_000))
"""Layouts and precisions, with the number of items of about 10 MB."""
USERS = 1000
STEPS = ("onnxruntime_ms", "import_ms", "open_ms", "first_answer_ms")
SCRIPT = """
import json, os, sys, time
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
times = [time.perf_counter()]
import numpy, onnxruntime
times.append(time.perf_counter())
from edgerec import Recommender
Recommender
times.append(time.perf_counter())
model = Recommender.load(sys.argv[1], verify=sys.argv[2] == "verify")
times.append(time.perf_counter())
model.recommend(int(sys.argv[3]), 10)
times.append(time.perf_counter())
print(json.dumps([1e3 * (b - a) for a, b in zip(times, times[1:])]))
"""
"""The program of a fresh process, which prints the milliseconds of each step."""


def measure(bundle: Path, user: int, processes: int) -> dict[str, Any]:
    """Return the median milliseconds of each step, their sum after onnxruntime's import, and the part of sha256."""
    taken: dict[str, list[list[float]]] = {"verify": [], "not": []}
    for number in range(processes + 1):
        for how, times in taken.items():
            command = [sys.executable, "-c", SCRIPT, str(bundle), how, str(user)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            if number:  # the first processes read the files into the page cache
                times.append(json.loads(done.stdout))
    steps = {name: median(times[at] for times in taken["verify"]) for at, name in enumerate(STEPS)}
    opening = {how: median(times[2] for times in all_times) for how, all_times in taken.items()}
    beyond = sorted(sum(times[1:]) for times in taken["verify"])
    return {
        **steps,
        "beyond_onnxruntime_ms": median(beyond),
        "beyond_onnxruntime_most_ms": beyond[-1],
        "sha256_ms": opening["verify"] - opening["not"],
    }


def cells(row: dict[str, Any]) -> list[str]:
    """Format a row as table cells."""
    names = ("import_ms", "open_ms", "sha256_ms", "first_answer_ms", "beyond_onnxruntime_ms", "onnxruntime_ms")
    return [f"{row['layout']} {row['precision']}", format_bytes(row["bytes"]), *(f"{row[name]:.1f}" for name in names)]


COLUMNS = (
    "bundle",
    "bytes",
    "import ms",
    "open ms",
    "of it sha256",
    "first answer ms",
    "together",
    "onnxruntime's import",
)


@experiment("load")
@click.option("--megabytes", default=10.0, show_default=True, help="Size of the bundles.")
@click.option("--processes", default=15, show_default=True, help="Fresh processes of each bundle.")
def main(megabytes: float, processes: int) -> Figures:
    """Measure the startup time of an app in fresh processes."""
    rows = []
    for layout, precision, items in FORMS:
        messages.print(f"{layout} {precision}")
        with tempfile.TemporaryDirectory(prefix="edgerec-load-") as scratch:
            source = next(versions(round(items * megabytes / 10), USERS))
            bundle = export(source, Path(scratch) / "bundle", layout=layout, precision=precision, verify=False).folder
            figures = measure(bundle, int(np.asarray(source.user_ids)[0]), processes)
            rows.append({"layout": layout, "precision": precision, "bytes": metadata(bundle).bytes, **figures})
    print_table("startup until the first answer", COLUMNS, map(cells, rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
