"""BET's loop (Qu et al. 2024, section 4.3): draw, choose, judge, learn.

All randomness of an iteration comes from the seed and its number, so that a search that was stopped is brought to where
it was from its history alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.base import Job
from edgerec.methods.search.history import SearchHistory, size_deciles
from edgerec.methods.search.judge import Judge
from edgerec.methods.search.predictor import Groups, Members, Predictor
from edgerec.methods.search.sampler import Action, Sampler
from edgerec.models import SizePlan
from edgerec.training import Step

if TYPE_CHECKING:
    from edgerec.methods.bet import BETConfig, Protocol

_DRAWS, _LEARNING, _WEIGHTS = range(3)
"""What randomness is for."""


@dataclass(frozen=True)
class _Choice:
    """An action that is to be judged, and why."""

    action: Action
    strategy: str
    predicted: float | None


class BETSearch:
    """One search; `run` fills the history."""

    def __init__(
        self,
        job: Job,
        config: BETConfig,
        protocol: Protocol,
        sampler: Sampler,
        judge: Judge,
        history: SearchHistory,
    ) -> None:
        self._job, self._config, self._protocol = job, config, protocol
        self._sampler, self._judge, self._history = sampler, judge, history
        self._groups = Groups.of(sampler.user_counts, sampler.item_counts)
        weights = int(self._rng(_WEIGHTS).integers(1 << 62))
        self._predictor = Predictor(self._groups, sampler.d, weights, decay=protocol.decay, by_rows=protocol.by_rows)
        self._members: list[Members] = []
        self._fitness: list[float] = []

    def run(self) -> None:
        """Judge `iterations` actions, those that the history holds already included. Raises as `Judge.each` does."""
        for start in range(0, self._config.iterations, self._protocol.at_once):
            self._judge_all(range(start, min(start + self._protocol.at_once, self._config.iterations)))
            self._learn(start)

    def predict(self, actions: Sequence[Action]) -> NDArray[np.float64]:
        """(n,) fitness of actions by the predictor as it is now."""
        return self._predictor.predict(self._members_of(actions))

    def _judge_all(self, iterations: range) -> None:
        """Choose an action for each iteration, by the predictor as it is now, and judge them."""
        known = self._history.judged[iterations.start : iterations.stop]
        new = iterations[len(known) :]
        choices = [self._choose(number) for number in new]
        plans = [self._sampler.plan(choice.action) for choice in choices]
        # The same draws for all: what differs is the sizes' doing.
        answers = self._judge.each(plans)
        started = time.perf_counter()
        for number, choice, plan in zip(new, choices, plans, strict=True):
            value = next(answers).mean
            now = time.perf_counter()
            known.append(self._entry(number, choice, plan, value, now - started))
            self._history.add(known[-1])
            self._show()
            started = now
        for entry in known:
            plan = self._sampler.plan(Action.from_json(entry["action"]), exact=True)
            self._members.append(self._groups.members(plan))
            self._fitness.append(entry["fitness"])

    def _choose(self, number: int) -> _Choice:
        rng = self._rng(_DRAWS, number)
        turns = self._protocol.turns
        learnt = bool(self._fitness) and self._config.selection == "predictor"
        strategy = turns[number % len(turns)] if learnt else "random"
        drawn = [self._sampler.draw(rng) for _ in range(1 if strategy == "random" else self._config.candidates)]
        members = self._members_of(drawn)
        predicted = self._predictor.predict(members)
        at = int(predicted.argmax()) if strategy != "nearest" else int(self._distances(members).argmin())
        return _Choice(drawn[at], strategy, float(predicted[at]) if learnt else None)

    def _members_of(self, actions: Sequence[Action]) -> list[Members]:
        return [self._groups.members(self._sampler.plan(action, exact=True)) for action in actions]

    def _distances(self, members: list[Members]) -> NDArray[np.float64]:
        """(n,) between the embeddings of actions and that of the fittest so far."""
        best = self._members[int(np.argmax(self._fitness))]
        embedded = self._predictor.embed([best, *members])
        distances: NDArray[np.float64] = np.linalg.norm(embedded[1:] - embedded[0], axis=1)
        return distances

    def _learn(self, start: int) -> None:
        rng = self._rng(_LEARNING, start)
        for _ in range(self._protocol.updates if self._config.selection == "predictor" else 0):
            pairs = rng.permutation(len(self._fitness))[: self._protocol.pairs]
            self._predictor.update([self._members[pair] for pair in pairs], [self._fitness[pair] for pair in pairs])

    def _entry(self, number: int, choice: _Choice, plan: SizePlan, value: float, seconds: float) -> dict[str, Any]:
        counts = self._sampler.user_counts, self._sampler.item_counts
        kept = sum(int(sizes.sum()) for sizes in (plan.users, plan.items) if sizes is not None)
        return {
            "iteration": number,
            "action": choice.action.to_json(),
            "strategy": choice.strategy,
            "predicted": choice.predicted,
            "fitness": value / max(self._judge.full().mean, 1e-12),
            "eval": value,
            "density": kept / (sum(side.size for side in counts) * plan.d),
            "seconds": round(seconds, 3),
            "sizes": size_deciles(plan, *counts),
        }

    def _show(self) -> None:
        fitness = [entry["fitness"] for entry in self._history.judged]
        values = {"fitness": fitness[-1], "best": max(fitness)}
        self._job.progress(Step("search", 1, 1, len(fitness), self._config.iterations, values))

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._job.seed, *what])
