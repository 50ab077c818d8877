"""The search itself, with an evaluator of known results: what it learns, and what the walk is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from edgerec.api import TrainRequest, job_of
from edgerec.budget import Budget
from edgerec.data import split as split_interactions
from edgerec.data import synthetic
from edgerec.methods import Job
from edgerec.methods.ciess.agent import levelled
from edgerec.methods.ciess.config import CIESSConfig
from edgerec.methods.ciess.search import Explorer
from edgerec.methods.ciess.visits import Visits
from edgerec.methods.search.evaluator import Evaluation
from edgerec.models import SizePlan

D = 32
SEARCH = CIESSConfig(
    episodes=4, cost=0.0, log_sizes=False, shared_noise=False, holdout_reward=False, updates=2, batch=64
)


@cache
def job() -> Job:
    request = TrainRequest.make("ials", "ciess", budget="20%", dimensions=D, split="random:50/25/25")
    parts = split_interactions(synthetic(n_users=120, n_items=80, n=3000, seed=1), request.split)
    return job_of(request, parts, fit=None)  # type: ignore[arg-type]


def on_all_parts(users: Any) -> Evaluation:
    """Users that are as good on either half of the validation part as on the whole."""
    return Evaluation(np.tile(np.asarray(users, np.float32), (3, 1)))


class Target:
    """Users are the better, the nearer their sizes are to `best`; whatever the items have."""

    def __init__(self, best: np.ndarray) -> None:
        self.best = best

    def full(self) -> Evaluation:
        return on_all_parts(np.ones(self.best.size))

    def evaluate(self, plans: Sequence[SizePlan]) -> list[Evaluation]:
        return [on_all_parts(1 - np.abs(plan.users - self.best) / D) for plan in plans]


def run(evaluator: Target, *, seed: int = 0, **changes: Any) -> Visits:
    explorer = Explorer(replace(job(), seed=seed), evaluator, replace(SEARCH, **changes), None)  # type: ignore[arg-type]
    return explorer.run(lambda entry: None)


def users_quality(evaluator: Target, visits: Visits, last: int) -> float:
    """Of the users, in the last visits."""
    plans = [SizePlan(D, users.astype(np.int64)) for users, _ in visits.sizes[-last:]]
    return float(np.mean([evaluation.mean for evaluation in evaluator.evaluate(plans)]))


def test_it_finds_the_size_that_is_best() -> None:
    evaluator = Target(np.full(120, 26))
    visits = run(evaluator, episodes=3, updates=4)
    proposed = np.array([users.astype(np.float64).mean() for users, _ in visits.proposed])
    assert proposed[0] == pytest.approx((D + 1) / 2, abs=0.5)
    assert proposed[-10:].mean() == pytest.approx(26, abs=2.5)


@pytest.mark.slow
def test_memory_has_its_price() -> None:
    """Where nothing is lost by small sizes, and with the price the smaller the better."""
    evaluator = Target(np.full(120, 16))
    free, dear = (run(evaluator, cost=cost, episodes=3, updates=4) for cost in (0.0, 4.0))
    means = [np.mean([users.mean() for users, _ in visits.sizes[-10:]]) for visits in (free, dear)]
    assert means[1] < means[0] - 3


@pytest.mark.slow
def test_the_walk_finds_more_than_noise_alone_with_the_same_seeds() -> None:
    """The critic knows of better sizes before the actor follows: with the same seeds, noise and steps, what is visited
    with the walk is nearer to the best. Rows of two kinds that the state does not tell apart: no actor gets all right.
    """
    evaluator = Target(np.where(np.arange(120) % 2, 20, 28))
    gains = []
    for seed in range(3):
        with_walk, without = (
            users_quality(evaluator, run(evaluator, seed=seed, walk=walk), 10) for walk in (True, False)
        )
        gains.append(with_walk - without)
    assert sum(gain > 0 for gain in gains) >= 2
    assert np.mean(gains) > 0.02


def test_a_strict_search_visits_what_it_may_spend() -> None:
    visits = run(Target(np.full(120, 26)), cost=None, budgets="40%,20%,10%", log_sizes=True, episodes=6, updates=1)
    kept = visits.densities()
    for number, share in enumerate((0.4, 0.2, 0.1)):
        part = slice(20 * number, 20 * number + 20)
        assert kept[part] == pytest.approx(share, abs=0.5 / D)
        for users, items in visits.sizes[part]:
            assert users.sum() == round(share * D * 200 * 0.6)
            assert items.sum() == round(share * D * 200) - users.sum()


@pytest.mark.parametrize("share", ["7.31%", "10.01%", "33.34%"])
def test_what_a_strict_search_visits_is_within_the_budget_of_that_share(share: str) -> None:
    """To the value, also where the share is no whole number of them: it may then ship as it is."""
    budget = Budget.parse(share)
    allowed = budget.values(200, D)
    visits = run(Target(np.full(120, 26)), cost=None, budgets=share, log_sizes=True, episodes=1, updates=1)
    assert {int(users.sum() + items.sum()) for users, items in visits.sizes} == {allowed}


class Lucky:
    """A user's metric at a size is random, and differs between the halves of the validation part."""

    def __init__(self) -> None:
        self.metric = np.random.default_rng(5).uniform(0, 1, (2, 120, D + 1)).astype(np.float32)

    def full(self) -> Evaluation:
        return on_all_parts(np.ones(120))

    def evaluate(self, plans: Sequence[SizePlan]) -> list[Evaluation]:
        both = [self.metric[:, np.arange(120), plan.users] for plan in plans]
        return [Evaluation(np.stack([halves.mean(0), *halves])) for halves in both]


