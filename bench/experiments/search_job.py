"""What the benches of a search ask about: its options, and the job that a method would be given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgerec.api import job_of
from edgerec.data import Interactions
from edgerec.data import split as split_interactions
from edgerec.methods import Job, Workers
from edgerec.methods.search.finalists import searched_budget
from edgerec.methods.search.sampler import Sampler
from edgerec.models import SizePlan
from edgerec.request import TrainRequest
from edgerec.training import Fit, FitResult

F = TypeVar("F", bound=Callable[..., Any])


def search_job(interactions: Interactions, request: TrainRequest, workers: Workers = None) -> tuple[Job, Sampler]:
    """The job of a request, whose fits train nothing once more on all of train, and what draws BET's actions in it."""
    parts = split_interactions(interactions, request.split)

    def fit(sizes: SizePlan, **_: Any) -> FitResult:
        return Fit(request.backbone, parts.without_final(), sizes, request.config, request.options).run()

    job = job_of(request, parts, fit, workers=workers)
    return job, Sampler(job.train.user_counts(), job.train.item_counts(), searched_budget(job))


def search_options(split: str = "random:50/25/25") -> Callable[[F], F]:
    """--budget, --dimensions and --split, by default `split`: what actions are drawn within."""

    def decorate(command: F) -> F:
        for option in (
            click.option("--split", default=split, show_default=True),
            click.option("--dimensions", default=128, show_default=True),
            click.option("--budget", default="10%", show_default=True),
        ):
            command = option(command)
        return command

    return decorate
