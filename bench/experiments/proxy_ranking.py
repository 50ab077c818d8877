"""How well a cheap oracle ranks sizes: iALS, and the backbone's own fine-tuning, beside trainings in full.

usage: python -m bench.experiments.proxy_ranking [DATA] [--backbone lightgcn] [--actions 30] [--full] [--out result.json]

The sizes are BET's actions, drawn at random at one budget, or with `--draw powers` powers of the frequencies, of users
and items apart, with exponents of either sign: CIESS may come by such sizes. Each is judged as a search judges it, by
masked iALS and by fine-tuning the backbone; with --full the backbone is also trained from scratch within its sizes
until it gets no better, which is what a search is to predict. Rank correlations are Spearman's, over all actions and
over the better half by the more expensive of the two judges: among random actions many are plainly bad, and a search is
after the best.
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
from edgerec.methods.search.evaluator import SizeEvaluator, eval_of
from edgerec.methods.search.finalists import projected
from edgerec.methods.search.sampler import Sampler
from edgerec.methods.search.workers import parse_workers
from edgerec.models import SizePlan
from edgerec_bench.reports.search import spearman

ORACLE, TUNED, FULL = "ials", "fine-tuned", "in full"


def measure(
    data: str, request: TrainRequest, draw: str, actions: int, epochs: int, workers: int | str | None, *, full: bool
) -> dict[str, Any]:
    """Seconds and eval of each action by each judge, and the rank correlation of each pair of judges."""
    interactions = load_data(data)
    job, sampler = search_job(interactions, request, workers)
    rng = np.random.default_rng(request.options.seed)
    drawn, plans = (_powers if draw == "powers" else _actions)(job, sampler, rng, actions)
    judges = {ORACLE: _judged(job, plans, "ials", EPOCHS["ials"]), TUNED: _judged(job, plans, "backbone", epochs)}
    if full:
        started = time.perf_counter()
        values = [float(eval_of(job.fit(plan).validation)) for plan in plans]
        judges[FULL] = {"eval": values, "seconds": time.perf_counter() - started}
    names = list(judges)
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    return {
        "actions": drawn,
        "judges": judges,
        "correlations": [
            {"of": one, "with": other, **_correlations(judges[one]["eval"], judges[other]["eval"])}
            for one, other in pairs
        ],
        "data_fingerprint": interactions.fingerprint(),
    }


Drawn = tuple[list[dict[str, Any]], list[SizePlan]]
"""What tells them, and the sizes."""


def _actions(job: Job, sampler: Sampler, rng: np.random.Generator, count: int) -> Drawn:
    """BET's."""
    drawn = [sampler.draw(rng) for _ in range(count)]
    return [action.to_json() for action in drawn], [sampler.plan(action) for action in drawn]


def _powers(job: Job, sampler: Sampler, rng: np.random.Generator, count: int) -> Drawn:
    """Sizes in proportion to powers of the frequencies, of users and items apart; a mean user's over a mean item's by a
    factor."""
    told, plans = [], []
    for powers, factor in zip(rng.normal(0, 0.5, (count, 2)), np.exp(rng.normal(0, 0.5, count)), strict=True):
        sides = [
            np.maximum(counts, 1.0) ** power
            for counts, power in zip((sampler.user_counts, sampler.item_counts), powers, strict=True)
        ]
        plans.append(projected(job, (factor * sides[0] / sides[0].mean(), sides[1] / sides[1].mean())))
        told.append({"powers": powers.tolist(), "factor": float(factor)})
    return told, plans


def _judged(job: Job, plans: list[SizePlan], oracle: str, epochs: int) -> dict[str, Any]:
    """Eval over that of full sizes, and the seconds that it took, those of the full-size model apart."""
    with SizeEvaluator(job, "fine-tune", proxy=oracle, epochs=epochs) as judge:
        started = time.perf_counter()
        full = judge.full().mean
        trained = time.perf_counter()
        values = [one.mean for one in judge.evaluate(plans)]
    judged = time.perf_counter()
    return {
        "eval": values,
        "full": full,
        "epochs": epochs,
        "seconds": judged - trained,
        "full_seconds": trained - started,
    }


def _correlations(cheap: list[float], dear: list[float]) -> dict[str, Any]:
    """Spearman's of all and of the better half, and the place, from 1, that the cheap one's best has with the other."""
    a, b = np.array(cheap), np.array(dear)
    better = b >= np.median(b)
    place = 1 + int((b > b[a.argmax()]).sum())
    return {
        "all": spearman(a, b),
        "better_half": spearman(a[better], b[better]),
        "place_of_best": place,
    }


@experiment("oracle")
@click.argument("data", default="ml-100k")
@click.option("--backbone", default="lightgcn", show_default=True)
@search_options()
@click.option("--draw", type=click.Choice(["bet", "powers"]), default="bet", show_default=True, help="What is judged.")
@click.option("--actions", default=30, show_default=True)
@click.option("--epochs", type=int, help="Of fine-tuning the backbone.  [default: as BET's]")
@click.option("--full", is_flag=True, help="Train the backbone in full too, once an action.")
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", help="As of edgerec train.")
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
    """Measure and print."""
    request = TrainRequest.make(
        backbone, "bet", budget=budget, dimensions=dimensions, split=split, seed=seed, threads=1
    )
    epochs = epochs or EPOCHS.get(backbone, 10)
    found = measure(
        data, request, draw, actions, epochs, None if workers is None else parse_workers(workers), full=full
    )
    for name, judge in found["judges"].items():
        shown = [f"{np.quantile(judge['eval'], share):.4f}" for share in (0, 0.5, 1)]
        click.echo(f"{name}: eval {' '.join(shown)} (least, median, best), {judge['seconds']:.1f} s", err=True)
    columns = ("", "beside", "rank correlation", "of the better half", "place of its best")
    rows = [[c["of"], c["with"], c["all"], c["better_half"], c["place_of_best"]] for c in found["correlations"]]
    print_table(f"{data}, {backbone} at {budget}, {actions} actions", columns, rows)
    return found


if __name__ == "__main__":
    main()
