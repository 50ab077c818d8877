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
_TILT, _BALANCE = 2.0, 0.25
"""Standard deviations of noise in common: of the logarithm of a popular row's size over a rare one's, and of a mean
user's over a mean item's."""
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
        apart: the quality of a row that agents see, and the quality that they are paid for, are measured on different
            halves of the validation part. Else they keep the sizes with which a row was lucky there, and learn the
            validation part by heart, row by row.
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
    apart: bool
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
        full = judge.full()
        self.visits = Visits.from_state(_part(state, "visits")) if state else Visits(job.d, full.users)
        rules = Rules(1.0 if search.cost is None else search.cost, ratio=search.ratio, from_one=search.from_one)
        self._parts = [0, 1, 2] if search.apart else [0, 0, 0]
        self._whole, self._shown, self._paid = (
            Environment(job.split.train, evals, job.d, (rules, rules), log=search.log)
            for evals in full.evals[self._parts]
        )
        begin = search.shares[0] * job.d if search.strict else (job.d + 1) / 2
        self._agents = [
            Agent(
                self._paid,
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
        noise = [self._common_noise(first + lane) for lane in lanes]
        totals = [self._totals(first + lane, noise[lane][0]) if self._search.strict else None for lane in lanes]
        chosen = [
            [
                agent.choose(
                    *(agent.replay.last(lane) if iteration else agent.full()),
                    episodes[lane],
                    iteration,
                    mean=None if (of_lane := totals[lane]) is None else of_lane[side] / agent.replay.known.size,
                    tilt=noise[lane][1 + side],
                )
                for side, agent in enumerate(self._agents)
            ]
            for lane in lanes
        ]
        for sides, of_lane in zip(chosen, totals, strict=True):
            if of_lane is not None:
                self._price(sides, of_lane)
        plans = [self._plan(sides, of_lane) for sides, of_lane in zip(chosen, totals, strict=True)]
        answers = self._judge.judge(plans)
        seconds = (time.monotonic() - begun) / len(plans)
        for lane, (plan, sides, judged) in enumerate(zip(plans, chosen, answers, strict=True)):
            whole, shown, paid = (
                environment.quality(evals)
                for environment, evals in zip(
                    (self._whole, self._shown, self._paid), judged.evals[self._parts], strict=True
                )
            )
            sizes = _pair([own for own in (plan.users, plan.items) if own is not None])
            for agent, *visit in zip(self._agents, sizes, shown, paid, strict=True):
                agent.replay.push(*visit, begins=iteration == 0)
            mean = self._whole.mean_quality(whole)
            told = entry_of(self._job, plan, judged, self.visits.full, mean)
            told |= {"iteration": first + lane, "episode": episodes[lane], "seconds": round(seconds, 3)}
            told |= {"strategy": "walk" if self._search.exploring.walk else "noise"}
            told["action"]["cost"] = [rule.cost for rule in self._paid.rules]
            self.visits.add(sizes, _pair([choice.proposed for choice in sides]), mean, told)
        for agent in self._agents:
            agent.learn(self._search.updates * len(plans), self._search.batch, first)

    def _common_noise(self, visit: int) -> tuple[float, float, float]:
        """Of the balance of the sides, and of the tilts of users and of items; zeros where there is none in common."""
        if not self._search.exploring.common:
            return 0.0, 0.0, 0.0
        drawn = np.random.default_rng([self._search.seed, visit]).normal(0, (_BALANCE, _TILT, _TILT))
        return float(drawn[0]), float(drawn[1]), float(drawn[2])

    def _totals(self, visit: int, noise: float) -> tuple[int, int]:
        """Values of users and of items, whose sum is the visit's share: each its part by rows, or around the balance
        that was best at this share so far."""
        d, share = self._job.d, self._search.share(visit)
        users, items = (agent.replay.known.size for agent in self._agents)
        # Rounded as a budget is: a value more, and what is visited could not ship as it is.
        total = max(int(share * d * (users + items) + 1e-6), users + items)
        factor = np.exp(noise + (self._best_balance(share) if self._search.exploring.common else 0.0))
        wanted = total * users * factor / (users * factor + items)
        for_users = int(np.clip(round(wanted), max(users, total - items * d), min(users * d, total - items)))
        return for_users, total - for_users

    def _best_balance(self, share: float) -> float:
        """The logarithm of a mean user's size over a mean item's, at the fittest visit of the share; 0 before any."""
        visits = [number for number in range(len(self.visits)) if self._search.share(number) == share]
        if not visits:
            return 0.0
        best = max(visits, key=lambda number: float(self.visits.entries[number]["fitness"]))
        users, items = (float(side.mean()) for side in self.visits.sizes[best])
        return float(np.log(users / items))

    def _plan(self, sides: list[Choice], totals: tuple[int, int] | None) -> SizePlan:
        """What the agents chose; where the search is strict, brought to the totals of users and items."""
        sizes = [choice.sizes for choice in sides]
        if totals is not None:
            sizes = [project_sizes(own, total, 1, self._job.d) for own, total in zip(sizes, totals, strict=True)]
        return SizePlan(self._job.d, *sizes)

    def _price(self, sides: list[Choice], totals: tuple[int, int]) -> None:
        """The more a side's actor wants beyond its total, the dearer is memory for it, and cheaper the less: it is kept
        from running into an end of its range."""
        rules = []
        for rule, choice, total in zip(self._paid.rules, sides, totals, strict=True):
            wanted = choice.wanted * choice.sizes.size / total
            rules.append(replace(rule, cost=float(np.clip(wanted**2, _CHEAPEST, _DEAREST))))
        self._paid.rules = rules[0], rules[1]

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
