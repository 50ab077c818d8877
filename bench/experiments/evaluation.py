"""What full ranking of a large data set takes: seconds and peak memory of `edgerec evaluate`, as a user calls it.

usage: python -m bench.experiments.evaluation [--data yelp2018] [--note TEXT] [--out result.json]

One pass of iALS makes a full run and one at a tenth, which also becomes a bundle; all three are measured on the test
part of a random 80/20 split, each by its own answers. Every command has a process of its own, and the figures are those
that the system keeps of it: interpreter, imports and reading the data included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment
from edgerec.budget import format_bytes
from edgerec.console import print_table
from edgerec.data import load_data
from edgerec.errors import BenchError

METRICS = ("ndcg@20", "recall@20", "coverage@20")
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of what `ru_maxrss` counts in."""


def commands(data: str) -> list[tuple[str, ...]]:
    """What is run, in this order, in one folder; without the program's name."""
    ials = ("train", data, "--backbone", "ials", "--epochs", "1", "--threads", "2")
    return [
        (*ials, "--method", "dense", "--out", "full"),
        (*ials, "--method", "popularity", "--budget", "10%", "--out", "tenth"),
        ("export", "tenth", "--precision", "int8", "--out", "tenth.bundle"),
        *(("evaluate", subject, "--data", data) for subject in ("full", "tenth", "tenth.bundle")),
    ]


def measure(data: str) -> list[dict[str, Any]]:
    """One row a command: `command`, `seconds` on the clock, `cpu_seconds`, `peak_bytes` of memory, and of an evaluation
    the `bytes` that were measured and their METRICS.

    Raises BenchError where a command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [_measured(words, Path(folder)) for words in commands(data)]


def _measured(words: Sequence[str], folder: Path) -> dict[str, Any]:
    if not hasattr(os, "wait4"):
        raise BenchError("Windows does not say what a process took; measure evaluations on Linux or macOS")
    started = time.perf_counter()
    with (folder / "out.json").open("w+b") as out, (folder / "log.txt").open("w+b") as log:
        program = [sys.executable, "-m", "edgerec.cli", *words, "--json"]
        process = subprocess.Popen(program, cwd=folder, stdout=out, stderr=log, env=_environment())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    command = " ".join(["edgerec", *words])
    if process.returncode:
        *_, reason = (folder / "log.txt").read_text().splitlines() or [f"status {process.returncode}"]
        raise BenchError(f"'{command}' failed: {reason}")
    row = {
        "command": command,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_bytes": usage.ru_maxrss * RSS_UNIT,
    }
    if words[0] != "evaluate":
        return row
    (told,) = json.loads((folder / "out.json").read_bytes())
    return row | {name: told[name] for name in ("bytes", *METRICS)}


def _environment() -> dict[str, str]:
    """This process's, with the data's folder as it is from here."""
    named = os.environ.get("EDGEREC_DATA")
    return {**os.environ, "EDGEREC_DATA": str(Path(named).resolve())} if named else dict(os.environ)


def _cells(row: dict[str, Any]) -> list[Any]:
    times = [f"{row[name]:.1f}" for name in ("seconds", "cpu_seconds")]
    return [row["command"], *times, format_bytes(row["peak_bytes"]), *map(row.get, METRICS)]


@experiment("evaluation")
@click.option("--data", default="yelp2018", show_default=True, help="A named set.")
def main(data: str) -> Figures:
    """Run the commands and tell what each took."""
    rows = measure(data)
    print_table(data, ("command", "seconds", "cpu seconds", "peak", *METRICS), map(_cells, rows))
    interactions = load_data(data)
    return {
        "data_fingerprint": interactions.fingerprint(),
        "shape": interactions.shape,
        "interactions": len(interactions),
        "rows": rows,
    }


if __name__ == "__main__":
    main()
