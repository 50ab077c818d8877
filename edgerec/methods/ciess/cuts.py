"""CIESS on the SVD: agents set bytes and bits of tiers of items, and every action is a cut of one decomposition.

As in `search.py` an agent's action is a size, a random walk leads to nearby ones, and the critic chooses one. Ours
here: without users, the two agents are one of bytes and one of bits, their entities are tiers of items of similar
popularity, and the budget is met before an action is evaluated (edgerec/methods/search/cuts.py). The quality of a tier
is the mean eval of its items' users over that of full rows; agents see it on one half of the users, and are rewarded
for it on the other. Noise that tiers share, the number of widths and the settings of the SVD start from one of the
fittest actions so far.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RunError
from edgerec.methods.base import Job
from edgerec.methods.ciess.agent import Agent, Exploring
from edgerec.methods.ciess.config import CIESSCutConfig
from edgerec.methods.ciess.environment import AgentEnvironment, Rules, scaled
from edgerec.methods.search.cuts import SETTINGS, Cut, CutSearch, CutSpace
from edgerec.methods.search.history import action_of
from edgerec.training import FitResult

Floats = NDArray[np.float32]

_BYTES, _BITS = "bytes", "bits"
_LOWEST_COST, _HIGHEST_COST = 0.01, 100.0
"""Limits of the cost of bytes, which follows the actor's proposals as in `search.py`."""
_TILT_STD, _BITS_STD = 2.0, 0.5
"""Standard deviations of shared noise: of the log ratio of the most to the least popular tier's bytes or bits, and of
the logarithm of the mean bits."""
_PARENTS = 15
"""Number of the fittest actions so far from which shared noise starts."""
_NEAR = 0.25
"""Standard deviation of noise that starts from one of them, over that of noise that does not."""
_SHARED, _AGENTS = 0, 2
"""First part of the seed of each random generator; 1 is that of the sample of users."""


@dataclass(frozen=True)
class TierAction:
    """The bytes and bits of all tiers, and settings of the SVD.

    Attributes:
        bytes, bits: size of each tier, the least popular first; no bits if all rows have the same.
        widths: maximum number of distinct sizes.
        tilts: log ratio of the most to the least popular tier that noise gives to bytes and bits.
        mean_bits: mean bits of a row before they are rounded.
        power, c: settings of the SVD.
        cost: cost of a full row in the reward of bytes.
    """

    bytes: tuple[int, ...]
    bits: tuple[int, ...]
    widths: int
    tilts: tuple[float, float]
    mean_bits: float
    power: float
    c: float
    cost: float

    def __post_init__(self) -> None:
        """Raise ValueError for sizes below one."""
        if min(*self.bytes, *self.bits, self.widths, 1) < 1:
            raise ValueError(f"there is no action with the bytes {self.bytes} and the bits {self.bits}")


