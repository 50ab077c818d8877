"""How a method of this family fits: the job's loop, around a trainer of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.methods.base import Job
from edgerec.methods.sparse.objective import Objective, objective
from edgerec.methods.sparse.plan import Plan
from edgerec.models import SizePlan, Trainer
from edgerec.training import FitResult

if TYPE_CHECKING:
    from edgerec.training import Start

Make = Callable[[Interactions, Objective, int, int | None], Trainer]
"""A trainer for (train, objective, seed, threads)."""


def fit_sparse(job: Job, make: Make, values: int, rows: int | None = None, *, least: int = 0) -> FitResult:
    """Train with what `make` makes, for `least` epochs at least, where at most `rows` rows have a gradient at a step,
    or all; tables ship as they are, `values` in all, zeros anywhere."""
    return replace(job.fit(SizePlan(job.d), start=starting(job, make, values, rows), least=least), sparse=True)


def starting(job: Job, make: Make, values: int, rows: int | None) -> Start:
    """Starts trainers as the backbone does. They run on the CPU alone, and raise UnsupportedError elsewhere."""

    def start(
        train: Interactions, sizes: SizePlan, config: Any, *, seed: int, threads: int | None = None, device: str = "cpu"
    ) -> Trainer:
        if device != "cpu":
            raise UnsupportedError(f"tables in sparse form train on the CPU only, not on {device!r}; leave it out")
        ranking = objective(job.backbone.name)(train, sizes.d, config, threads, rows, seed=seed, values=values)
        return make(train, ranking, seed, threads)

    return start


def train_within(job: Job, plan: Plan) -> FitResult:
    """Dynamic sparse training by a plan. What moves is not given up before it stays: while values grow from zero,
    validation may get worse than where it began."""

    def make(train: Interactions, objective: Objective, seed: int, threads: int | None) -> Trainer:
        # torch comes with the trainer; methods are listed without it.
        from edgerec.methods.sparse.trainer import trainer_of

        return trainer_of(train, objective, plan, seed=seed, threads=threads)

    rows, least = plan.rows if plan.backward == "sampled" else None, plan.horizon if plan.fraction > 0 else 0
    return fit_sparse(job, make, sum(plan.counts), rows, least=least)
