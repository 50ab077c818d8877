"""A fit that is killed again and again gives the bundle of one that was not.

usage: python -m bench.experiments.fit_kills [--data ml-100k] [--kills 10] [--out result.json]

`edgerec fit --trials N` runs once to its end. Then it is killed by SIGKILL at random moments, uniform in what the first
call took, each time in the folder that the call before left behind, and at last runs to its end. Where a call ends
before its moment, the next one begins another fit. The files of both bundles are compared byte by byte.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from bench.experiments.harness import Figures, experiment
from edgerec.budget import parse_bytes
from edgerec.console import messages


@experiment("fit_kills")
@click.option("--data", default="ml-100k", show_default=True, help="Data set.")
@click.option("--max-bytes", default="64KiB", show_default=True, help="Size of the bundle.")
@click.option("--trials", default=4, show_default=True, type=click.IntRange(1), help="Trainings of the search.")
@click.option("--kills", default=10, show_default=True, type=click.IntRange(1), help="Number of kills.")
@click.option("--seed", default=0, show_default=True, help="Seed of the moments.")
def main(data: str, max_bytes: str, trials: int, kills: int, seed: int) -> Figures:
    """Kill a fit at random moments, and compare its bundle with that of one call."""
    command = [sys.executable, "-m", "edgerec.cli", "fit", data, "--max-bytes", str(parse_bytes(max_bytes))]
    command += ["--trials", str(trials), "--out"]
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        for place in (whole, killed):
            place.mkdir()
        started = time.monotonic()
        _finish([*command, str(whole / "app.bundle")])
        seconds = time.monotonic() - started
        moments, faults, rng = list[float](), list[str](), random.Random(seed)
        fits, again = 0, [*command, str(killed / "app.bundle")]
        while len(moments) < kills:
            moment = rng.uniform(0, seconds)
            if _killed(again, moment):
                moments.append(round(moment, 2))
                messages.print(f"killed after {moment:.1f} s of {seconds:.1f} s")
            else:  # what was left took less; the next kills are of another fit
                fits, faults = fits + 1, faults + _differences(whole, killed)
                shutil.rmtree(killed)
                killed.mkdir()
        _finish(again)
        faults += _differences(whole, killed)
        left = sorted(path.name for path in killed.iterdir())
    messages.print("the same bundle each time" if not faults else "; ".join(faults))
    return {"seconds": round(seconds, 1), "killed_after": moments, "fits": fits + 1, "left": left, "faults": faults}


def _finish(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _killed(command: list[str], seconds: float) -> bool:
    """Kill a process after some seconds; return False if it ended before."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def _differences(whole: Path, killed: Path) -> list[str]:
    """Return a fault for each file of the two bundles that differs."""
    first, second = (
        {path.name: path.read_bytes() for path in (place / "app.bundle").iterdir()} for place in (whole, killed)
    )
    return [f"{name} differs" for name in sorted({*first, *second}) if first.get(name) != second.get(name)]


if __name__ == "__main__":
    main()
