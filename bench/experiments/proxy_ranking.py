"""Rank correlation of cheap proxies for sizes, masked iALS and fine-tuning, with each other and with full trainings.

usage: python -m bench.experiments.proxy_ranking [DATA] [--backbone lightgcn] [--actions 30] [--full]
           [--out result.json]

The sizes are BET's actions, drawn at random at one budget, or with `--draw powers` powers of the frequencies of users
and of items, with exponents of either sign, as CIESS may find. Each is evaluated as in a search, by masked iALS and by
fine-tuning the backbone; with --full the backbone is also trained from scratch within the sizes until it stops
improving, which a search should predict. Rank correlations are Spearman's, over all actions and over the better half
by the more expensive of the two evaluators, because many random actions are clearly bad and a search seeks the best.
"""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from bench.experiments.search_job import search_job, search_options
from edgerec.api import TrainRequest
from edgerec.console import print_table
from edgerec.data import load_data
from edgerec.methods import Job
from edgerec.methods.bet.search import EPOCHS
from edgerec.methods.search import parse_workers
from edgerec.methods.search.evaluator import SizeEvaluator, eval_of
from edgerec.methods.search.finalists import projected
from edgerec.methods.search.sampler import Sampler
from edgerec.models import SizePlan
from edgerec_bench.reports.search import spearman

PROXY, TUNED, FULL = "ials", "fine-tuned", "in full"


def measure(
    data: str, request: TrainRequest, draw: str, actions: int, epochs: int, workers: int | str | None, *, full: bool
) -> dict[str, Any]:
    """Return the seconds and the evaluations of each evaluator, and the rank correlation of each pair of them."""
    interactions = load_data(data)
    job, sampler = search_job(interactions, request, workers)
    rng = np.random.default_rng(request.options.seed)
    drawn, plans = (_powers if draw == "powers" else _actions)(job, sampler, rng, actions)
    found = {PROXY: _evaluated(job, plans, "ials", EPOCHS["ials"]), TUNED: _evaluated(job, plans, "backbone", epochs)}
    if full:
        started = time.perf_counter()
        values = [float(eval_of(job.fit(plan).validation)) for plan in plans]
        found[FULL] = {"eval": values, "seconds": time.perf_counter() - started}
    names = list(found)
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    return {
        "actions": drawn,
        "judges": found,
        "correlations": [
            {"of": one, "with": other, **_correlations(found[one]["eval"], found[other]["eval"])}
            for one, other in pairs
        ],
        "data_fingerprint": interactions.fingerprint(),
    }


DrawnSizes = tuple[list[dict[str, Any]], list[SizePlan]]
"""Descriptions of random actions, and their sizes."""


def _actions(job: Job, sampler: Sampler, rng: np.random.Generator, count: int) -> DrawnSizes:
    """Draw random actions of BET."""
    drawn = [sampler.draw(rng) for _ in range(count)]
    return [action.to_json() for action in drawn], [sampler.plan(action) for action in drawn]


def _powers(job: Job, sampler: Sampler, rng: np.random.Generator, count: int) -> DrawnSizes:
    """Draw sizes proportional to powers of the frequencies: an exponent each for users and items, and a factor between
    their means."""
    drawn, plans = [], []
    for powers, factor in zip(rng.normal(0, 0.5, (count, 2)), np.exp(rng.normal(0, 0.5, count)), strict=True):
        sides = [
            np.maximum(counts, 1.0) ** power
            for counts, power in zip((sampler.user_counts, sampler.item_counts), powers, strict=True)
        ]
        plans.append(projected(job, (factor * sides[0] / sides[0].mean(), sides[1] / sides[1].mean())))
        drawn.append({"powers": powers.tolist(), "factor": float(factor)})
    return drawn, plans


def _evaluated(job: Job, plans: list[SizePlan], proxy: str, epochs: int) -> dict[str, Any]:
    """Return the evaluations of sizes and of the full-size model, with the seconds of each."""
    with SizeEvaluator(job, "fine-tune", proxy=proxy, epochs=epochs) as evaluator:
        started = time.perf_counter()
        full = evaluator.full().mean
        trained = time.perf_counter()
        values = [one.mean for one in evaluator.evaluate(plans)]
    finished = time.perf_counter()
    return {
        "eval": values,
        "full": full,
        "epochs": epochs,
        "seconds": finished - trained,
        "full_seconds": trained - started,
    }


def _correlations(cheap: list[float], expensive: list[float]) -> dict[str, Any]:
    """Return Spearman's correlation of all and of the better half, and the rank of the proxy's best by the other."""
    a, b = np.array(cheap), np.array(expensive)
    better = b >= np.median(b)
    place = 1 + int((b > b[a.argmax()]).sum())
    return {
        "all": spearman(a, b),
        "better_half": spearman(a[better], b[better]),
        "place_of_best": place,
    }


@experiment("oracle")
@click.argument("data", default="ml-100k")
@click.option("--backbone", default="lightgcn", show_default=True, help="Backbone to fine-tune and train.")
@search_options()
@click.option(
    "--draw",
    type=click.Choice(["bet", "powers"]),
    default="bet",
    show_default=True,
    help="Distribution of the random sizes: BET's actions, or powers of the frequencies.",
)
@click.option("--actions", default=30, show_default=True, help="Number of random sizes.")
@click.option("--epochs", type=int, help="Epochs of fine-tuning the backbone.  [default: those of BET]")
@click.option("--full", is_flag=True, help="Train the backbone in full, too, once for each action.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random choice.")
@click.option("--workers", help="Number of worker processes, as in 'edgerec train'.")
def main(
    data: str,
    backbone: str,
    budget: str,
    dimensions: int,
    split: str,
    draw: str,
    actions: int,
    epochs: int | None,
    full: bool,
    seed: int,
    workers: str | None,
) -> Figures:
    """Measure how well cheap proxies rank sizes."""
    request = TrainRequest.make(
        backbone, "bet", budget=budget, dimensions=dimensions, split=split, seed=seed, threads=1
    )
    epochs = epochs or EPOCHS.get(backbone, 10)
    found = measure(
        data, request, draw, actions, epochs, None if workers is None else parse_workers(workers), full=full
    )
    for name, evaluator in found["judges"].items():
        shown = [f"{np.quantile(evaluator['eval'], share):.4f}" for share in (0, 0.5, 1)]
        click.echo(f"{name}: eval {' '.join(shown)} (least, median, best), {evaluator['seconds']:.1f} s", err=True)
    columns = ("proxy", "compared with", "rank correlation", "of the better half", "rank of its best")
    rows = [[c["of"], c["with"], c["all"], c["better_half"], c["place_of_best"]] for c in found["correlations"]]
    print_table(f"{data}, {backbone} at {budget}, {actions} actions", columns, rows)
    return found


if __name__ == "__main__":
    main()