class Tiers:
    """Tiers of items with similar numbers of interactions, the least popular first.

    They hold equal sums of the square root of the interactions, which is between as many rows and as many interactions.

    Attributes:
        of_items: (n_items,) tier of each item.
        sizes: (n,) items of each tier.
        popularity: (n,) mean logarithm of the interactions, scaled to 0..1.
    """

    def __init__(self, counts: NDArray[np.int64], number: int) -> None:
        """Divide items with interactions `counts` (n_items,) into at most `number` tiers."""
        values, inverse, rows = np.unique(counts, return_inverse=True, return_counts=True)
        share = rows * np.sqrt(values + 1.0)
        middle = (np.cumsum(share) - share / 2) / share.sum()
        _, tiers = np.unique((middle * number).astype(np.int64), return_inverse=True)
        self.of_items: NDArray[np.int64] = tiers[inverse]
        self.sizes: NDArray[np.int64] = np.bincount(self.of_items)
        self._seen = np.log1p(counts.astype(np.float64))
        self._means = np.bincount(self.of_items, self._seen) / self.sizes
        self.popularity = scaled(self._means, log=False)

    def rows(self, sizes: tuple[int, ...]) -> NDArray[np.float64]:
        """Return (n_items,) logarithms of sizes: those of the tiers (n,), and straight lines between their means."""
        return np.interp(self._seen, self._means, np.log(sizes))

    def quality(self, job: Job, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (n, n_users) shares of `users` (n_users,) in a tier's quality, which sum to one in each tier."""
        matrix = job.split.train.matrix()[users]
        member = np.zeros((matrix.shape[1], self.sizes.size))
        member[np.arange(matrix.shape[1]), self.of_items] = 1
        shares: NDArray[np.float64] = np.asarray(matrix.astype(np.bool_).astype(np.float64) @ member).T
        # A tier that no user has follows all of them.
        shares[shares.sum(1) == 0] = 1
        shares /= shares.sum(1, keepdims=True)
        return shares


class Explorer:
    """A search in progress, which resumes from its history: agents learn from the stored actions again."""

    def __init__(self, search: CutSearch[CutSpace], config: CIESSCutConfig) -> None:
        self._search, self._config, self._space = search, config, search.space
        self.tiers = Tiers(self._space.counts, config.tiers)
        users = search.evaluator.rows()
        halves = np.arange(users.size) % 2 == 0, np.arange(users.size) % 2 == 1
        self._halves = halves if users.size > 1 else (halves[0], halves[0])
        self._shares = [self.tiers.quality(search.job, users[half]) for half in self._halves]
        self._full: list[NDArray[np.float64]] = []
        sides = {_BYTES: self._space.most}
        if len(self._space.bits) > 1:
            sides[_BITS] = self._space.bits[0]
        self._environments = {name: self._environment(d) for name, d in sides.items()}
        begins = {_BYTES: self._mean(1), _BITS: float(np.exp(np.log(self._space.bits or (1,)).mean()))}
        self._agents = {
            name: Agent(
                environment,
                0,
                sides[name],
                Exploring(config.noise, config.walk),
                log=True,
                begin=begins[name],
                gamma=config.gamma,
                memory=config.memory,
                lanes=1,
                seed=int(np.random.default_rng([search.job.seed, _AGENTS, side]).integers(1 << 62)),
            )
            for side, (name, environment) in enumerate(self._environments.items())
        }
        self._begin_bits = begins[_BITS]

    def _environment(self, d: int) -> AgentEnvironment:
        known = (np.ones(self.tiers.sizes.size, np.bool_),)
        popularity = (self.tiers.popularity,)
        return AgentEnvironment(popularity, known, d, (Rules(0.0),), log=True, weights=self.tiers.sizes)

    def _mean(self, widths: int) -> float:
        """Return the mean bytes of a row."""
        return self._space.totals[widths - 1] / self._space.counts.size

    def run(self) -> None:
        """Evaluate actions until the history has all; learn from those that it has."""
        evaluated = self._search.history.evaluated
        for number, entry in enumerate(evaluated):
            self._learn(number, entry)
        for number in range(len(evaluated), self._config.actions):
            started = time.perf_counter()
            action = self._chosen(number)
            cut = self.cut_of(action)
            evals = self._search.evaluator.evals(cut)
            shown, paid = self._qualities(evals)
            entry = {**self._search.entry(asdict(action), cut), "strategy": "walk" if self._config.walk else "noise"}
            entry |= {"eval": float(evals.mean()), "fitness": float(evals.mean()) / self._search.full}
            entry |= {"shown": shown.tolist(), "paid": paid.tolist(), "episode": number // self._config.iterations}
            self._learn(number, entry)
            self._search.add({**entry, "seconds": round(time.perf_counter() - started, 3)})

    def _qualities(self, evals: NDArray[np.float64]) -> list[Floats]:
        """Return the (n_tiers,) observed and the rewarded quality, of disjoint users."""
        if not self._full:
            full = self._search.evaluator.evals(None)
            self._full = [shares @ full[half] for shares, half in zip(self._shares, self._halves, strict=True)]
        return [
            (shares @ evals[half] / np.maximum(full, 1e-9)).astype(np.float32)
            for shares, half, full in zip(self._shares, self._halves, self._full, strict=True)
        ]

    def _chosen(self, number: int) -> TierAction:
        """Return the action of a number, from the agents as they are."""
        rng, space = np.random.default_rng([self._search.job.seed, _SHARED, number]), self._space
        episode, iteration = divmod(number, self._config.iterations)
        widths, tilts, mean_bits, settings = self._shared(number, rng)
        means = {_BYTES: self._mean(widths), _BITS: mean_bits}
        choices = {
            name: agent.choose(
                *(agent.replay.last(0) if iteration else agent.full()),
                episode,
                iteration,
                mean=means[name],
                tilt=tilt,
            )
            for (name, agent), tilt in zip(self._agents.items(), tilts, strict=False)
        }
        ratio = choices[_BYTES].proposed_mean / means[_BYTES]
        sizes = {name: tuple(map(int, choice.sizes)) for name, choice in choices.items()}
        cost = float(np.clip(ratio**2, _LOWEST_COST, _HIGHEST_COST))
        bits = sizes.get(_BITS, ())
        return TierAction(sizes[_BYTES], bits, min(widths, len(space.totals)), tilts, mean_bits, **settings, cost=cost)

    def _shared(
        self, number: int, rng: np.random.Generator
    ) -> tuple[int, tuple[float, float], float, dict[str, float]]:
        """Draw the number of widths, tilts, mean bits and settings, near one of the fittest actions so far."""
        space, most = self._space, len(self._space.totals)
        if number < max(self._config.random * self._config.actions, 1):
            widths, tilts, mean_bits, by = int(rng.integers(1, most, endpoint=True)), (0.0, 0.0), self._begin_bits, 1.0
            settings = dict(space.settings)
        else:
            best = self._search.best(_PARENTS)
            parent = action_of(TierAction, best[int(rng.integers(len(best)))]["action"])
            widths = int(np.clip(parent.widths + rng.choice([-1, 0, 1], p=[0.15, 0.7, 0.15]), 1, most))
            tilts, mean_bits, by = parent.tilts, parent.mean_bits, _NEAR
            settings = {name: getattr(parent, name) for name in SETTINGS}
        drawn = rng.normal(0, by, 3)
        low, high = min(space.bits, default=1), max(space.bits, default=1)
        mean_bits = float(np.clip(mean_bits * np.exp(_BITS_STD * drawn[2]), low, high))
        tilts = float(tilts[0] + _TILT_STD * drawn[0]), float(tilts[1] + _TILT_STD * drawn[1])
        return widths, tilts, mean_bits, {name: space.moved(name, at, by, rng) for name, at in settings.items()}

    def cut_of(self, action: TierAction) -> Cut:
        """Return the sizes and bits of an action: at most the bytes of its number of widths."""
        level, steps = self.tiers.rows(action.bits) if action.bits else None, np.log(self._space.bits or (1,))

        def bits_of(rows: NDArray[np.bool_]) -> int:
            return 0 if level is None else int(np.abs(steps - level[rows].mean()).argmin())

        settings = {name: getattr(action, name) for name in SETTINGS}
        return self._space.cut(np.exp(self.tiers.rows(action.bytes)), action.widths, bits_of, settings)

    def _learn(self, number: int, entry: dict[str, Any]) -> None:
        """Store the transition of an action, and make the steps that follow it."""
        action = action_of(TierAction, entry["action"])
        shown, paid = (np.array(entry[name], np.float32) for name in ("shown", "paid"))
        if {len(action.bytes), shown.size, paid.size} != {self.tiers.sizes.size}:
            raise RunError("the history of the search is damaged (its tiers are others); train again with --overwrite")
        self._environments[_BYTES].rules = (Rules(action.cost),)
        for name, agent in self._agents.items():
            sizes = np.array(getattr(action, name), np.int64)
            agent.replay.push(sizes, shown, paid, begins=number % self._config.iterations == 0)
            agent.learn(self._config.updates, self._config.batch, number)


def searched(job: Job, config: CIESSCutConfig) -> FitResult:
    """Search bytes and bits, and return the fit of the best on validation. Raises as `CIESSOnSVD.fit` does."""
    search = CutSearch(job, config, CutSpace.of(job, config.widths))
    explorer = Explorer(search, config)
    explorer.run()
    return search.trained(
        lambda entry: explorer.cut_of(action_of(TierAction, entry["action"])),
        lambda bits: {"uniform": 1, "bits": bits, **search.space.settings},
    )
