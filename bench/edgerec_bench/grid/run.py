"""Grids: cells trained, exported and measured, each in a process of its own; killed, the same call goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgerec.errors import BenchError
from edgerec.files import write_json
from edgerec.training.fit import SELECTION
from edgerec_bench.grid.plan import Cell, Plan
from edgerec_bench.grid.rows import ANSWER, ASKED, GridFile, Row, load_cell_data
from edgerec_bench.record import now
from edgerec_devices import Local
from edgerec_devices.process import signal_name

Tell = Callable[[str], None]

_LOG = "log.txt"
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Standing:
    """Where a grid stands, for a progress bar.

    Attributes:
        done, failed, total: cells.
        running: names of the cells that are being made.
        best: name and NDCG@20 of the best bundle so far, or None.
    """

    done: int
    failed: int
    total: int
    running: tuple[str, ...]
    best: tuple[str, float] | None


@dataclass(frozen=True)
class Grid:
    """What a call of `run_grid` leaves.

    Attributes:
        rows: of the plan's cells, in its order, those of earlier calls too.
        failures: reasons by the names of the cells; the next call tries these again.
        notes: what was left out of the plan, and why.
    """

    rows: list[Row]
    failures: dict[str, str]
    notes: list[str]

    @property
    def reasons(self) -> str:
        """Why cells failed, in one line; a reason that several have is given once."""
        cells: dict[str, list[str]] = {}
        for name, reason in self.failures.items():
            cells.setdefault(reason, []).append(name)
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in cells.items())


def run_grid(
    plan: Plan,
    out: Path,
    *,
    workers: int = 1,
    verify: bool = True,
    bundles: Path | None = None,
    progress: Callable[[Standing], None] | None = None,
    tell: Tell | None = None,
) -> Grid:
    """Make every cell of `plan` that `out` does not hold yet; each row is on disk as its cell ends.

    Stopped at any point, the same call goes on, half-trained cells from their last epoch. On one thread a cell the
    result file is in the end the same to the byte, stopped or not and whatever the number of workers.

    Args:
        out: the result file, JSON lines, in the end sorted by key; rows of other plans in it stay.
        workers: cells at a time.
        verify: compare every bundle with numpy.
        bundles: a folder that keeps the bundles of the cells that this call makes; without one they are deleted.
        progress: called many times a second.
        tell: called with a line of text where data are fetched.

    Raises:
        BenchError: no cell is left to make; threads and workers do not go together; `out` is damaged or in use.
        UnsupportedError, BudgetError, DataError: a cell that could not be trained; before any is.
        StorageError: the file system refuses.
    """
    if workers > 1 and plan.shared.threads > 1:
        raise BenchError(
            f"{workers} workers and {plan.shared.threads} threads a cell do not go together: more threads than one "
            "are for --workers 1"
        )
    cells, notes = plan.cells()
    if not cells:
        why = "; ".join(notes) or "skip leaves out every combination of data, backbone, method, budget and precision"
        raise BenchError(f"there is no cell to make: {why}; give other values, or skip fewer")
    cells = _identified(cells, tell)
    with GridFile(out) as file:
        filling = _Filling(cells, file, progress)
        filling.run(lambda cell: _attempt(cell, plan, file, verify, bundles), workers)
        file.sort()
        _tidy(file, cells)
        return Grid(filling.rows(), filling.failures, notes)


def _identified(cells: Sequence[Cell], tell: Tell | None) -> list[Cell]:
    """The cells with what their data hold now; data are fetched here, once, and not by each cell."""
    whose = {cell.data: cell for cell in cells}
    prints = {data: load_cell_data(cell, tell).fingerprint() for data, cell in whose.items()}
    return [replace(cell, data_fingerprint=prints[cell.data]) for cell in cells]


def _tidy(file: GridFile, cells: Sequence[Cell]) -> None:
    """Delete what the finished cells left in the work folder, and the folder where nothing else is in it."""
    for cell in cells:
        if cell.key in file.rows:
            shutil.rmtree(file.work / cell.folder_name, ignore_errors=True)
    with suppress(OSError):
        file.work.rmdir()


class _Attempt:
    """One cell in a process of its own, from its start.

    Attributes:
        failure: after the end, the reason or None.
        answer: after an end without failure, `row` and `seconds`.
    """

    def __init__(self, cell: Cell, folder: Path, how: dict[str, Any], minutes: float) -> None:
        self.cell = cell
        self.failure: str | None = None
        self.answer: dict[str, Any] = {}
        self._folder, self._minutes, self._started = folder, minutes, time.perf_counter()
        write_json(folder / ASKED, {"cell": cell.to_json(), **how})
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
        """Whether the process is over; one that is late is killed."""
        late = time.perf_counter() > self._started + 60 * self._minutes
        if self._process.poll() is None and not late:
            return False
        self.stop()
        self.failure = self._reason(late)
        if self.failure is None:
            self.answer = json.loads((self._folder / ANSWER).read_bytes())
        return True

    def stop(self) -> None:
        """Kill it, if it still runs."""
        with self._process:
            self._process.kill()

    def timing(self) -> dict[str, Any]:
        """What varies: seconds, whether it went well, the machine and the time."""
        return {
            "key": self.cell.key,
            "failure": self.failure,
            "seconds": round(time.perf_counter() - self._started, 3),
            "parts": self.answer.get("seconds", {}),
            "ended": now(),
            "machine": Local().info(),
        }

    def _reason(self, late: bool) -> str | None:
        status = self._process.returncode
        if status == 0:
            return None
        if late:
            return f"took longer than {self._minutes:g} minutes; the next call goes on from its last epoch"
        if status < 0:
            return f"killed by {signal_name(-status)}; is there enough memory?"
        lines = (self._folder / _LOG).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"status {status}, and it said nothing"


def _attempt(cell: Cell, plan: Plan, file: GridFile, verify: bool, bundles: Path | None) -> _Attempt:
    folder = file.work / cell.folder_name
    bundle = folder / "bundle" if bundles is None else bundles / cell.folder_name
    return _Attempt(cell, folder, {"verify": verify, "bundle": str(bundle)}, plan.timeout_minutes)


class _Filling:
    """A result file that is being filled.

    Attributes:
        failures: reasons by the names of the cells.
    """

    def __init__(self, cells: Sequence[Cell], file: GridFile, progress: Callable[[Standing], None] | None) -> None:
        self._cells, self._file, self._progress = cells, file, progress
        self.failures: dict[str, str] = {}

    def rows(self) -> list[Row]:
        """The rows that there are, in the order of the cells."""
        return [self._file.rows[cell.key] for cell in self._cells if cell.key in self._file.rows]

    def run(self, start: Callable[[Cell], _Attempt], workers: int) -> None:
        """Make the cells that the file lacks, so many at a time; what runs when this is interrupted is killed."""
        waiting = deque(cell for cell in self._cells if cell.key not in self._file.rows)
        running: list[_Attempt] = []
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    running.append(start(waiting.popleft()))
                self._show(running)
                for attempt in [attempt for attempt in running if attempt.ended()]:
                    running.remove(attempt)
                    self._keep(attempt)
                time.sleep(_POLL_SECONDS)
            self._show(running)
        finally:
            for attempt in running:
                attempt.stop()

    def _keep(self, attempt: _Attempt) -> None:
        self._file.note(attempt.timing())
        if attempt.failure is None:
            self._file.add(attempt.answer["row"])
            _tidy(self._file, [attempt.cell])
        else:
            self.failures[attempt.cell.name] = attempt.failure

    def _show(self, running: Sequence[_Attempt]) -> None:
        if self._progress is not None:
            rows = self.rows()
            scores = [(row["key"].rpartition("@")[0], row["metrics"]["bundle"][SELECTION]) for row in rows]
            best = max(scores, key=lambda score: score[1], default=None)
            names = tuple(attempt.cell.name for attempt in running)
            self._progress(Standing(len(rows), len(self.failures), len(self._cells), names, best))
