"""TD3 on toy problems with a known best action, and each of its three parts where leaving it out shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from edgerec.errors import SettingError
from edgerec.methods.search.actor_critic import TD3, Batch, TD3Config

TOY = TD3Config(1, 21, gamma=0.0, hidden=32, norm=1.0, tau=0.05, smoothing=0.3, clip=0.8)


def best(states: np.ndarray) -> np.ndarray:
    """The best action of a state: from 5 to 17."""
    return np.asarray(11 + 6 * states[:, 0])


def bandit(rng: np.random.Generator, n: int = 256) -> Batch:
    """The reward falls with the square of the distance to the best action; the next state is any."""
    states, following = (rng.uniform(-1, 1, (n, 2)).astype(np.float32) for _ in range(2))
    actions = rng.uniform(1, 21, n).astype(np.float32)
    rewards = 1 - ((actions - best(states)) / 10) ** 2
    return Batch(states, actions, rewards.astype(np.float32), following)


@pytest.mark.slow
def test_it_finds_the_best_action_of_each_state() -> None:
    agent, rng = TD3(2, TOY, seed=0), np.random.default_rng(0)
    for _ in range(1000):
        agent.update(bandit(rng))
    states = rng.uniform(-0.9, 0.9, (200, 2)).astype(np.float32)
    assert np.abs(agent.act(states) - best(states)).max() < 1.5
    offered = np.tile(np.linspace(1, 21, 81, dtype=np.float32), (200, 1))
    chosen = offered[0][agent.value(states, offered).argmax(1)]
    assert np.abs(chosen - best(states)).max() < 2


def chain(rng: np.random.Generator, n: int = 256) -> Batch:
    """Large actions are paid at once, small ones lead to the state 1 that is paid well whatever is done there."""
    states = rng.choice([-1.0, 1.0], (n, 1)).astype(np.float32)
    actions = rng.uniform(1, 21, n).astype(np.float32)
    rewards = np.where(states[:, 0] > 0, 1.0, 0.0) + 0.2 * (actions - 11) / 10
    following = np.where(actions < 11, 1.0, -1.0).astype(np.float32)[:, None]
    return Batch(states, actions, rewards.astype(np.float32), following)


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "small"), [(0.0, False), (0.9, True)])
def test_the_discount_decides_between_now_and_later(gamma: float, small: bool) -> None:
    agent, rng = TD3(1, replace(TOY, gamma=gamma), seed=1), np.random.default_rng(1)
    for _ in range(900):
        agent.update(chain(rng))
    actions = agent.act(np.array([[-1.0], [1.0]], np.float32))
    # Just below 11 is paid the most of what leads to the good state.
    assert ((actions > 6) & (actions < 11)).all() if small else (actions > 14).all()


def test_the_smaller_twin_is_learnt_from() -> None:
    """With target critics of constant values 3 and -2 the target is r + gamma * -2; with one, r + gamma * 3."""
    for twins, expected in ((2, 1 + 0.5 * -2), (1, 1 + 0.5 * 3)):
        agent = TD3(1, replace(TOY, gamma=0.5, twins=twins), seed=0)
        state = agent.state()
        for critic, constant in zip(range(twins), (3.0, -2.0), strict=False):
            last = 6 * critic + 5  # two parameters a layer, three layers a critic
            state[f"critics_target.{last - 1}"][:] = 0
            state[f"critics_target.{last}"][:] = constant
        agent.restore(state)
        ones = Batch(*(np.ones(shape, np.float32) for shape in ((4, 1), (4,), (4,), (4, 1))))
        assert agent.update(ones)["value"] == pytest.approx(expected)


def targets(config: TD3Config, repeats: int = 40) -> np.ndarray:
    """Mean targets of fresh agents' first updates, of one batch and networks, and other noise."""
    rng = np.random.default_rng(0)
    batch = Batch(*(rng.uniform(-1, 1, s).astype(np.float32) for s in ((1, 1), (1,), (1,), (1, 1))))
    agent = TD3(1, config, seed=0)
    state, found = agent.state(), []
    for seed in range(repeats):
        generator = torch.Generator().manual_seed(seed)
        agent.restore({**state, "generator": generator.get_state().numpy()})
        found.append(agent.update(batch)["value"])
    return np.array(found)


def test_target_actions_are_smoothed_by_clipped_noise() -> None:
    still = targets(replace(TOY, gamma=0.9, smoothing=0.0))
    smoothed = targets(replace(TOY, gamma=0.9, smoothing=2.0, clip=100.0))
    clipped = targets(replace(TOY, gamma=0.9, smoothing=2.0, clip=0.01))
    assert np.ptp(still) == 0
    assert np.ptp(smoothed) > 0
    assert np.ptp(clipped) < np.ptp(smoothed) / 10


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_the_actor_and_the_targets_follow_every_so_many_steps(delay: int) -> None:
    agent, rng = TD3(2, replace(TOY, delay=delay), seed=0), np.random.default_rng(0)
    for step in range(1, 7):
        before = agent.state()
        agent.update(bandit(rng))
        after = agent.state()
        changed = {
            name: any(not np.array_equal(after[key], before[key]) for key in after if key.startswith(f"{name}."))
            for name in ("actor", "critics", "actor_target", "critics_target")
        }
        due = step % delay == 0
        assert changed == {"actor": due, "critics": True, "actor_target": due, "critics_target": due}


def test_targets_move_by_tau() -> None:
    agent, rng = TD3(2, replace(TOY, delay=1, tau=0.25), seed=0), np.random.default_rng(0)
    agent.update(bandit(rng))
    before = agent.state()
    agent.update(bandit(rng))
    after = agent.state()
    for key in (key for key in after if key.startswith("actor_target.")):
        followed = after["actor." + key.split(".")[1]]
        assert np.allclose(after[key], 0.75 * before[key] + 0.25 * followed, atol=1e-6)


def test_it_is_restored_to_the_bit() -> None:
    rng = np.random.default_rng(3)
    batches = [bandit(rng) for _ in range(9)]
    whole = TD3(2, TOY, seed=5)
    for batch in batches:
        whole.update(batch)
    halves = TD3(2, TOY, seed=5)
    for batch in batches[:4]:
        halves.update(batch)
    stored = halves.state()
    again = TD3(2, TOY, seed=77)
    again.restore(stored)
    for batch in batches[4:]:
        again.update(batch)
    one, other = whole.state(), again.state()
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_actions_stay_in_range_and_start_in_the_middle() -> None:
    states = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    agent = TD3(2, TD3Config(1, 128), seed=0)
    assert np.abs(agent.act(states) - 64.5).max() < 2
    state = agent.state()
    for sign, end in ((1, 128), (-1, 1)):
        state["actor.5"][:] = sign * 1e6
        agent.restore(state)
        assert (agent.act(states) == end).all()


@pytest.mark.parametrize("wrong", [{"gamma": 1.5}, {"delay": 0}, {"high": 0}, {"twins": 3}, {"tau": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        replace(TOY, **wrong)
