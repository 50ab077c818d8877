"""CIESS's search: episodes in which agents change all sizes, a fresh model is trained within them, and they learn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import project_sizes
from edgerec.methods.base import Job
from edgerec.methods.search.agent import Agent, Choice, Exploring
from edgerec.methods.search.environment import Environment, Rules
from edgerec.methods.search.history import size_deciles
from edgerec.methods.search.judge import Judge, Judged
from edgerec.methods.search.visits import SIDES, Pair, Visits
from edgerec.models import SizePlan, State
from edgerec.training import Checkpoint
from edgerec.training.checkpoint import Snapshot

_CHEAPEST, _DEAREST = 0.01, 100.0
QUANTILES = (0, 0.25, 0.5, 0.75, 1)

Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Search:
    """All that decides a search, beside the data and the backbone.

    Attributes:
        episodes, iterations: M and T.
        cost: lambda; None is adapted to `shares`.
        shares: of the values of full rows that the search is to come near, one after another.
        exploring: noise and walk.
        ratio, from_one: as in `Rules`.
        strict: sizes are brought to the share before they are judged, and costs follow what the agents wanted.
        log: actors and critics see sizes by their logarithm.
        gamma, updates, batch, memory: of the agents' learning; `memory` in iterations.
        at_once: episodes that go on side by side, so that workers judge as many sizes in parallel.
        seed: of all of it; every judgement starts from the same initial values, so that only sizes differ.
    """

    episodes: int
    iterations: int
    cost: float | None
    shares: tuple[float, ...]
    exploring: Exploring
    ratio: bool
    from_one: bool
    strict: bool
    log: bool
    gamma: float
    updates: int
    batch: int
    memory: int
    at_once: int
    seed: int

    @property
    def visits(self) -> int:
        """How many sizes are judged."""
        return self.episodes * self.iterations

    def share(self, visit: int) -> float:
        """That a visit is to come near: the search's time is divided among them evenly."""
        return self.shares[visit * len(self.shares) // self.visits]


class Explorer:
    """A search in progress; `run` may be killed at any point, and continued by a new one with the same checkpoint."""

    def __init__(self, job: Job, judge: Judge, search: Search, checkpoint: Checkpoint | None) -> None:
        self._job, self._judge, self._search, self._checkpoint = job, judge, search, checkpoint
        found = checkpoint.load() if checkpoint else None
        state = found.trainer if found else {}
        self.visits = Visits.from_state(_part(state, "visits")) if state else Visits(job.d, judge.full().users)
        rules = Rules(1.0 if search.cost is None else search.cost, ratio=search.ratio, from_one=search.from_one)
        self._environment = Environment(job.split.train, self.visits.full, job.d, (rules, rules), log=search.log)
        begin = search.shares[0] * job.d if search.strict else (job.d + 1) / 2
        self._agents = [
            Agent(
                self._environment,
                side,
                job.d,
                search.exploring,
                log=search.log,
                begin=begin,
                gamma=search.gamma,
                memory=search.memory,
                lanes=search.at_once,
                seed=int(np.random.default_rng([search.seed, side]).integers(1 << 62)),
            )
            for side in range(len(SIDES))
        ]
        if state:
            for side, agent in zip(SIDES, self._agents, strict=True):
                agent.restore(_part(state, side))

    def run(self, told: Told) -> Visits:
        """Go on to the search's end; `told` of each visit's history entry, of those before too."""
        for entry in self.visits.entries:
            told(entry)
        while len(self.visits) < self._search.visits:
            self._step()
            self._save()
            for entry in self.visits.entries[-self._search.at_once :]:
                told(entry)
        return self.visits

    def _step(self) -> None:
        """One iteration of as many episodes as go on at once."""
        begun, first, lanes = time.monotonic(), len(self.visits), range(self._search.at_once)
        group, iteration = divmod(first // self._search.at_once, self._search.iterations)
        episodes = [group * self._search.at_once + lane for lane in lanes]
        shares = [self._search.share(first + lane) if self._search.strict else 1.0 for lane in lanes]
        chosen = [
            [
                agent.choose(
                    *(agent.replay.last(lane) if iteration else agent.full()),
                    episodes[lane],
                    iteration,
                    mean=max(shares[lane] * self._job.d, 1) if self._search.strict else None,
                )
                for agent in self._agents
            ]
            for lane in lanes
        ]
        if self._search.strict:
            for sides, share in zip(chosen, shares, strict=True):
                self._price(sides, share)
        plans = [self._plan(sides, share) for sides, share in zip(chosen, shares, strict=True)]
        answers = self._judge.judge(plans, seeds=[self._search.seed] * len(plans))
        seconds = (time.monotonic() - begun) / len(plans)
        for lane, (plan, sides, judged) in enumerate(zip(plans, chosen, answers, strict=True)):
            quality = self._environment.quality(judged.users)
            sizes = _pair([own for own in (plan.users, plan.items) if own is not None])
            for agent, new, own in zip(self._agents, sizes, quality, strict=True):
                agent.replay.push(new, own, begins=iteration == 0)
            mean = self._environment.mean_quality(quality)
            told = entry_of(self._job, plan, judged, self.visits.full, mean)
            told |= {"iteration": first + lane, "episode": episodes[lane], "seconds": round(seconds, 3)}
            told |= {"strategy": "walk" if self._search.exploring.walk else "noise"}
            told["action"]["cost"] = [rule.cost for rule in self._environment.rules]
            self.visits.add(sizes, _pair([choice.proposed for choice in sides]), mean, told)
        for agent in self._agents:
            agent.learn(self._search.updates * len(plans), self._search.batch, first)

    def _plan(self, sides: list[Choice], share: float) -> SizePlan:
        """What the agents chose; where the search is strict, brought to the share, each side on its own."""
        sizes = [choice.sizes for choice in sides]
        if self._search.strict:
            d = self._job.d
            totals = [max(round(share * d * own.size), own.size) for own in sizes]
            sizes = [project_sizes(own, total, 1, d) for own, total in zip(sizes, totals, strict=True)]
        return SizePlan(self._job.d, *sizes)

    def _price(self, sides: list[Choice], share: float) -> None:
        """The more a side's actor wants beyond the share, the dearer is memory for it, and cheaper the less: it is kept
        from running into an end of its range."""
        rules = []
        for rule, choice in zip(self._environment.rules, sides, strict=True):
            wanted = choice.wanted / max(share * self._job.d, 1)
            rules.append(replace(rule, cost=float(np.clip(wanted**2, _CHEAPEST, _DEAREST))))
        self._environment.rules = rules[0], rules[1]

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        parts = {"visits": self.visits.state()}
        parts |= {side: agent.state() for side, agent in zip(SIDES, self._agents, strict=True)}
        state = {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
        self._checkpoint.save(Snapshot({}, state))


def entry_of(job: Job, plan: SizePlan, judged: Judged, full: NDArray[np.float32], quality: float) -> dict[str, Any]:
    """What the history tells of sizes that were judged; who judged them adds when and why.

    fitness: mean eval of users over the full model's; quality: what CIESS ranks by, the mean over users and items of
    each one's own ratio, at most 1.
    """
    sides = _pair(
        [
            np.full(n, plan.d) if own is None else own
            for n, own in zip(job.train.shape, (plan.users, plan.items), strict=True)
        ]
    )
    mean = sum(int(side.sum()) for side in sides) / job.n_rows
    counts = job.split.train.user_counts(), job.split.train.item_counts()
    return {
        "action": {
            "mean_size": round(mean, 4),
            "quantiles": {
                side: np.quantile(own, QUANTILES).round(2).tolist() for side, own in zip(SIDES, sides, strict=True)
            },
        },
        "predicted": None,
        "fitness": judged.mean / max(float(np.nanmean(full, dtype=np.float64)), 1e-9),
        "quality": quality,
        "density": mean / plan.d,
        "sizes": size_deciles(plan, *counts),
    }


def _pair(sides: Sequence[Any]) -> Pair:
    users, items = sides
    return users, items


def _part(state: State, name: str) -> State:
    return {key.removeprefix(f"{name}."): array for key, array in state.items() if key.startswith(f"{name}.")}
