"""The agent of users or of items: an actor proposes a size, a walk visits nearby ones, and a critic chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.ciess.environment import AgentEnvironment, Replay
from edgerec.methods.search.actor_critic import TD3, Batch, TD3Config
from edgerec.models import State, check_range

Sizes = NDArray[np.int64]


class Walk:
    """A random walk on the sizes 1..d_max, in which sizes at a distance of at most `reach` are neighbours.

    A step goes to a neighbour with a probability proportional to 1 / distance, as in the authors' code; it stays only
    if there is no other size.
    """

    def __init__(self, d_max: int, reach: int = 5) -> None:
        """Prepare the steps. Raises SettingError for less than one size, or a reach below one."""
        check_range("d_max", d_max, 1, 1e9)
        check_range("reach", reach, 1, 1e9)
        self.d_max = d_max
        self._offsets = np.array([s for s in range(-min(reach, d_max), min(reach, d_max) + 1) if s != 0])
        ends = np.arange(1, d_max + 1)[:, None] + self._offsets
        weights = np.where((ends >= 1) & (ends <= d_max), 1 / np.abs(self._offsets), 0.0)
        total = weights.sum(1, keepdims=True)
        self._cumulated = np.cumsum(weights / np.where(total > 0, total, 1), axis=1)

    def step(self, sizes: Sizes, rng: np.random.Generator) -> Sizes:
        """Return (n,) sizes one step from (n,) sizes in 1..d_max, drawn independently."""
        if self.d_max == 1:
            return sizes.copy()
        rows = self._cumulated[sizes - 1]
        # The first cumulated weight strictly above a number below the last one: an offset of weight zero is never
        # drawn, whatever the rounding errors.
        drawn = rng.random(sizes.size) * rows[:, -1]
        ends: Sizes = sizes + self._offsets[(rows <= drawn[:, None]).sum(1)]
        return ends

    def visited(self, start: Sizes, steps: int, rng: np.random.Generator) -> Sizes:
        """Return (n, steps + 1) sizes: the start and the sizes after each of `steps` steps."""
        at = [start]
        for _ in range(steps):
            at.append(self.step(at[-1], rng))
        return np.stack(at, axis=1)


def nearest_size(actions: NDArray[np.floating], d_max: int) -> Sizes:
    """Return the (n,) sizes in 1..d_max nearest to (n,) real actions."""
    sizes: Sizes = np.clip(np.rint(actions), 1, d_max).astype(np.int64)
    return sizes


PAPER_D = 128
"""Dimensions of a full row in the paper; its noise is scaled to those of the table."""
# CIESS's noise, in dimensions of 128; `noise` explains each.
_GAUSS = 6.0
_UNIFORM = 11.0
_OU_STD, _OU_PULL, _OU_STEP = 40.0, 0.15, 0.01


def noise(kind: str, n: int, d: int, seeds: list[list[int]]) -> NDArray[np.float64]:
    """Return (n,) noise on sizes 1..d.

    'gauss' has a standard deviation of 6, 'uniform' reaches from -11 to 11, and 'ou' is an Ornstein-Uhlenbeck process
    (standard deviation 40, mean reversion 0.15, time step 0.01) that starts at 0 with each episode. These are CIESS's
    values for 128 dimensions, scaled to d.

    Args:
        seeds: one for each iteration of the episode up to this one.
    """
    scale = d / PAPER_D
    rng = np.random.default_rng(seeds[-1])
    if kind == "gauss":
        return rng.normal(0, _GAUSS * scale, n)
    if kind == "uniform":
        return rng.uniform(-_UNIFORM * scale, _UNIFORM * scale, n)
    at = np.zeros(n)
    for seed in seeds:
        drawn = np.random.default_rng(seed).standard_normal(n)
        at += -_OU_PULL * at * _OU_STEP + _OU_STD * np.sqrt(_OU_STEP) * drawn
    return at * scale


Floats = NDArray[np.float32]

WALK_STEPS, WALK_REACH = 5, 5
"""Steps and reach of the walk (CIESS, section 3.3), which visits six sizes, the start included."""
_MIN_NOISE_SHARE = 1 / 6
"""Minimum factor of the noise for small sizes: 1 / 6 of the paper's 6 dimensions is one dimension of 128."""


@dataclass(frozen=True)
class Exploring:
    """Settings of an agent's exploration.

    Attributes:
        noise: 'gauss', 'ou' or 'uniform'.
        walk: True if a critic chooses among the sizes of a walk.
        after_critic: add noise to the critic's choice, one number for all rows, as in the authors' code; else to the
            actor's proposal, one a row, as in the paper.
    """

    noise: str = "gauss"
    walk: bool = True
    after_critic: bool = False


@dataclass(frozen=True)
class AgentAction:
    """The action of an agent for all rows.

    Attributes:
        sizes: (n,) sizes to evaluate.
        proposed: (n,) float32 sizes of the actor before noise and walk, scaled to the required mean.
        proposed_mean: their mean before scaling.
    """

    sizes: Sizes
    proposed: Floats
    proposed_mean: float


