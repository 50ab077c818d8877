"""BET's sampler: every action within the budget and its bounds, larger sizes for more frequent rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgerec.budget import SizeBudget
from edgerec.methods.search.sampler import FAMILIES, Action, Sampler
from edgerec.models import SizePlan


def counts(n: int, seed: int) -> NDArray[np.int64]:
    return np.floor(np.random.default_rng(seed).lognormal(2.0, 1.2, n)).astype(np.int64)


def both(plan: SizePlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    assert plan.users is not None
    assert plan.items is not None
    return plan.users, plan.items


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.2, 0.1, 0.05])
def test_thousands_of_actions_keep_the_budget_and_the_bounds(density: float) -> None:
    """700 each at 80, 90 and 95 % sparsity; their authors' rounding exceeds the budget in 3 to 9.5 % of actions."""
    d, rng = 128, np.random.default_rng(0)
    sampler = Sampler(counts(150, 1), counts(200, 2), SizeBudget(150, 200, int(density * d * 350), d))
    for _ in range(700):
        users, items = both(sampler.plan(sampler.draw(rng)))
        assert users.sum() + items.sum() == sampler.budget.total
        assert min(users.min(), items.min()) >= 1
        assert max(users.max(), items.max()) <= d


@settings(max_examples=300, deadline=None)
@given(
    families=st.tuples(*[st.sampled_from(list(FAMILIES))] * 2),
    shapes=st.tuples(*[st.floats(0, 1)] * 2),
    share=st.floats(0, 1),
    seed=st.integers(0, (1 << 32) - 1),
    rows=st.tuples(*[st.integers(1, 40)] * 2),
    d=st.integers(1, 40),
    data=st.data(),
)
def test_any_action_keeps_any_budget(
    families: tuple[str, str],
    shapes: tuple[float, float],
    share: float,
    seed: int,
    rows: tuple[int, int],
    d: int,
    data: st.DataObject,
) -> None:
    """The ends of all ranges too: shapes of 0, all of the budget to one side, the smallest and the largest budget."""
    total = data.draw(st.integers(sum(rows), sum(rows) * d))
    scaled = (shapes[0] * FAMILIES[families[0]][1], shapes[1] * FAMILIES[families[1]][1])
    user_counts, item_counts = counts(rows[0], 1), counts(rows[1], 2)
    sampler = Sampler(user_counts, item_counts, SizeBudget(*rows, total, d))
    users, items = both(sampler.plan(Action(families, scaled, share, seed)))
    assert users.sum() + items.sum() == total
    for sizes, frequencies in ((users, user_counts), (items, item_counts)):
        assert ((sizes >= 1) & (sizes <= d)).all()
        assert (np.diff(sizes[np.argsort(-frequencies, kind="stable")]) <= 0).all()


def test_an_action_is_its_parameters() -> None:
    sampler, rng = Sampler(counts(50, 1), counts(70, 2), SizeBudget(50, 70, 1000, 32)), np.random.default_rng(0)
    action = sampler.draw(rng)
    again = Action.from_json(action.to_json())
    assert again == action
    for one, other in zip(both(sampler.plan(action)), both(sampler.plan(again)), strict=True):
        assert np.array_equal(one, other)


def test_all_families_are_drawn_and_the_shares_are_uniform() -> None:
    sampler, rng = Sampler(counts(5, 1), counts(5, 2), SizeBudget(5, 5, 50, 8)), np.random.default_rng(0)
    drawn = [sampler.draw(rng) for _ in range(4000)]
    pairs, often = np.unique([action.families for action in drawn], axis=0, return_counts=True)
    assert len(pairs) == 16
    assert often.min() > 4000 / 16 - 5 * np.sqrt(4000 / 16)
    assert np.mean([action.share for action in drawn]) == pytest.approx(0.5, abs=0.02)
    shapes = [action.shapes[0] / FAMILIES[action.families[0]][1] for action in drawn]
    assert np.quantile(shapes, [0, 0.5, 1]) == pytest.approx([0, 0.5, 1], abs=0.03)


@pytest.mark.parametrize("family", FAMILIES)
def test_values_follow_their_distribution(family: str) -> None:
    """Against scipy's distributions, which the authors' code takes, at five points of each."""
    stats = pytest.importorskip("scipy.stats")
    inverse, largest = FAMILIES[family]
    shape, places = 0.7 * largest, np.array([0.01, 0.2, 0.5, 0.8, 0.99])
    expected = {
        "power law": stats.powerlaw(shape),
        "truncated exponential": stats.truncexpon(shape),
        "truncated normal": stats.truncnorm(0, shape),
        "log-normal": stats.lognorm(shape),
    }[family].ppf(places)
    assert inverse(places, shape) == pytest.approx(expected, rel=1e-9)


def test_few_widths_where_a_bundles_bytes_are_the_budget() -> None:
    sampler = Sampler(counts(400, 1), counts(500, 2), SizeBudget(400, 500, 9000, 64, 4, 4))
    rng = np.random.default_rng(0)
    for _ in range(20):
        users, items = both(sampler.plan(sampler.draw(rng)))
        assert max(np.unique(users).size, np.unique(items).size) <= 4
        assert 0.9 * 9000 < users.sum() + items.sum() <= 9000
