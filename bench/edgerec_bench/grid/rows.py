"""Rows of a grid: the process that computes one, and the result file, JSON lines without incomplete ones.

usage: python -m edgerec_bench.grid FOLDER      (reads FOLDER/cell.json, writes FOLDER/row.json; started by run_grid)

Next to FILE.jsonl are FILE.timings.jsonl, with the seconds and the machine of every attempt, and FILE.work, with
half-trained cells. Everything that varies between calls is in the timings, so that the results are reproducible.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import IO, Any, NotRequired, TypedDict

from edgerec.api import train_request
from edgerec.data import Interactions, load_data
from edgerec.errors import BenchError, DataError, EdgeRecError, RunError, reason_of
from edgerec.files import (
    append_json,
    drop_torn_line,
    read_bytes,
    storage_failure,
    to_json,
    whole_lines,
    write_bytes,
    write_json,
)
from edgerec.json_records import parse_json, record
from edgerec.measure import evaluate
from edgerec.outputs import Output, lines_of
from edgerec.runtime import Recommender
from edgerec.training import Run
from edgerec_bench.grid.plan import Cell, Shared
from edgerec_export import export_request, from_run

FORMAT, VERSION = "edgerec.grid", 1
REQUEST, ANSWER = "cell.json", "row.json"

_ROW_BEGINS = to_json({"format": FORMAT}, compact=True).rstrip(b"}\n")
_TIMING_BEGINS = b'{"key":'

Row = dict[str, Any]
"""The outcome of one cell: format, version, key, cell, chosen_settings, epochs, metrics ('validation', 'run', 'bundle',
and those of the untruncated tables if the run has them), table_bytes, bundle_bytes, layout of the bundle, versions."""
UNTRUNCATED = "uncut"
"""The key, in metrics of runs and rows, of the test metrics of the tables before truncation."""

_PACKAGES = ("edgerec", "numpy", "scipy", "torch", "onnx", "onnxruntime")


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a result file, without an incomplete last line.

    Raises:
        BenchError: the file is damaged, or was written by a newer edgerec; the message names the line.
        StorageError: the file cannot be read.
    """
    lines = whole_lines(read_bytes(path)).splitlines()
    return [_parsed(path, number, line) for number, line in enumerate(lines, 1)]


def grid_outputs(path: Path) -> list[Output]:
    """Return the outputs of a grid: the result file, the timings and the folder of half-trained cells."""
    file = GridFile(path)
    return [
        Output(file.path, ours=lines_of(_ROW_BEGINS)),
        Output(file.timings, ours=lines_of(_TIMING_BEGINS)),
        Output(file.work, folder=True, shared=True),
    ]


class GridFile:
    """The results of one grid, open for writing.

    Attributes:
        path: the result file.
        timings: the file with every attempt.
        work: the folder of half-trained cells.
        rows: rows by key.
    """

    def __init__(self, path: Path) -> None:
        stem = path.name.removesuffix(".jsonl")
        self.path, self.work = path, path.with_name(f"{stem}.work")
        self.timings = path.with_name(f"{stem}.timings.jsonl")
        self.rows: dict[str, Row] = {}

    def __enter__(self) -> GridFile:
        """Lock the file and drop an incomplete last line. Raises as `read_rows` does; BenchError if it is in use."""
        self._held = self._lock()
        try:
            self.rows = {row["key"]: row for row in read_rows(self.path)} if self.path.exists() else {}
            _drop_torn_line(self.path, _ROW_BEGINS)
            _drop_torn_line(self.timings, _TIMING_BEGINS)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def add(self, row: Row) -> None:
        """Append a row; it is on disk when this returns. Raises StorageError."""
        append_json(self.path, row)
        self.rows[row["key"]] = row

    def note(self, attempt: dict[str, Any]) -> None:
        """Append an attempt to the timings. Raises StorageError."""
        append_json(self.timings, attempt)

    def sort(self) -> None:
        """Sort the rows of the file by key. Raises StorageError."""
        ordered = [self.rows[key] for key in sorted(self.rows)]
        if ordered:
            write_bytes(self.path, b"".join(to_json(row, compact=True) for row in ordered))

    def _lock(self) -> IO[bytes]:
        """Lock the timings: unlike the results they are never replaced, and the lock ends with its process."""
        try:
            self.timings.parent.mkdir(parents=True, exist_ok=True)
            held = self.timings.open("ab")
            if sys.platform != "win32":
                import fcntl

                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise BenchError(f"another grid is writing {self.path}; wait for it, or choose another --out") from None
        except OSError as error:
            storage_failure(self.timings, error, "write")
        return held


def _parsed(path: Path, number: int, line: bytes) -> Row:
    try:
        row = parse_json(line)
        if not isinstance(row, dict) or row.get("format") != FORMAT:
            raise BenchError(f"{path} holds no result of 'edgerec grid' in line {number}; choose another --out")
        if type(version := row.get("version")) is int and version > VERSION:
            raise BenchError(f"{path} was written by a newer EdgeRec; upgrade: pip install -U 'edgerec[all]'")
        record(_Row, row, "the row")
    except ValueError as error:
        raise BenchError(f"{path} is damaged in line {number} ({error}); delete that line") from error
    return row


