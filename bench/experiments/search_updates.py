"""CIESS with fewer steps of its agents: the quality of the sizes that a search finds, and its processor time.

usage: python -m bench.experiments.search_updates --out result.json [--data ml-100k,lastfm-hetrec] [--backbone ials]
           [--updates 0,1,2,5,20] [--episodes 10] [--seeds 3]

With 0 steps the agents learn nothing, and sizes differ by noise alone. Figures are of the best smoothed sizes of a
search, trained on train, relative to the full-size model: on the validation part, by which the default is chosen, and
on the test part of a 50/25/25 split, which no search sees.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import click
import numpy as np

from bench.experiments.harness import (
    Figures,
    cached,
    cells_with_spread,
    experiment,
    named_or_stored,
    next_to_out,
    rows_over_seeds,
)
from bench.experiments.search_job import search_job, search_options
from edgerec.api import TrainRequest
from edgerec.console import messages, print_table
from edgerec.data import Interactions
from edgerec.methods.ciess.config import CIESSConfig, epochs_of
from edgerec.methods.ciess.visits import SMOOTHED, candidates
from edgerec.methods.search.evaluator import SizeEvaluator
from edgerec.training import FitOptions

FIGURES = ("validation", "test", "cpu_s")
COLUMNS = ("data", "updates", "validation", "test", "CPU s")


def measure(interactions: Interactions, request: TrainRequest, config: CIESSConfig) -> dict[str, float]:
    """Return FIGURES of one search, whose processor time is without the full-size model."""
    from edgerec.methods.ciess.search import Explorer

    job, _ = search_job(interactions, request)
    unseen = replace(job, split=replace(job.split, validation=job.split.test, test=job.split.validation))
    epochs = epochs_of(job, config)
    with SizeEvaluator(job, "fresh", epochs=epochs) as seen, SizeEvaluator(unseen, "fresh", epochs=epochs) as other:
        seen.full()
        started = time.process_time()
        visits = Explorer(job, seen, config, None).run(lambda entry: None)
        seconds = time.process_time() - started
        scores = np.array([entry["fitness"] for entry in visits.entries])
        plans = [found.plan for found in candidates(job, visits, scores, (SMOOTHED,), config.n_finalists)]
        evals = [one.mean for one in seen.evaluate(plans)]
        best = int(np.argmax(evals))
        test = other.evaluate([plans[best]])[0].mean / other.full().mean
    return {"validation": evals[best] / seen.full().mean, "test": test, "cpu_s": round(seconds, 1)}


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Format the rows as table cells."""
    figures = cells_with_spread(rows, "updates", FIGURES[:2])
    return [[row["data"], *own, f"{row['cpu_s']['mean']:.0f}"] for row, own in zip(rows, figures, strict=True)]


@experiment("search-updates", needs_out=True)
@click.option("--data", "names", default="ml-100k,lastfm-hetrec", show_default=True, help="Data sets.")
@click.option("--backbone", default="ials", show_default=True, help="Backbone to train.")
@search_options()
@click.option("--updates", default="0,1,2,5,20", show_default=True, help="Steps of each agent after a visit.")
@click.option("--episodes", default=10, show_default=True, help="Episodes of CIESS, with ten evaluations each.")
@click.option("--seeds", default=3, show_default=True, help="Number of seeds.")
def main(
    names: str, backbone: str, budget: str, dimensions: int, split: str, updates: str, episodes: int, seeds: int
) -> Figures:
    """Measure the quality of the sizes that CIESS finds with few steps of its agents."""
    rows: list[dict[str, Any]] = []
    for name in names.split(","):
        interactions, found = named_or_stored(name), dict[str, list[dict[str, Any]]]()
        for seed in range(seeds):
            for steps in updates.split(","):
                request = TrainRequest.make(backbone, "ciess", budget=budget, dimensions=dimensions, split=split)
                own = replace(request, options=FitOptions(seed, threads=1), split=replace(request.split, seed=seed))
                config = CIESSConfig(episodes=episodes, updates=int(steps))
                key = {**own.to_dict(), "updates": int(steps), "episodes": episodes, "data": interactions.fingerprint()}
                path = next_to_out(".rows") / f"{name}-{steps}-{seed}.json"
                found.setdefault(steps, []).append(cached(path, key, partial(measure, interactions, own, config)))
                messages.print(f"{name}, {steps} updates, seed {seed}: {found[steps][-1]}", markup=False)
        rows += [{"data": name, **row} for row in rows_over_seeds("updates", found, FIGURES)]
    print_table(f"{backbone} at {budget}, {episodes} episodes", COLUMNS, cells(rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
