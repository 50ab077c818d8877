"""From nothing to the first answer: what an app waits for beyond onnxruntime's own import, and what sha256 is of it.

usage: python -m bench.experiments.load [--megabytes 10] [--processes 15] [--out result.json]

Bundles of about so many megabytes, with users. Each figure is the median over fresh processes, which take turns with
and without verification; files are in the page cache. numpy and onnxruntime are imported first and timed apart; then
come edgerec's import, the bundle's opening, and one `recommend`.
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
"""Items that make about 10 MB."""
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
"""What a fresh process does; it prints the milliseconds of each step."""


def measure(bundle: Path, user: int, processes: int) -> dict[str, Any]:
    """Median milliseconds of each step, and their sum beyond onnxruntime's import, with verification and without."""
    taken: dict[str, list[list[float]]] = {"verify": [], "not": []}
    for number in range(processes + 1):
        for how, times in taken.items():
            command = [sys.executable, "-c", SCRIPT, str(bundle), how, str(user)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            if number:  # the first ones bring files into the page cache
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
    """A row as the documentation shows it."""
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
@click.option("--megabytes", default=10.0, show_default=True)
@click.option("--processes", default=15, show_default=True)
def main(megabytes: float, processes: int) -> Figures:
    """Time fresh processes."""
    rows = []
    for layout, precision, items in FORMS:
        messages.print(f"{layout} {precision}")
        with tempfile.TemporaryDirectory(prefix="edgerec-load-") as scratch:
            source = next(versions(round(items * megabytes / 10), USERS))
            bundle = export(source, Path(scratch) / "bundle", layout=layout, precision=precision, verify=False).folder
            figures = measure(bundle, int(np.asarray(source.user_ids)[0]), processes)
            rows.append({"layout": layout, "precision": precision, "bytes": metadata(bundle).bytes, **figures})
    print_table("from nothing to the first answer", COLUMNS, map(cells, rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
