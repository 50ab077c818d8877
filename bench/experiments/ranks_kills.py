"""A training of several ranks that loses one again and again gives the run of one that lost none.

usage: python -m bench.experiments.ranks_kills [--data ml-100k] [--kills 10] [--out result.json]

`edgerec train --processes N` runs once to its end. Then a rank is killed by SIGKILL at random moments after the ranks
were started, uniform in what the first call took from there, each time in the folder that the call before left behind,
and at last it runs to its end. Where a call ends before its moment, the next one begins another run. Recorded are how
long after the kill the command ended, its message, and the difference of all scores, relative to the largest.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from edgerec.console import messages
from edgerec.errors import BenchError
from edgerec.extras import require
from edgerec.training import Run


@experiment("ranks_kills")
@click.option("--data", default="ml-100k", show_default=True, help="Data set.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(2), help="Number of ranks.")
@click.option("--epochs", default=40, show_default=True, type=click.IntRange(1), help="Epochs, none of them skipped.")
@click.option("--kills", default=10, show_default=True, type=click.IntRange(1), help="Number of kills.")
@click.option("--seed", default=0, show_default=True, help="Seed of the ranks and moments.")
def main(data: str, processes: int, epochs: int, kills: int, seed: int) -> Figures:
    """Kill ranks at random moments, and compare the run with that of one call."""
    command = [sys.executable, "-m", "edgerec", "train", data, "--processes", str(processes), "--epochs", str(epochs)]
    command += ["--patience", str(epochs), "--set", "alpha=3", "--set", "reg=20", "--resume", "--out"]
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        seconds = _Job([*command, str(whole)]).finished()
        found, faults, rng, runs = list[dict[str, Any]](), list[float](), random.Random(seed), 1
        while len(found) < kills:
            kill = _Job([*command, str(killed)]).killed(rng.randrange(processes), rng.uniform(0, seconds))
            if kill is None:  # what was left took less; the next kills are of another run
                faults, runs = [*faults, _difference(whole, killed)], runs + 1
                shutil.rmtree(killed)
            else:
                found.append(kill)
                messages.print(str(kill), markup=False)
        _Job([*command, str(killed)]).finished()
        faults.append(_difference(whole, killed))
    slowest = max(kill["ended_after"] for kill in found)
    return {"seconds": round(seconds, 1), "kills": found, "slowest_end": slowest, "runs": runs, "differences": faults}


class _Job:
    """A command that starts ranks."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finished(self) -> float:
        """Wait for the end; return the seconds from the start of the ranks. Raises BenchError if it fails."""
        self._ranks()
        started = time.monotonic()
        _, errors = self._process.communicate()
        if self._process.returncode:
            raise BenchError(f"the training failed: {errors.strip()}")
        return time.monotonic() - started

    def killed(self, rank: int, moment: float) -> dict[str, Any] | None:
        """Kill a rank some seconds after the ranks were started; return None if the command ended before."""
        ranks = self._ranks()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(moment)
        if self._process.poll() is not None or rank not in ranks or not ranks[rank].is_running():
            self.finished()
            return None
        ranks[rank].kill()
        at = time.monotonic()
        _, errors = self._process.communicate()
        if self._process.returncode == 0:  # the rank had done its work
            return None
        return {
            "rank": rank,
            "after": round(moment, 2),
            "ended_after": round(time.monotonic() - at, 2),
            "status": self._process.returncode,
            "message": errors.strip().rpartition("\n")[2],
        }

    def _ranks(self) -> dict[int, Any]:
        """Return the ranks by number, as soon as there are some; none if the command ended first."""
        psutil = require("psutil", "dev")
        while self._process.poll() is None:
            with suppress(psutil.Error):
                children = psutil.Process(self._process.pid).children()
                found = {int(number): one for one in children if (number := one.environ().get("RANK")) is not None}
                if found and len(found) == int(next(iter(found.values())).environ()["WORLD_SIZE"]):
                    return found
            time.sleep(0.05)
        return {}


def _difference(one: Path, other: Path) -> float:
    scores = []
    for folder in (one, other):
        run = Run.load(folder)
        if run.users is None:
            raise BenchError("the run has no user table")
        scores.append(run.users.dense() @ run.items.dense().T)
    return float(np.abs(scores[0] - scores[1]).max() / np.abs(scores[0]).max())


if __name__ == "__main__":
    main()
