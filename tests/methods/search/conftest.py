"""A job of small made-up data, as a search is given it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgerec.api import TrainRequest, job_of
from edgerec.data import Interactions, split
from edgerec.methods import Job
from edgerec.training import Checkpoint, FitOptions, FitResult

MakeJob = Callable[..., Job]


def no_fit(*sizes: Any, **how: Any) -> FitResult:
    raise AssertionError("no training in full was asked for")


@pytest.fixture
def make_job(interactions: Interactions) -> MakeJob:
    """A job of 300 users x 200 items, 50/25/25, 16 dimensions, a quarter of the values kept."""

    def make(backbone: str = "ials", *, folder: Path | None = None, workers: int | None = None, **wanted: Any) -> Job:
        options = FitOptions(seed=1, threads=1, max_epochs=4)
        asked: dict[str, Any] = {"budget": "25%", "dimensions": 16, "split": "random:50/25/25", **vars(options)}
        if backbone == "ials" and not wanted.get("settings"):
            wanted["settings"] = {"alpha": 3.0, "reg": 20.0}  # or a training in full would choose them
        if backbone == "lightgcn":
            wanted["settings"] = {"l2": 0.005, **(wanted.get("settings") or {})}
        request = TrainRequest.make(backbone, "bet", **{**asked, **wanted})
        checkpoint = None if folder is None else Checkpoint(folder, request.to_dict())
        return job_of(request, split(interactions, request.split), no_fit, None, checkpoint, workers)

    return make