_Metrics = TypedDict("_Metrics", {"ndcg@20": float, "recall@20": float, "coverage@20": float})


class _CellMetrics(TypedDict):
    """The metrics of a cell, by what was measured."""

    validation: dict[str, float] | None
    run: _Metrics
    bundle: _Metrics
    uncut: NotRequired[dict[str, float]]  # the key on disk


class _Row(TypedDict):
    """The fields of a row that are read back."""

    version: int
    key: str
    cell: Cell
    chosen_settings: dict[str, Any]
    epochs: int
    metrics: _CellMetrics
    table_bytes: int
    bundle_bytes: int


def _drop_torn_line(path: Path, begins: bytes) -> None:
    """Drop an incomplete last line. Raises BenchError if the file is not ours, StorageError."""
    if not path.exists():
        return
    content = read_bytes(path)
    torn = content[len(whole_lines(content)) :]
    if not lines_of(begins)(path) or not (torn.startswith(begins) or begins.startswith(torn)):
        raise BenchError(f"{path} was not written by 'edgerec grid'; choose another --out")
    drop_torn_line(path)


def run_cell(
    cell: Cell, folder: Path, bundle: Path, *, verify: bool, interactions: Interactions | None = None
) -> dict[str, Any]:
    """Train, export and evaluate one cell in this process; return its 'row' and the 'seconds' of each part.

    Args:
        folder: folder of the run, and of its checkpoint during training.
        bundle: the folder to export to.
        interactions: the cell's data; None to load them.

    Raises as `train`, `export` and `evaluate` do; DataError if the data changed after the cell was planned.
    """
    interactions = load_cell_data(cell) if interactions is None else interactions
    if interactions.fingerprint() != cell.data_fingerprint:
        raise DataError(f"{cell.data} has changed since the grid was started; start it again")
    marks = [time.perf_counter()]
    run = _trained(interactions, cell, folder / "run")
    marks.append(time.perf_counter())
    exported = export_request(from_run(run), bundle, cell.options(run.nbytes, verify=verify))
    marks.append(time.perf_counter())
    model = Recommender.load(bundle, threads=cell.shared.threads)
    answered = evaluate(model, interactions, threads=cell.shared.threads)
    marks.append(time.perf_counter())
    row = {
        "format": FORMAT,
        "version": VERSION,
        "key": cell.key,
        "cell": cell.to_json(),
        "chosen_settings": run.config["chosen_settings"],
        "epochs": run.config["epochs"],
        "metrics": {
            "validation": run.metrics.get("validation"),
            "run": run.metrics["test"],
            "bundle": answered,
            **({UNTRUNCATED: run.metrics[UNTRUNCATED]} if UNTRUNCATED in run.metrics else {}),
        },
        "table_bytes": run.nbytes,
        "bundle_bytes": exported.nbytes,
        "layout": model.manifest.layout,
        "versions": {name: _version(name) for name in _PACKAGES},
    }
    parts = zip(("train", "export", "evaluate"), marks, marks[1:], strict=False)
    return {"row": row, "seconds": {name: round(end - begin, 3) for name, begin, end in parts}}


def _trained(interactions: Interactions, cell: Cell, folder: Path) -> Run:
    try:
        return train_request(interactions, cell.request(), out=folder, resume=True)
    except RunError:
        # Half trained by another version of edgerec, or damaged: the folder belongs to the grid and may be replaced.
        return train_request(interactions, cell.request(), out=folder, overwrite=True)


def load_cell_data(cell: Cell, on_message: Callable[[str], None] | None = None) -> Interactions:
    """Load the interactions of a cell; call `on_message` for downloads. Raises as `load_data` does."""
    shared = cell.shared
    interactions = load_data(cell.data, encoding=shared.encoding, progress=on_message)
    if shared.min_user > 1 or shared.min_item > 1:
        interactions = interactions.filter(min_user=shared.min_user, min_item=shared.min_item)
    return interactions


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _end_with_the_grid() -> None:
    """Exit when the grid's process ends: it alone holds the other end of the pipe that is our standard input."""
    os.read(0, 1)
    os._exit(1)


def main(folder: Path) -> int:
    """Compute the cell described in the folder. Returns the exit status; the last line of the log is the reason."""
    threading.Thread(target=_end_with_the_grid, daemon=True).start()
    request = json.loads((folder / REQUEST).read_bytes())
    try:
        cell = Cell(**{**request["cell"], "shared": Shared(**request["cell"]["shared"])})
        write_json(folder / ANSWER, run_cell(cell, folder, Path(request["bundle"]), verify=request["verify"]))
    except EdgeRecError as error:
        sys.stderr.write(f"{reason_of(error)}\n")
        return 2
    return 0
