"""SAC on toy problems with a known best action, its densities, and its entropy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from edgerec.errors import SettingError
from edgerec.methods.search.actor_critic import SAC, Batch, SACConfig

TOY = SACConfig(gamma=0.0, tau=0.05, entropy=0.01, actor_lr=3e-3, critic_lr=3e-3, decay=0.0, norm=10.0, hidden=32)


def best(states: np.ndarray) -> np.ndarray:
    """(n, 3) the best action of a state: each number follows one of it."""
    return np.asarray(np.stack([0.5 + 0.3 * states[:, 0], 0.5 - 0.3 * states[:, 1], np.full(len(states), 0.8)], 1))


def bandit(rng: np.random.Generator, n: int = 128) -> Batch:
    """The reward falls with the square of the distance to the best action; the next state is any."""
    states, following = (rng.uniform(-1, 1, (n, 2)).astype(np.float32) for _ in range(2))
    actions = rng.random((n, 3)).astype(np.float32)
    rewards = 1 - 4 * np.square(actions - best(states)).sum(1)
    return Batch(states, actions, rewards.astype(np.float32), following)


@pytest.fixture(scope="module")
def learnt() -> SAC:
    agent, rng = SAC(2, 3, TOY, seed=0), np.random.default_rng(0)
    for _ in range(600):
        agent.update(bandit(rng))
    return agent


@pytest.mark.slow
def test_it_finds_the_best_action_of_each_state(learnt: SAC) -> None:
    states = np.random.default_rng(1).uniform(-0.9, 0.9, (200, 2)).astype(np.float32)
    assert np.abs(learnt.act(states) - best(states)).max() < 0.15
    assert np.abs(learnt.act(states) - best(states)).mean() < 0.05


def test_what_it_tries_is_around_what_it_thinks_best(learnt: SAC) -> None:
    states = np.zeros((500, 2), np.float32)
    tried = learnt.explore(states, np.random.default_rng(2))
    assert ((tried > 0) & (tried < 1)).all()
    assert np.abs(tried.mean(0) - learnt.act(states[:1])[0]).max() < 0.05
    assert tried.std(0).min() > 0.005


def test_critics_know_the_reward(learnt: SAC) -> None:
    batch = bandit(np.random.default_rng(3), 200)
    assert np.abs(learnt.value(batch.states, batch.actions) - batch.rewards).mean() < 0.2


def chain(rng: np.random.Generator, n: int = 128) -> Batch:
    """Large actions are paid at once, small ones lead to the state 1 that is paid well whatever is done there."""
    states = rng.choice([-1.0, 1.0], (n, 1)).astype(np.float32)
    actions = rng.random((n, 1)).astype(np.float32)
    rewards = np.where(states[:, 0] > 0, 1.0, 0.0) + 0.2 * (2 * actions[:, 0] - 1)
    following = np.where(actions < 0.5, 1.0, -1.0).astype(np.float32)
    return Batch(states, actions, rewards.astype(np.float32), following)


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "small"), [(0.0, False), (0.9, True)])
def test_the_discount_decides_between_now_and_later(gamma: float, small: bool) -> None:
    agent, rng = SAC(1, 1, replace(TOY, gamma=gamma), seed=1), np.random.default_rng(1)
    for _ in range(400):
        agent.update(chain(rng))
    actions = agent.act(np.array([[-1.0], [1.0]], np.float32))
    assert (actions < 0.5).all() if small else (actions > 0.7).all()


@pytest.mark.slow
@pytest.mark.parametrize("entropy", [0.02, 1.0])
def test_the_weight_of_the_entropy_decides_how_widely_it_tries(entropy: float) -> None:
    """With rewards of nothing but a small slope, a heavy entropy leaves the policy near uniform."""
    agent, rng = SAC(2, 3, replace(TOY, entropy=entropy), seed=2), np.random.default_rng(2)
    told = [agent.update(bandit(rng))["entropy"] for _ in range(400)]
    tried = agent.explore(np.zeros((2000, 2), np.float32), rng)
    # A uniform number in -1..1 has the entropy log 2.
    assert (np.mean(told[-50:]) > 3 * np.log(2) - 0.6) == (entropy == 1.0)
    assert (tried.std(0).mean() > 0.2) == (entropy == 1.0)


def test_densities_are_those_of_the_squashed_normal() -> None:
    """Against the histogram of what is drawn."""
    agent = SAC(2, 1, replace(TOY, spread=0.7), seed=3, begin=np.array([0.7], np.float32))
    with torch.no_grad():
        drawn, density = agent._draw(torch.zeros(200_000, 2))
    counts, edges = np.histogram(drawn.numpy(), 40, (-1, 1), density=True)
    place = np.clip(np.searchsorted(edges, drawn[:, 0].numpy(), side="right") - 1, 0, 39)
    mean = np.bincount(place, np.exp(density.numpy()), 40) / np.maximum(np.bincount(place, minlength=40), 1)
    # At the ends a bin is too wide for its middle to stand for it.
    middle = np.flatnonzero(counts > 0.2)[1:-1]
    assert np.abs(mean[middle] / counts[middle] - 1).max() < 0.1


def test_it_begins_where_it_is_told() -> None:
    begin = np.array([0.2, 0.9, 0.5], np.float32)
    agent = SAC(4, 3, SACConfig(hidden=64, spread=0.3), seed=0, begin=begin)
    states = np.random.default_rng(0).uniform(0, 1, (50, 4)).astype(np.float32)
    assert np.abs(agent.act(states) - begin).max() < 0.05
    assert np.allclose(SAC(4, 3, SACConfig(hidden=64), seed=0).act(states), 0.5, atol=0.2)


def trained(agent: SAC, rng: np.random.Generator, steps: int) -> SAC:
    for _ in range(steps):
        agent.update(bandit(rng, 32))
    return agent


def test_a_seed_decides_and_a_state_goes_on_to_the_bit() -> None:
    whole = trained(SAC(2, 3, TOY, seed=5), np.random.default_rng(6), 20).state()
    rng = np.random.default_rng(6)
    half = trained(SAC(2, 3, TOY, seed=5), rng, 8).state()
    rest = SAC(2, 3, TOY, seed=5)
    rest.restore({name: value.copy() for name, value in half.items()})
    again = trained(rest, rng, 12).state()
    assert whole.keys() == again.keys()
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    other = trained(SAC(2, 3, TOY, seed=7), np.random.default_rng(6), 20).state()
    assert not np.array_equal(whole["actor.0"], other["actor.0"])


@pytest.mark.parametrize("settings", [{"gamma": 2}, {"tau": 0}, {"entropy": -1}, {"hidden": 0}, {"spread": 0.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        SACConfig(**settings)
