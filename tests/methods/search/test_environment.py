"""States, qualities and rewards, by hand on a matrix of three users and three items; and the noise."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.data import Interactions
from edgerec.methods.ciess.agent import noise
from edgerec.methods.ciess.environment import Environment, Rules

D = 8
FULL = np.array([0.5, 0.0, np.nan], np.float32)


def pair(rules: Rules) -> tuple[Rules, Rules]:
    return rules, rules


@pytest.fixture
def train() -> Interactions:
    """User 0 has items 0 and 1, user 1 has item 1, user 2 items 1 and 2."""
    return Interactions.from_pairs([0, 0, 1, 2, 2], [0, 1, 1, 1, 2])


def test_items_have_the_mean_of_the_users_that_have_them(train: Interactions) -> None:
    environment = Environment(train, FULL, D, pair(Rules(0.4)))
    # Item 0: user 0; item 1: users 0 and 1; item 2: user 2 alone, of whom nothing is known.
    assert environment.known[0].tolist() == [True, True, False]
    assert environment.known[1].tolist() == [True, True, False]
    users, items = environment.quality(np.array([0.25, 0.0, np.nan], np.float32))
    # User 1 loses nothing where the full model does nothing; user 2 has the mean of the others.
    assert users == pytest.approx([0.5, 1.0, 0.75])
    assert items == pytest.approx([0.5, 0.5, 0.5])
    assert environment.mean_quality((users, items)) == pytest.approx((0.5 + 1 + 0.5 + 0.5) / 4)


def test_quality_is_at_most_one_and_in_the_code_the_metric_itself(train: Interactions) -> None:
    better = np.array([0.75, 0.5, np.nan], np.float32)
    users, items = Environment(train, FULL, D, pair(Rules(0.4))).quality(better)
    assert users.tolist() == [1, 1, 1]
    assert items.tolist() == [1, 1, 1]
    users, items = Environment(train, FULL, D, pair(Rules(0.4, ratio=False))).quality(better)
    assert users == pytest.approx([0.75, 0.5, 0.625])
    assert items == pytest.approx([0.75, 0.625, 0.6875])


def test_the_reward_is_quality_less_memory(train: Interactions) -> None:
    sizes, quality = np.array([1, 4, 8]), np.array([0.2, 0.5, 1.0], np.float32)
    paper = Environment(train, FULL, D, pair(Rules(0.4))).reward(0, quality, sizes)
    assert paper == pytest.approx(quality - 0.4 * np.array([1 / 64, 1 / 4, 1]))
    code = Environment(train, FULL, D, pair(Rules(0.4, zero_based_cost=True))).reward(0, quality, sizes)
    assert code == pytest.approx(quality - 0.4 * np.array([0, 9 / 64, 49 / 64]))


@pytest.mark.parametrize("log", [False, True])
def test_states_are_popularity_size_and_quality_from_minus_one_to_one(train: Interactions, log: bool) -> None:
    environment = Environment(train, FULL, D, pair(Rules(0.4)), log=log)
    states = environment.states(1, slice(None), np.array([1, 8, 2]), np.array([0, 1, 0.5], np.float32))
    assert states.dtype == np.float32
    assert states[:, 0].tolist() == [-1, 1, -1]  # item 1 has three users, the others one
    assert states[:, 1] == pytest.approx([-1, 1, -1 + 2 / 3] if log else [-0.75, 1, -0.5])
    assert states[:, 2].tolist() == [-1, 1, 0]
    some = environment.states(1, np.array([2, 0]), np.array([2, 1]), np.array([0.5, 0], np.float32))
    assert np.array_equal(some, states[[2, 0]])


def test_rows_of_equal_popularity_are_no_division_by_zero() -> None:
    include_uniform_baseline = Interactions.from_pairs([0, 1], [0, 1])
    environment = Environment(include_uniform_baseline, np.ones(2, np.float32), 1, pair(Rules(0.4)), log=True)
    assert np.isfinite(environment.states(0, slice(None), np.ones(2, np.int64), np.ones(2, np.float32))).all()


def test_noise_is_the_papers_and_scaled_to_the_dimensions() -> None:
    for d, scale in ((128, 1.0), (64, 0.5)):
        gauss = noise("gauss", 100_000, d, [[1, 0]])
        assert gauss.std() == pytest.approx(6 * scale, rel=0.02)
        uniform = noise("uniform", 100_000, d, [[1, 0]])
        assert 10.9 * scale < uniform.max() <= 11 * scale
        assert -11 * scale <= uniform.min() < -10.9 * scale
        steps = [[1, at] for at in range(10)]
        first, later = (noise("ou", 100_000, d, steps[:count]) for count in (1, 10))
        assert first.std() == pytest.approx(4 * scale, rel=0.02)
        pull = 1 - 0.15 * 0.01
        assert later.std() == pytest.approx(4 * scale * np.sqrt(sum(pull ** (2 * k) for k in range(10))), rel=0.02)


def test_the_process_goes_on_from_where_it_was() -> None:
    steps = [[1, at] for at in range(3)]
    before, now = noise("ou", 5, 128, steps[:2]), noise("ou", 5, 128, steps)
    assert np.array_equal(noise("ou", 5, 128, steps), now)
    drawn = np.random.default_rng(steps[2]).standard_normal(5)
    assert now == pytest.approx(before * (1 - 0.15 * 0.01) + 40 * 0.1 * drawn)
