"""Time and peak memory of `edgerec evaluate`, the full ranking of a large data set, as a user calls it.

usage: python -m bench.experiments.evaluation [--data yelp2018] [--note TEXT] [--out result.json]

One epoch of iALS trains a full run and one at a budget of 10 %, which is also exported; all three are evaluated on the
test part of a random 80/20 split, each by its own answers. Every command has a process of its own, and the figures are
the system's accounting of it, including the interpreter, imports and reading the data.
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
"""Bytes per unit of `ru_maxrss`."""


def commands(data: str) -> list[tuple[str, ...]]:
    """Return the arguments of the `edgerec` commands to run, in this order, in one folder."""
    ials = ("train", data, "--backbone", "ials", "--epochs", "1", "--threads", "2")
    return [
        (*ials, "--method", "dense", "--out", "full"),
        (*ials, "--method", "popularity", "--budget", "10%", "--out", "tenth"),
        ("export", "tenth", "--precision", "int8", "--out", "tenth.bundle"),
        *(("evaluate", subject, "--data", data) for subject in ("full", "tenth", "tenth.bundle")),
    ]


def measure(data: str) -> list[dict[str, Any]]:
    """Run the commands; return a row for each with `command`, elapsed `seconds`, `cpu_seconds` and `peak_bytes`.

    Rows of evaluations also have the `bytes` of what was evaluated, and METRICS. Raises BenchError if a command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [_measured(words, Path(folder)) for words in commands(data)]


def _measured(words: Sequence[str], folder: Path) -> dict[str, Any]:
    if not hasattr(os, "wait4"):
        raise BenchError("Windows does not report the resources of a process; measure evaluations on Linux or macOS")
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
    (answer,) = json.loads((folder / "out.json").read_bytes())
    return row | {name: answer[name] for name in ("bytes", *METRICS)}


def _environment() -> dict[str, str]:
    """Return this process's environment, with an absolute path of the data folder."""
    named = os.environ.get("EDGEREC_DATA")
    return {**os.environ, "EDGEREC_DATA": str(Path(named).resolve())} if named else dict(os.environ)


def _cells(row: dict[str, Any]) -> list[Any]:
    times = [f"{row[name]:.1f}" for name in ("seconds", "cpu_seconds")]
    return [row["command"], *times, format_bytes(row["peak_bytes"]), *map(row.get, METRICS)]


@experiment("evaluation")
@click.option("--data", default="yelp2018", show_default=True, help="Named data set.")
def main(data: str) -> Figures:
    """Measure the time and the peak memory of training, export and evaluation commands."""
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
