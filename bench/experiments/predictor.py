"""Rank correlation of BET's predictor on unseen actions, for its variants `default` and `paper`.

usage: python -m bench.experiments.predictor [DATA] [--backbone ials] [--iterations 50] [--seeds 4] [--out result.json]

For each seed both variants search with the same evaluator. Then random actions are evaluated and predicted; the rank
correlation is Spearman's. The figures also include the best fitness of the search's actions, and the best of equally
many random actions.
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
from edgerec.methods.bet.search import EPOCHS, VARIANTS
from edgerec.methods.search.evaluator import SizeEvaluator
from edgerec.methods.search.history import SearchHistory
from edgerec.training import FitOptions
from edgerec_bench.reports.search import spearman

COMPARED = ("default", "paper")
FIGURES = ("correlation", "best", "best_blind")
_UNSEEN = 7
"""Part of the seed of actions that no search draws."""


def measure(
    interactions: Interactions, request: TrainRequest, iterations: int, unseen: int
) -> dict[str, dict[str, float]]:
    """Return FIGURES of each variant: the correlation, the fitness of the best evaluated action, and of the best of
    equally many random ones."""
    from edgerec.methods.bet.search import BETSearch

    job, sampler = search_job(interactions, request)
    rng = np.random.default_rng([job.seed, _UNSEEN])
    actions = [sampler.draw(rng) for _ in range(max(unseen, iterations))]
    found = {}
    with SizeEvaluator(job, "fine-tune", epochs=EPOCHS.get(job.backbone.name, 10)) as evaluator:
        full = evaluator.full().mean
        plans = [sampler.plan(action) for action in actions]
        true = np.array([one.mean / full for one in evaluator.evaluate(plans)])
        for name in COMPARED:
            history = SearchHistory(None)
            config = replace(VARIANTS[name], iterations=iterations)
            search = BETSearch(job, config, sampler, evaluator, history)
            search.run()
            found[name] = {
                "correlation": spearman(search.predict(actions[:unseen]), true[:unseen]),
                "best": max(entry["fitness"] for entry in history.evaluated),
                "best_blind": float(true[:iterations].max()),
            }
    return found


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Format the rows as table cells."""
    return cells_with_spread(rows, "protocol", FIGURES)


@experiment("predictor")
@click.argument("data", default="ml-100k")
@click.option("--backbone", default="ials", show_default=True, help="Backbone to train.")
@search_options()
@click.option("--iterations", default=50, show_default=True, help="Number of actions that a search evaluates.")
@click.option("--unseen", default=200, show_default=True, help="Number of unseen actions to predict.")
@click.option("--seeds", default=4, show_default=True, help="Number of seeds.")
def main(
    data: str,
    backbone: str,
    budget: str,
    dimensions: int,
    split: str,
    iterations: int,
    unseen: int,
    seeds: int,
) -> Figures:
    """Measure how well BET's predictor ranks unseen actions."""
    request = TrainRequest.make(backbone, "bet", budget=budget, dimensions=dimensions, split=split)
    interactions, found = load_data(data), []
    for seed in range(seeds):
        found.append(measure(interactions, replace(request, options=FitOptions(seed, threads=1)), iterations, unseen))
        messages.print(f"seed {seed}: {found[-1]}", markup=False)
    rows = rows_over_seeds("protocol", {name: [one[name] for one in found] for name in COMPARED}, FIGURES)
    columns = ("variant", "rank correlation", "best fitness", "best of as many random actions")
    print_table(f"{data}, {backbone} at {budget}, {iterations} evaluated actions", columns, cells(rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
