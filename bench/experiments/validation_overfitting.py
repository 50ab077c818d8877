"""Overfitting of searched sizes to the validation part: their quality there and on interactions the search never saw.

usage: python -m bench.experiments.validation_overfitting [DATA] [--backbone ials] [--episodes 10] [--seeds 3]
           [--out result.json]

The unseen interactions are the test part of a 50/25/25 split, which is as large as the validation part and drawn alike.
The same training on train is evaluated on both parts, with train masked, relative to the full-size model. Sizes that
are better on validation than on the test part are overfitted. The sizes are the best of each search: `ciess` with its
default variant; `ciess, row by row`, the sizes that the same search visited, not smoothed; `ciess, apart=false`, the
same for agents whose reward comes from the interactions they observe, as in the paper (`holdout_reward=false`); `bet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, cells_with_spread, experiment, rows_over_seeds
from bench.experiments.search_job import search_job, search_options
from edgerec.api import TrainRequest
from edgerec.console import messages, print_table
from edgerec.data import Interactions, load_data
from edgerec.methods import Job
from edgerec.methods.bet.search import BETConfig
from edgerec.methods.ciess.config import CIESSConfig, epochs_of
from edgerec.methods.ciess.visits import SMOOTHED, VISITED, candidates
from edgerec.methods.search.evaluator import SizeEvaluator
from edgerec.methods.search.finalists import uniform_sizes
from edgerec.methods.search.history import SearchHistory
from edgerec.methods.search.sampler import Action, Sampler
from edgerec.models import SizePlan
from edgerec.training import FitOptions

SIZES = ("uniform", "bet", "ciess, apart=false", "ciess, row by row", "ciess")
FIGURES = ("validation", "test")


def measure(
    interactions: Interactions, request: TrainRequest, iterations: int, episodes: int
) -> dict[str, dict[str, float]]:
    """Return FIGURES of each of SIZES: the evaluation relative to that of the full-size model on the same part."""
    job, sampler = search_job(interactions, request)
    unseen = replace(job, split=replace(job.split, validation=job.split.test, test=job.split.validation))
    epochs, own = epochs_of(job, CIESSConfig()), CIESSConfig(episodes=episodes)
    with SizeEvaluator(job, "fresh", epochs=epochs) as seen, SizeEvaluator(unseen, "fresh", epochs=epochs) as other:
        plans = {
            "uniform": uniform_sizes(job),
            "bet": _bet(job, sampler, seen, BETConfig(iterations=iterations)),
            "ciess, apart=false": _ciess(job, seen, replace(own, holdout_reward=False), (VISITED,))[0],
        }
        plans["ciess, row by row"], plans["ciess"] = _ciess(job, seen, own, (VISITED, SMOOTHED))
        found = [
            [one.mean / evaluator.full().mean for one in evaluator.evaluate([plans[name] for name in SIZES])]
            for evaluator in (seen, other)
        ]
    return {
        name: dict(zip(FIGURES, own, strict=True)) for name, own in zip(SIZES, zip(*found, strict=True), strict=True)
    }


def _bet(job: Job, sampler: Sampler, evaluator: SizeEvaluator, config: BETConfig) -> SizePlan:
    from edgerec.methods.bet.search import BETSearch

    history = SearchHistory(None)
    BETSearch(job, config, sampler, evaluator, history).run()
    best = max(history.evaluated, key=lambda entry: float(entry["fitness"]))
    return sampler.plan(Action.from_json(best["action"]))


def _ciess(job: Job, evaluator: SizeEvaluator, config: CIESSConfig, origins: tuple[str, ...]) -> list[SizePlan]:
    """Run one search; return the best sizes of each origin."""
    from edgerec.methods.ciess.search import Explorer

    visits = Explorer(job, evaluator, config, None).run(lambda entry: None)
    scores = np.array([entry["fitness"] for entry in visits.entries])
    best = []
    for origin in origins:
        plans = [found.plan for found in candidates(job, visits, scores, (origin,), config.n_finalists)]
        best.append(plans[int(np.argmax([one.mean for one in evaluator.evaluate(plans)]))])
    return best


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Format the rows as table cells."""
    return cells_with_spread(rows, "sizes", FIGURES)


@experiment("by-heart")
@click.argument("data", default="ml-1m")
@click.option("--backbone", default="ials", show_default=True, help="Backbone to train.")
@search_options()
@click.option("--iterations", default=50, show_default=True, help="Number of actions that BET evaluates.")
@click.option("--episodes", default=10, show_default=True, help="Episodes of CIESS, with ten evaluations each.")
@click.option("--seeds", default=3, show_default=True, help="Number of seeds.")
def main(
    data: str,
    backbone: str,
    budget: str,
    dimensions: int,
    split: str,
    iterations: int,
    episodes: int,
    seeds: int,
) -> Figures:
    """Measure how much searched sizes overfit to the validation part."""
    request = TrainRequest.make(backbone, "ciess", budget=budget, dimensions=dimensions, split=split)
    interactions, found = load_data(data), []
    for seed in range(seeds):
        own = replace(request, options=FitOptions(seed, threads=1), split=replace(request.split, seed=seed))
        found.append(measure(interactions, own, iterations, episodes))
        messages.print(f"seed {seed}: {found[-1]}", markup=False)
    rows = rows_over_seeds("sizes", {name: [one[name] for one in found] for name in SIZES}, FIGURES)
    print_table(f"{data}, {backbone} at {budget}", ("sizes of", *FIGURES), cells(rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
