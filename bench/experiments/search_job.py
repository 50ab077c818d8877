"""Shared parts of the experiments on searches: their options, and the job that a search method receives."""

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
    """Return the job of a request, without the final training on all data, and a sampler of BET's actions for it."""
    parts = split_interactions(interactions, request.split)

    def fit(sizes: SizePlan, **_: Any) -> FitResult:
        return Fit(request.backbone, parts.without_final(), sizes, request.config, request.options).run()

    job = job_of(request, parts, fit, workers=workers)
    return job, Sampler(job.train.user_counts(), job.train.item_counts(), searched_budget(job))


def search_options(split: str = "random:50/25/25") -> Callable[[F], F]:
    """Add the options --budget, --dimensions and --split (by default `split`), which limit the sizes."""

    def decorate(command: F) -> F:
        for option in (
            click.option("--split", default=split, show_default=True, help="Split of the interactions."),
            click.option("--dimensions", default=128, show_default=True, help="Dimensions of a full row."),
            click.option("--budget", default="10%", show_default=True, help="Size limit of the tables."),
        ):
            command = option(command)
        return command

    return decorate