@pytest.mark.slow
def test_agents_do_not_overfit_to_the_validation_part() -> None:
    """An agent that is paid for what it sees keeps each row at sizes with which it was lucky."""
    evaluator = Lucky()

    def gain(seed: int, *, holdout_reward: bool) -> float:
        """From the first episode to the last two, on the half that is seen."""
        visits = run(evaluator, seed=seed, holdout_reward=holdout_reward, episodes=5, updates=8, batch=256)
        plans = [SizePlan(D, users.astype(np.int64)) for users, _ in visits.sizes]
        shown = np.array([evaluation.evals[1].mean() for evaluation in evaluator.evaluate(plans)])
        return float(shown[-20:].mean() - shown[:10].mean())

    assert gain(0, holdout_reward=False) > 0.01
    assert gain(0, holdout_reward=True) < 0.005


class Tilted:
    """All users do the better, the nearer sizes are to a tilt of the items and a balance of the sides: no row's quality
    says anything of its own size, as with real items, whose quality is a mean over their users."""

    def __init__(self) -> None:
        counts = job().split.train.item_counts()
        self.popular = counts > np.median(counts)

    def full(self) -> Evaluation:
        return on_all_parts(np.ones(120))

    def evaluate(self, plans: Sequence[SizePlan]) -> list[Evaluation]:
        return [on_all_parts(np.full(120, self.metric(plan.users, plan.items))) for plan in plans]

    def metric(self, users: Any, items: Any) -> float:
        tilt = np.log(items[self.popular].mean() / items[~self.popular].mean())
        balance = np.log(users.mean() / items.mean())
        return float(1 - 0.2 * abs(tilt - 1) - 0.2 * abs(balance - 0.5))


@pytest.mark.slow
def test_noise_in_common_finds_what_no_row_knows() -> None:
    """With noise of their own alone all tables are alike, and there is nothing to learn from."""
    evaluator = Tilted()
    wanted: dict[str, Any] = {"cost": None, "budgets": "25%", "log_sizes": True, "episodes": 6, "updates": 4}
    alone, common = (run(evaluator, shared_noise=common, **wanted) for common in (False, True))
    for visits in (alone, common):
        assert visits.densities() == pytest.approx(0.25, abs=0.5 / D)
    bests = [max(evaluator.metric(*pair) for pair in visits.sizes) for visits in (alone, common)]
    assert 1 - bests[1] < (1 - bests[0]) / 2
    proposed = [np.mean([evaluator.metric(*pair) for pair in visits.proposed[-5:]]) for visits in (alone, common)]
    assert proposed[1] > proposed[0] + 0.05


def test_one_lane_or_two_visit_all_episodes() -> None:
    evaluator = Target(np.full(120, 20))
    one, two = (run(evaluator, parallel_episodes=lanes, updates=1) for lanes in (1, 2))
    assert [entry["episode"] for entry in one.entries] == np.repeat(np.arange(4), 10).tolist()
    assert [entry["episode"] for entry in two.entries] == [0, 1] * 10 + [2, 3] * 10
    assert [entry["iteration"] for entry in two.entries] == list(range(40))
    # Lanes explore on their own.
    assert not np.array_equal(two.sizes[0][0], two.sizes[1][0])


def test_in_the_code_all_rows_have_the_same_noise() -> None:
    """One number an iteration, after the walk; at first the actor proposes nearly the same for all."""
    evaluator = Target(np.full(120, 20))
    for after, spread in ((True, 1), (False, 4)):
        first = run(evaluator, episodes=1, walk=False, noise_after_critic=after).sizes[0][0]
        assert (np.ptp(first) <= 1) == after
        assert np.ptp(first) >= 0 if after else np.ptp(first) > spread


def test_a_level_is_met_in_proportion() -> None:
    sizes = np.array([2.0, 4.0, 8.0, 16.0])
    assert levelled(sizes, 3.75, D) == pytest.approx(sizes / 2)
    assert levelled(sizes, 1.0, D) == pytest.approx([1, 1, 1, 1], abs=1e-6)
    assert levelled(sizes, D, D) == pytest.approx([D] * 4, abs=1e-6)
    assert levelled(sizes, 6.0, 8).mean() == pytest.approx(6)
