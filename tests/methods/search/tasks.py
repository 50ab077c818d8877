"""Functions that workers of tests are given: they must be importable by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from edgerec.errors import DataError


def product(shared: int, task: int) -> tuple[int, int]:
    """The product, and the process that made it."""
    return shared * task, os.getpid()


def refuse(shared: Any, task: int) -> int:
    """Raise a user's error at the third task."""
    if task == 2:
        raise DataError("the third is refused")
    return task


def stumble(shared: Any, task: int) -> int:
    """Raise what no user can cause."""
    raise ZeroDivisionError("nothing to divide by")


def die(shared: Any, task: int) -> int:
    """Be killed, as for a lack of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def met(shared: Path, task: int) -> str:
    """The node of a Ray cluster that this runs on, once another task runs beside it."""
    import ray

    (shared / str(task)).touch()
    deadline = time.monotonic() + 60
    while len(list(shared.iterdir())) < 2:
        if time.monotonic() > deadline:
            raise DataError("no other task has come")
        time.sleep(0.05)
    name: str = ray.get_runtime_context().get_node_id()
    return name
