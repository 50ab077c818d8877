"""Whether the sizes that a search finds are as good on interactions that it has never seen.

usage: python -m bench.experiments.validation_overfitting [DATA] [--backbone ials] [--episodes 10] [--seeds 3] [--out result.json]

The test part of 50/25/25 stands in the validation part's place: as large, and drawn alike. The same training on train
is judged on either, train masked, over the full-size model there. What is better on the part that a search looked at
than on the other has been learnt by heart. Of each search the sizes are those that it likes best: of `ciess`, as its
protocol `own` has it; of `ciess, row by row`, what the same search visited, not smoothed; of `ciess, apart=false`,
likewise, whose agents are paid for what they see, as in the paper; and of `bet`.
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
    """FIGURES of each of SIZES: eval over that of the full-size model, on the same part."""
    job, sampler = search_job(interactions, request)
    unseen = replace(job, split=replace(job.split, validation=job.split.test, test=job.split.validation))
    epochs, own = epochs_of(job, CIESSConfig()), CIESSConfig(episodes=episodes)
    with SizeEvaluator(job, "fresh", epochs=epochs) as judge, SizeEvaluator(unseen, "fresh", epochs=epochs) as other:
        plans = {
            "uniform": uniform_sizes(job),
            "bet": _bet(job, sampler, judge, BETConfig(iterations=iterations)),
            "ciess, apart=false": _ciess(job, judge, replace(own, holdout_reward=False), (VISITED,))[0],
        }
        plans["ciess, row by row"], plans["ciess"] = _ciess(job, judge, own, (VISITED, SMOOTHED))
        found = [
            [one.mean / asked.full().mean for one in asked.evaluate([plans[name] for name in SIZES])]
            for asked in (judge, other)
        ]
    return {
        name: dict(zip(FIGURES, own, strict=True)) for name, own in zip(SIZES, zip(*found, strict=True), strict=True)
    }


def _bet(job: Job, sampler: Sampler, judge: SizeEvaluator, config: BETConfig) -> SizePlan:
    from edgerec.methods.bet.search import BETSearch

    history = SearchHistory(None)
    BETSearch(job, config, sampler, judge, history).run()
    best = max(history.evaluated, key=lambda entry: float(entry["fitness"]))
    return sampler.plan(Action.from_json(best["action"]))


def _ciess(job: Job, judge: SizeEvaluator, config: CIESSConfig, origins: tuple[str, ...]) -> list[SizePlan]:
    """The best of each origin of sizes in one search."""
    from edgerec.methods.ciess.search import Explorer

    visits = Explorer(job, judge, config, None).run(lambda entry: None)
    scores = np.array([entry["fitness"] for entry in visits.entries])
    best = []
    for origin in origins:
        plans = [found.plan for found in candidates(job, visits, scores, (origin,), config.n_finalists)]
        best.append(plans[int(np.argmax([one.mean for one in judge.evaluate(plans)]))])
    return best


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for the sizes of each."""
    return cells_with_spread(rows, "sizes", FIGURES)


@experiment("by-heart")
@click.argument("data", default="ml-1m")
@click.option("--backbone", default="ials", show_default=True)
@search_options()
@click.option("--iterations", default=50, show_default=True, help="Actions that BET judges.")
@click.option("--episodes", default=10, show_default=True, help="Of CIESS, ten judgements each.")
@click.option("--seeds", default=3, show_default=True)
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
    """Measure and print."""
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
