"""What each scenario asks of an open bundle, one call after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle
from edgerec_bench.agent.clock import Limits, time_calls
from edgerec_bench.agent.counters import Energy, Instructions
from edgerec_bench.agent.memory import faults_since, page_faults
from edgerec_bench.agent.questions import Questions, asker

DEFAULT = ("recommend", "score")
COUNTED_CALLS = 20
ENERGY_MS = 100.0
"""A scenario must last longer for its energy to be told: the counters move once a millisecond."""


class Work(NamedTuple):
    """Questions, made outside the clock, and what is timed."""

    prepare: Callable[[], Any]
    call: Callable[[Any], Any]


class Opened(NamedTuple):
    """A bundle that answers, and questions to it."""

    bundle: Bundle
    model: Recommender
    questions: Questions


def works(scenario: str, opened: Opened, candidates: tuple[int, ...]) -> Iterator[tuple[str, Work]]:
    """What a scenario is made of, by the names of its figures; nothing where the bundle lacks the graph for it.

    A graph is opened when its work is asked for: what comes before is measured without its memory.
    """
    bundle, model, questions = opened
    if scenario == "recommend":
        yield "recommend", Work(questions.rows, asker(bundle, "recommend"))
        yield "recommend, raw ids", Work(questions.raw, lambda asked: model.recommend(**asked))
    if scenario == "score" and bundle.has_graph("score"):
        for count in candidates:
            yield f"score {count}", Work(partial(questions.candidates, count), asker(bundle, "score"))
    if scenario == "lookup" and bundle.has_graph("score"):
        yield "lookup", Work(partial(questions.candidates, 1), asker(bundle, "score"))
    if scenario == "history" and bundle.has_graph("encode"):
        yield "history", Work(questions.history, asker(bundle, "encode"))


class Taken:
    """What the scenarios showed so far.

    Attributes:
        figures: by name, what `time_calls` says.
        faults: by name, {minor, major} pages while it was called.
        cost: by name, {instructions, joules} a call; without those that cannot be told.
    """

    def __init__(self, opened: Opened, candidates: tuple[int, ...], limits: Limits) -> None:
        self.opened = opened
        self._candidates, self._limits = candidates, limits
        self._works: dict[str, Work] = {}
        self._energy = Energy()
        self.figures: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, dict[str, int]] = {}
        self.cost: dict[str, dict[str, float]] = {}

    def take(self, scenarios: Sequence[str]) -> None:
        """Time the calls of these scenarios."""
        for scenario in scenarios:
            for name, work in works(scenario, self.opened, self._candidates):
                faults, energy = page_faults(), self._energy.read()
                figures = time_calls(work.prepare, work.call, self._limits)
                joules = self._energy.joules_since(energy)
                self._works[name], self.figures[name], self.faults[name] = work, figures, faults_since(faults)
                calls = 1 + figures["warm_up"] + figures["count"]
                lasted = calls * figures["p50_ms"] > ENERGY_MS
                self.cost[name] = {"joules": joules / calls} if joules is not None and lasted else {}

    def count(self, counter: Instructions) -> None:
        """Count the instructions of some more calls of each, apart from the timed ones."""
        for name, work in self._works.items():
            subjects = [work.prepare() for _ in range(COUNTED_CALLS)]
            count = counter.of(partial(_call_all, work.call, subjects))
            if count is not None:
                self.cost[name]["instructions"] = count / COUNTED_CALLS


def _call_all(call: Callable[[Any], Any], subjects: Sequence[Any]) -> None:
    for subject in subjects:
        call(subject)
