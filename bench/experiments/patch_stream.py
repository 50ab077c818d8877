"""Size of patches between the segments of a stream, as sent to devices.

usage: python -m bench.experiments.patch_stream [--data ml-1m] [--segments days:14] [--budget 10%] [--last 12]
           [--work FOLDER] [--out result.json]

`edgerec stream` trains with iALS, which solves the active rows again (`--refit active`). Each segment is exported as
mixed int8, `--like` the one before, and `edgerec diff` makes the patch, which is verified on a copy. The figures are of
the last segments, when the catalogue has its final size.
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

COLUMNS = ("segment", "items changed", "users changed", "whole", "patch", "of the whole")


def train(data: str, segments: str, budget: str, folder: Path) -> None:
    """Train the stream, or resume it. Raises BenchError."""
    options = ["--method", "popularity", "--budget", budget, "--segments", segments, "--refit", "active"]
    command = ["stream", data, *options, "--precision", "int8", "--out", str(folder)]
    command += ["--resume"] * folder.exists()
    if subprocess.run([sys.executable, "-m", "edgerec.cli", *command], check=False).returncode:
        raise BenchError(f"the stream failed: edgerec {' '.join(command)}")


def patches(stream: Path, last: int, scratch: Path) -> list[dict[str, Any]]:
    """Export the last segments and make the patches between them; return a row for each with changes and bytes."""
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
    """Format a row of `patches` as table cells."""
    return [
        row["segment"].removeprefix("segment-"),
        *(f"{row['touched'][side]:.1%}" for side in ("item", "user")),
        format_bytes(row["full_bytes"]),
        format_bytes(row["patch_bytes"]),
        f"{row['patch_bytes'] / row['full_bytes']:.1%}",
    ]


@experiment("patch-stream")
@click.option("--data", default="ml-1m", show_default=True, help="Data set.")
@click.option("--segments", default="days:14", show_default=True, help="Segments, as in 'edgerec stream'.")
@click.option("--budget", default="10%", show_default=True, help="Size limit of the tables.")
@click.option("--last", default=12, show_default=True, help="Number of last segments to report.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder in which to store the stream and resume it.")
def main(data: str, segments: str, budget: str, last: int, work: Path | None) -> Figures:
    """Train a stream, export its segments and measure the patches between them."""
    with tempfile.TemporaryDirectory(prefix="edgerec-patch-stream-") as scratch:
        stream = work or Path(scratch) / "stream"
        train(data, segments, budget, stream)
        rows = patches(stream, last, Path(scratch))
    print_table(f"{data}, {segments}", COLUMNS, map(cells, rows))
    messages.print(f"median {median(row['patch_bytes'] / row['full_bytes'] for row in rows):.1%} of the whole")
    return {"rows": rows}


if __name__ == "__main__":
    main()
