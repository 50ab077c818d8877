"""How well BET's predictor ranks actions that it has never seen, by what it learns an action.

usage: python -m bench.experiments.predictor [DATA] [--backbone ials] [--iterations 50] [--seeds 4] [--out result.json]

For each seed both variants, `default` and `paper`, search with the same judge. Then actions are drawn at random, judged
in truth and predicted: the rank correlation is Spearman's. What a search is to find is beside it: the best fitness of
its actions, and of as many that were drawn blindly.
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
"""Of the seed that actions are drawn with which no search draws."""


def measure(
    interactions: Interactions, request: TrainRequest, iterations: int, unseen: int
) -> dict[str, dict[str, float]]:
    """FIGURES of each variant: the correlation, the fitness of the best judged action, and of the best that was drawn
    blindly among as many."""
    from edgerec.methods.bet.search import BETSearch

    job, sampler = search_job(interactions, request)
    rng = np.random.default_rng([job.seed, _UNSEEN])
    actions = [sampler.draw(rng) for _ in range(max(unseen, iterations))]
    found = {}
    with SizeEvaluator(job, "fine-tune", epochs=EPOCHS.get(job.backbone.name, 10)) as judge:
        full = judge.full().mean
        plans = [sampler.plan(action) for action in actions]
        true = np.array([one.mean / full for one in judge.evaluate(plans)])
        for name in COMPARED:
            history = SearchHistory(None)
            config = replace(VARIANTS[name], iterations=iterations)
            search = BETSearch(job, config, sampler, judge, history)
            search.run()
            found[name] = {
                "correlation": spearman(search.predict(actions[:unseen]), true[:unseen]),
                "best": max(entry["fitness"] for entry in history.evaluated),
                "best_blind": float(true[:iterations].max()),
            }
    return found


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line a variant."""
    return cells_with_spread(rows, "protocol", FIGURES)


@experiment("predictor")
@click.argument("data", default="ml-100k")
@click.option("--backbone", default="ials", show_default=True)
@search_options()
@click.option("--iterations", default=50, show_default=True, help="Actions that a search judges.")
@click.option("--unseen", default=200, show_default=True, help="Actions that are predicted after it.")
@click.option("--seeds", default=4, show_default=True)
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
    """Measure and print."""
    request = TrainRequest.make(backbone, "bet", budget=budget, dimensions=dimensions, split=split)
    interactions, found = load_data(data), []
    for seed in range(seeds):
        found.append(measure(interactions, replace(request, options=FitOptions(seed, threads=1)), iterations, unseen))
        messages.print(f"seed {seed}: {found[-1]}", markup=False)
    rows = rows_over_seeds("protocol", {name: [one[name] for one in found] for name in COMPARED}, FIGURES)
    columns = ("variant", "rank correlation", "best fitness", "best of as many drawn blindly")
    print_table(f"{data}, {backbone} at {budget}, {iterations} judged actions", columns, cells(rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
