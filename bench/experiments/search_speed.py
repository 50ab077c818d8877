"""Time of the parts of BET's search on tables of Gowalla's size.

usage: python -m bench.experiments.search_speed [--users 29858] [--items 40981] [--candidates 100] [--out result.json]

Frequencies are synthetic with a long tail, equivalent to 810,128 interactions for the sizes above. Seconds are medians
of five rounds with one thread: drawing and projecting actions, counting their rows by size, predicting, and one
training step of the predictor on sixteen of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment, median_seconds
from edgerec.budget import SizeBudget
from edgerec.console import print_facts
from edgerec.methods.search.sampler import Sampler

ROUNDS = 5
_MEAN = (27.1, 19.8)
"""Mean number of interactions of a user and of an item in Gowalla's training part."""


def measure(users: int, items: int, d: int, candidates: int) -> dict[str, Any]:
    """Return the median seconds of each part for a number of candidates at a budget of 10 %, with the table sizes."""
    from edgerec.methods.bet.predictor import Groups, Predictor

    rng = np.random.default_rng(0)
    of_users, of_items = (
        np.floor(mean * rng.lognormal(-0.5, 1.0, n)).astype(np.int64)
        for mean, n in zip(_MEAN, (users, items), strict=True)
    )
    sampler = Sampler(of_users, of_items, SizeBudget(users, items, (users + items) * d // 10, d))
    groups = Groups.of(of_users, of_items)
    predictor = Predictor(groups, d, seed=0)
    actions = [sampler.draw(rng) for _ in range(candidates)]
    plans = [sampler.plan(action) for action in actions]
    members = [groups.members(plan) for plan in plans]
    few = members[:16]
    parts: dict[str, Callable[[], Any]] = {
        "sampling and projection": lambda: [sampler.plan(action) for action in actions],
        "counting": lambda: [groups.members(plan) for plan in plans],
        "predicting": lambda: predictor.predict(members),
        "one step of learning": lambda: predictor.update(few, [0.9] * len(few)),
    }
    seconds = {name: median_seconds(part, ROUNDS) for name, part in parts.items()}
    scoring = seconds["counting"] + seconds["predicting"]
    return {"rows": users + items, "frequencies": groups.frequencies.size, "seconds": seconds, "scoring_s": scoring}


@experiment("search-speed")
@click.option("--users", default=29_858, show_default=True, help="Number of users.")
@click.option("--items", default=40_981, show_default=True, help="Number of items.")
@click.option("--dimensions", default=128, show_default=True, help="Dimensions of a full row.")
@click.option("--candidates", default=100, show_default=True, help="Number of candidate actions.")
def main(users: int, items: int, dimensions: int, candidates: int) -> Figures:
    """Time the parts of BET's search."""
    found = measure(users, items, dimensions, candidates)
    facts = {"rows": found["rows"], "frequencies": found["frequencies"]}
    facts |= {f"{name}, s": round(value, 3) for name, value in found["seconds"].items()}
    print_facts("", {**facts, f"scoring {candidates} candidates, s": round(found["scoring_s"], 3)})
    return found


if __name__ == "__main__":
    main()
