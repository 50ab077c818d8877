"""Patches between the segments of a stream: what devices get where a recommender follows its users.

usage: python -m bench.experiments.patch_stream [--data ml-1m] [--segments days:14] [--budget 10%] [--last 12]
           [--work FOLDER] [--out result.json]

`edgerec stream` with iALS, which solves the rows again that were active (`--refit active`); each segment is exported as
mixed int8, `--like` the one before, and `edgerec diff` makes the patch, which is applied to a copy and compared. Told
are the last segments, of a catalogue that has its size.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.experiments.harness import Figures, experiment
from edgerec.budget import format_bytes
from edgerec.console import messages, print_table
from edgerec.errors import BenchError
from edgerec.training import Run
from edgerec_export import ExportRequest, diff, export_request, from_run

COLUMNS = ("segment", "items touched", "users touched", "whole", "patch", "of the whole")


def follow(data: str, segments: str, budget: str, folder: Path) -> None:
    """Follow the data, or go on where that was stopped. Raises BenchError."""
    options = ["--method", "popularity", "--budget", budget, "--segments", segments, "--refit", "active"]
    command = ["stream", data, *options, "--precision", "int8", "--out", str(folder)]
    command += ["--resume"] * folder.exists()
    if subprocess.run([sys.executable, "-m", "edgerec.cli", *command], check=False).returncode:
        raise BenchError(f"the stream was not followed to its end: edgerec {' '.join(command)}")


def patches(stream: Path, last: int, scratch: Path) -> list[dict[str, Any]]:
    """One row a segment, of the last ones: what its patch changes, and its bytes."""
    rows: list[dict[str, Any]] = []
    before: Path | None = None
    runs = sorted(stream.glob("segment-*"), key=lambda run: int(run.name.removeprefix("segment-")))
    for run in runs[-last - 1 :]:
        options = (
            ExportRequest("mixed", "int8", verify=False) if before is None else ExportRequest(like=before, verify=False)
        )
        done = export_request(from_run(Run.load(run)), scratch / f"{run.name}.bundle", options)
        if before is not None:
            patch = diff(before, done.folder, scratch / f"{run.name}.patch")
            changes = {side: vars(one) for side, one in patch.changes.items()}
            source = done.chosen.draft.source
            counts = {"item": source.items.n_rows, "user": 0 if source.users is None else source.users.n_rows}
            rows.append(
                {
                    "segment": run.name,
                    "changes": changes,
                    "touched": {
                        side: (one["inserted"] + one["moved"] + one["changed"]) / counts[side]
                        for side, one in changes.items()
                    },
                    "full_bytes": patch.full_bytes,
                    "patch_bytes": patch.nbytes,
                }
            )
        before = done.folder
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    """A row of `patches` as the documentation shows it."""
    return [
        row["segment"].removeprefix("segment-"),
        *(f"{row['touched'][side]:.1%}" for side in ("item", "user")),
        format_bytes(row["full_bytes"]),
        format_bytes(row["patch_bytes"]),
        f"{row['patch_bytes'] / row['full_bytes']:.1%}",
    ]


@experiment("patch-stream")
@click.option("--data", default="ml-1m", show_default=True)
@click.option("--segments", default="days:14", show_default=True)
@click.option("--budget", default="10%", show_default=True)
@click.option("--last", default=12, show_default=True, help="Segments that are told.")
@click.option("--work", type=click.Path(path_type=Path), help="Keep the stream here, and go on with the one there is.")
def main(data: str, segments: str, budget: str, last: int, work: Path | None) -> Figures:
    """Follow, export, diff."""
    with tempfile.TemporaryDirectory(prefix="edgerec-patch-stream-") as scratch:
        stream = work or Path(scratch) / "stream"
        follow(data, segments, budget, stream)
        rows = patches(stream, last, Path(scratch))
    print_table(f"{data}, {segments}", COLUMNS, map(cells, rows))
    messages.print(f"median {median(row['patch_bytes'] / row['full_bytes'] for row in rows):.1%} of the whole")
    return {"rows": rows}


if __name__ == "__main__":
    main()