class Agent:
    """Chooses sizes for the users, or the items, of an environment, and learns from their rewards.

    With logarithmic sizes (ours), noise and walk shrink with the proposed sizes: noise of 6 dimensions suits sizes
    around 64, the middle of the paper's range, and drowns sizes around 6.
    """

    def __init__(
        self,
        environment: AgentEnvironment,
        side: int,
        d: int,
        exploring: Exploring,
        *,
        log: bool,
        begin: float,
        gamma: float,
        memory: int,
        lanes: int,
        seed: int,
    ) -> None:
        """Initialise an agent.

        Args:
            environment: environment of the rewarded quality.
            side: 0 for users, 1 for items.
            log: True to see sizes by their logarithm.
            begin: approximate size that the untrained actor proposes.
            gamma: discount.
            memory: number of replayed visits.
            lanes: number of parallel episodes, whose visits are interleaved.
        """
        self._environment, self._side, self._d, self._exploring, self._log = environment, side, d, exploring, log
        high = float(np.log(d)) if log else d
        unit = (high - self._low) / (PAPER_D - 1)  # TD3's target noise: 2 of the paper's dimensions, clipped at 5
        config = TD3Config(self._low, high, gamma=gamma, smoothing=2 * unit, clip=5 * unit)
        self._td3, self._seed = TD3(3, config, seed, begin=float(self._seen(np.array(begin)))), seed
        popularity = environment.popularity[side]
        self._popularity = popularity - popularity.mean()
        known = environment.known[side]
        self.replay = Replay(known.size, d, memory, known, lanes)

    @property
    def _low(self) -> float:
        return 0.0 if self._log else 1.0

    def _seen(self, sizes: NDArray[Any]) -> Floats:
        """Return sizes as inputs of the networks."""
        return (np.log(sizes) if self._log else sizes).astype(np.float32)

    def full(self) -> tuple[Sizes, Floats]:
        """Return the start of an episode: full rows of quality 1."""
        n = self._environment.known[self._side].size
        return np.full(n, self._d, np.int64), np.ones(n, np.float32)

    def choose(
        self,
        sizes: Sizes,
        quality: Floats,
        episode: int,
        iteration: int,
        *,
        mean: float | None = None,
        tilt: float = 0.0,
    ) -> AgentAction:
        """Choose sizes for all rows, which have `sizes` (n,) and `quality` (n,) now.

        Args:
            mean: required mean of the sizes; None for any.
            tilt: logarithm of the factor by which the size of the most popular row grows relative to the least popular
                one; scales popularity 0..1 linearly.
        """
        states = self._environment.states(self._side, slice(None), sizes, quality)
        seeds = [[self._seed, episode, at] for at in range(iteration + 1)]
        acted, exploring = self._td3.act(states), self._exploring
        proposed = (np.exp(acted) if self._log else acted).astype(np.float64)
        plain, level = (
            np.clip(own, 1, self._d) if mean is None else levelled(own, mean, self._d, self._environment.weights)
            for own in (proposed, proposed * np.exp(tilt * self._popularity))
        )
        spread = np.maximum(level / (self._d / 2), _MIN_NOISE_SHARE) if self._log else np.ones(sizes.size)
        chosen = nearest_size(level, self._d)
        if not exploring.after_critic:
            chosen = nearest_size(level + spread * noise(exploring.noise, sizes.size, self._d, seeds), self._d)
        if exploring.walk:
            walk = Walk(self._d, max(round(WALK_REACH * min(float(spread.mean()), 1)), 1))
            visited = walk.visited(chosen, WALK_STEPS, np.random.default_rng([*seeds[-1], 1]))
            best = self._td3.value(states, self._seen(visited)).argmax(1)
            chosen = visited[np.arange(sizes.size), best]
        if exploring.after_critic:
            chosen = nearest_size(chosen + spread * noise(exploring.noise, 1, self._d, seeds), self._d)
        return AgentAction(chosen, plain.astype(np.float32), _mean(proposed, self._environment.weights))

    def learn(self, updates: int, batch: int, number: int) -> None:
        """Make `updates` steps on transitions of the replay memory, if it holds any; `number` seeds the draws."""
        rng = np.random.default_rng([self._seed, number])
        for _ in range(updates if len(self.replay) else 0):
            drawn = self.replay.draw(batch, rng)
            states, following = (
                self._environment.states(self._side, drawn.rows, sizes, quality)
                for sizes, quality in ((drawn.sizes_before, drawn.shown_before), (drawn.sizes, drawn.shown))
            )
            rewards = self._environment.reward(self._side, drawn.paid, drawn.sizes)
            self._td3.update(Batch(states, self._seen(drawn.sizes), rewards, following))

    def state(self) -> State:
        """Return the networks; the replay memory follows from the visits."""
        return self._td3.state()

    def restore(self, state: State) -> None:
        """Continue with the networks of `state()` of an agent with the same arguments."""
        self._td3.restore(state)


def levelled(
    sizes: NDArray[np.float64], mean: float, d: int, weights: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Return (n,) real sizes in 1..d in proportion to `sizes` (n,), with the given mean in 1..d, by `weights` (n,)."""
    low, high = np.log(1 / sizes.max()), np.log(d / sizes.min())
    for _ in range(60):
        middle = (low + high) / 2
        if _mean(np.clip(np.exp(middle) * sizes, 1, d), weights) > mean:
            high = middle
        else:
            low = middle
    level: NDArray[np.float64] = np.clip(np.exp(low) * sizes, 1, d)
    return level


def _mean(values: NDArray[np.float64], weights: NDArray[np.int64] | None) -> float:
    return float(values.mean() if weights is None else np.average(values, weights=weights))
