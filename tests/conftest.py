"""What every test may need: small interactions, a bundle, a way to call the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from edgerec.data import Interactions, synthetic
from edgerec.models.encoder import LinearEncoder
from edgerec.tables import DenseTable, PrefixTable
from edgerec_export import Source

settings.register_profile("edgerec", deadline=None)  # no test asserts a time of the wall clock
settings.load_profile("edgerec")

# A shell ignores Ctrl-C in background jobs, and processes that tests start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores: many tests wait for a browser, a device or a process."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def interactions() -> Interactions:
    """300 users x 200 items with planted tastes."""
    return synthetic(n_users=300, n_items=200, n=9000, seed=1)


@pytest.fixture(scope="session")
def source() -> Source:
    """Random prefix tables of several widths: 120 users, 500 items, 16 dimensions."""
    return random_source(500, 120)


def random_source(n_items: int, n_users: int, d: int = 16, seed: int = 0) -> Source:
    """Random prefix tables whose sizes differ, with ids that are not row numbers."""
    rng = np.random.default_rng(seed)
    sizes = [rng.choice([1, 2, 3, 5, 8, 13, d], n) for n in (n_items, n_users)]
    items, users = (PrefixTable.from_dense(rng.standard_normal((n.size, d), dtype=np.float32), n) for n in sizes)
    return Source(items, np.arange(n_items) * 3 + 7, users, np.arange(n_users) + 1, about={"backbone": "random"})


def history_source(n_items: int, d: int = 16, seed: int = 0) -> Source:
    """A dense item table with history weights and text ids."""
    rng = np.random.default_rng(seed)
    items = DenseTable(rng.standard_normal((n_items, d), dtype=np.float32))
    ids = np.array([f"film-{n}é" for n in range(n_items)])
    return Source(items, ids, encoder=LinearEncoder(rng.random(n_items, dtype=np.float32)))


def interrupted(
    arguments: Sequence[str | Path], until: Callable[[], bool], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `edgerec`, and press Ctrl-C as soon as `until` holds: a terminal sends it to all its processes."""
    command = [sys.executable, "-m", "edgerec.cli", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        start_new_session=True,
    )
    try:
        while not until():
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@pytest.fixture(scope="session")
def command_line() -> CommandLine:
    """Runs `edgerec` in a process of its own."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgerec.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)

    return run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from its sources."""
    return built(tmp_path_factory.mktemp("wheel"), ".")


@pytest.fixture(scope="session")
def runtime_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the runtime alone."""
    return built(tmp_path_factory.mktemp("runtime-wheel"), "devices/runtime")


def built(folder: Path, project: str) -> Path:
    """The wheel of a project of this repository."""
    source = Path(__file__).parents[1] / project
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path
