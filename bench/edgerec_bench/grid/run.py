"""Run a grid: train, export and measure its cells in processes of their own. After a kill, the same call resumes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgerec.data import Interactions
from edgerec.errors import BenchError, EdgeRecError, reason_of
from edgerec.files import write_json
from edgerec.methods.search.workers import pool
from edgerec.training.fit import SELECTION
from edgerec_bench.grid.plan import Cell, GridPlan
from edgerec_bench.grid.rows import ANSWER, REQUEST, GridFile, Row, load_cell_data, run_cell
from edgerec_bench.record import now
from edgerec_devices import Local
from edgerec_devices.process import signal_name

OnMessage = Callable[[str], None]

_LOG = "log.txt"
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class GridStatus:
    """The progress of a grid.

    Attributes:
        done, failed, total: numbers of cells.
        running: names of the running cells.
        best: name and NDCG@20 of the best bundle so far, or None.
    """

    done: int
    failed: int
    total: int
    running: tuple[str, ...]
    best: tuple[str, float] | None


@dataclass(frozen=True)
class GridResult:
    """The outcome of `run_grid`.

    Attributes:
        rows: rows of the plan's cells, in its order, including those of earlier calls.
        failures: reasons of failed cells by name; the next call tries these again.
        notes: combinations that were left out of the plan, with the reason.
    """

    rows: list[Row]
    failures: dict[str, str]
    notes: list[str]

    @property
    def reasons(self) -> str:
        """The reasons of all failures in one line; cells with the same reason are grouped."""
        cells: dict[str, list[str]] = {}
        for name, reason in self.failures.items():
            cells.setdefault(reason, []).append(name)
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in cells.items())


def run_grid(
    plan: GridPlan,
    out: Path,
    *,
    workers: int | str = 1,
    verify: bool = True,
    bundles: Path | None = None,
    progress: Callable[[GridStatus], None] | None = None,
    on_message: OnMessage | None = None,
) -> GridResult:
    """Run every cell of `plan` that `out` does not hold yet; write each row as soon as its cell ends.

    After an interruption, the same call resumes half-trained cells from their last epoch. With one thread per cell the
    final result file is identical byte for byte, whatever the interruptions and the number of workers.

    Args:
        out: the result file, JSON lines, finally sorted by key; rows of other plans stay in it.
        workers: number of cells that run at a time, or a Ray cluster as 'ray://HOST:PORT' or 'ray' for one on this
            machine, whose nodes get the data once. There an interrupted cell starts again.
        verify: compare every bundle with numpy.
        bundles: a folder in which to store the bundles of the cells that this call runs; None deletes them.
        progress: called many times a second.
        on_message: called with a line of text when data are downloaded.

    Raises:
        BenchError: the plan has no cells; several workers and several threads, or a cluster and `bundles`, are
            combined; `out` is damaged or in use.
        WorkerError: the cluster does not answer, or was lost.
        UnsupportedError, BudgetError, DataError: a cell cannot be trained; raised before any training.
        StorageError: the file system refuses.
    """
    if isinstance(workers, str) and bundles is not None:
        raise BenchError("the nodes of a cluster keep no bundles; leave --bundles out, or give --workers N")
    if workers != 1 and plan.shared.threads > 1:
        raise BenchError(
            f"{workers} workers cannot be combined with {plan.shared.threads} threads per cell; give --workers 1, or "
            "set threads = 1 in the plan"
        )
    cells, notes = plan.cells()
    if not cells:
        why = "; ".join(notes) or "skip leaves out every combination of data, backbone, method, budget and precision"
        raise BenchError(f"the plan has no cells: {why}; give other values, or skip fewer")
    data = _loaded(cells, on_message)
    prints = {name: interactions.fingerprint() for name, interactions in data.items()}
    cells = [replace(cell, data_fingerprint=prints[cell.data]) for cell in cells]
    with GridFile(out) as file:
        scheduler = _Scheduler(cells, file, progress)
        if isinstance(workers, str):
            scheduler.run_on_cluster(workers, data, verify)
        else:
            del data
            scheduler.run(lambda cell: _attempt(cell, plan, file, verify, bundles), workers)
        file.sort()
        _tidy(file, cells)
        return GridResult(scheduler.rows(), scheduler.failures, notes)


def _loaded(cells: Sequence[Cell], on_message: OnMessage | None) -> dict[str, Interactions]:
    """Return the data of the cells by name. They are downloaded here once, not by each cell."""
    return {name: load_cell_data(cell, on_message) for name, cell in {cell.data: cell for cell in cells}.items()}


def _tidy(file: GridFile, cells: Sequence[Cell]) -> None:
    """Delete the work folders of finished cells, and their parent if it is empty."""
    for cell in cells:
        if cell.key in file.rows:
            shutil.rmtree(file.work / cell.folder_name, ignore_errors=True)
    with suppress(OSError):
        file.work.rmdir()


class _Attempt:
    """The process of one cell, started on construction.

    Attributes:
        failure: the reason of a failure, known after the end; None for success.
        answer: 'row' and 'seconds' after a success.
    """

    def __init__(self, cell: Cell, folder: Path, how: dict[str, Any], minutes: float) -> None:
        self.cell = cell
        self.failure: str | None = None
        self.answer: dict[str, Any] = {}
        self._folder, self._minutes, self._started = folder, minutes, time.perf_counter()
        write_json(folder / REQUEST, {"cell": cell.to_json(), **how})
        (folder / ANSWER).unlink(missing_ok=True)
        limits = dict.fromkeys(_THREAD_LIMITS, str(cell.shared.threads))
        with (folder / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgerec_bench.grid", str(folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **limits},
            )

    def ended(self) -> bool:
        """Return True if the process has ended; kill it if it exceeds its time limit."""
        late = time.perf_counter() > self._started + 60 * self._minutes
        if self._process.poll() is None and not late:
            return False
        self.stop()
        self.failure = self._reason(late)
        if self.failure is None:
            self.answer = json.loads((self._folder / ANSWER).read_bytes())
        return True

    def stop(self) -> None:
        """Kill the process if it still runs."""
        with self._process:
            self._process.kill()

    def timing(self) -> dict[str, Any]:
        return _timing(self.cell, self.answer, self.failure, self._started)

    def _reason(self, late: bool) -> str | None:
        status = self._process.returncode
        if status == 0:
            return None
        if late:
            return f"took longer than {self._minutes:g} minutes; the next call resumes from its last epoch"
        if status < 0:
            return f"killed by {signal_name(-status)}; is there enough memory?"
        lines = (self._folder / _LOG).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {status} without a message"


def _attempt(cell: Cell, plan: GridPlan, file: GridFile, verify: bool, bundles: Path | None) -> _Attempt:
    folder = file.work / cell.folder_name
    bundle = folder / "bundle" if bundles is None else bundles / cell.folder_name
    return _Attempt(cell, folder, {"verify": verify, "bundle": str(bundle)}, plan.timeout_minutes)


@dataclass(frozen=True)
class _Outcome:
    """The outcome of a cell on a node of a cluster; the same attributes as those of an ended attempt."""

    cell: Cell
    answer: dict[str, Any]
    failure: str | None
    record: dict[str, Any]

    def timing(self) -> dict[str, Any]:
        return self.record


def _run_on_node(shared: tuple[dict[str, Interactions], bool], cell: Cell) -> _Outcome:
    """Compute a cell in this process of a cluster, in a temporary folder."""
    started, (data, verify) = time.perf_counter(), shared
    answer, failure = dict[str, Any](), None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            answer = run_cell(cell, folder, folder / "bundle", verify=verify, interactions=data[cell.data])
        except EdgeRecError as error:
            failure = reason_of(error)
    return _Outcome(cell, answer, failure, _timing(cell, answer, failure, started))


def _timing(cell: Cell, answer: dict[str, Any], failure: str | None, started: float) -> dict[str, Any]:
    """Return what varies between attempts: seconds, failure, machine and time."""
    return {
        "key": cell.key,
        "failure": failure,
        "seconds": round(time.perf_counter() - started, 3),
        "parts": answer.get("seconds", {}),
        "ended": now(),
        "machine": Local().info(),
    }


class _Scheduler:
    """Runs the missing cells of a result file, several at a time.

    Attributes:
        failures: reasons of failed cells by name.
    """

    def __init__(self, cells: Sequence[Cell], file: GridFile, progress: Callable[[GridStatus], None] | None) -> None:
        self._cells, self._file, self._progress = cells, file, progress
        self.failures: dict[str, str] = {}

    def rows(self) -> list[Row]:
        """Return the rows that exist, in the order of the cells."""
        return [self._file.rows[cell.key] for cell in self._cells if cell.key in self._file.rows]

    def run(self, start: Callable[[Cell], _Attempt], workers: int) -> None:
        """Run the cells that are missing from the file, `workers` at a time; kill them if this is interrupted."""
        waiting = deque(cell for cell in self._cells if cell.key not in self._file.rows)
        running: list[_Attempt] = []
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    running.append(start(waiting.popleft()))
                self._show(running)
                for attempt in [attempt for attempt in running if attempt.ended()]:
                    running.remove(attempt)
                    self._record(attempt)
                time.sleep(_POLL_SECONDS)
            self._show(running)
        finally:
            for attempt in running:
                attempt.stop()

    def run_on_cluster(self, address: str, data: dict[str, Interactions], verify: bool) -> None:
        """Run the cells that are missing from the file on a Ray cluster. Raises WorkerError, MissingExtraError."""
        missing = [cell for cell in self._cells if cell.key not in self._file.rows]
        if missing:
            with pool(address, _run_on_node, (data, verify)) as nodes:
                self._show(())
                for _, outcome in nodes.answers(missing):
                    self._record(outcome)
                    self._show(())

    def _record(self, attempt: _Attempt | _Outcome) -> None:
        self._file.note(attempt.timing())
        if attempt.failure is None:
            self._file.add(attempt.answer["row"])
            _tidy(self._file, [attempt.cell])
        else:
            self.failures[attempt.cell.name] = attempt.failure

    def _show(self, running: Sequence[_Attempt | _Outcome]) -> None:
        if self._progress is not None:
            rows = self.rows()
            scores = [(row["key"].rpartition("@")[0], row["metrics"]["bundle"][SELECTION]) for row in rows]
            best = max(scores, key=lambda score: score[1], default=None)
            names = tuple(attempt.cell.name for attempt in running)
            self._progress(GridStatus(len(rows), len(self.failures), len(self._cells), names, best))
