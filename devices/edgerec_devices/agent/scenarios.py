"""Scenarios: the questions that each asks of an open bundle, one call after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle
from edgerec_devices.agent.clock import Limits, time_calls
from edgerec_devices.agent.counters import Energy, Instructions, faults_since, page_faults

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


class Measurements:
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


Feed = dict[str, NDArray[Any]]


def encoded(bundle: Bundle, feed: Feed) -> Feed:
    """What a graph takes: where one of its own, 'encode', makes users' vectors, a vector in place of the history."""
    if "history" not in feed or not bundle.has_graph("encode"):
        return feed
    rest = {name: value for name, value in feed.items() if name != "history"}
    (rest["vector"],) = bundle.session("encode").run(None, {"history": feed["history"]})
    if "exclude" in rest:
        rest["exclude"] = np.hstack([rest["exclude"], feed["history"]])
    return rest


def asker(bundle: Bundle, graph: str) -> Callable[[Feed], Any]:
    """A call of a graph, after one of 'encode' where that makes the vector that it takes."""
    run = partial(bundle.session(graph).run, None)
    if graph == "encode" or not bundle.has_graph("encode"):
        return run
    return lambda feed: run(encoded(bundle, feed))


class Questions:
    """Random questions to a bundle, small and made one at a time, so that they do not show in its memory.

    Attributes:
        n_items: of the catalogue.
        k: items asked for.
    """

    def __init__(self, bundle: Bundle, request: dict[str, Any]) -> None:
        items, users = bundle.manifest.items, bundle.manifest.users
        self.n_items, self._n_users = items.rows, 0 if users is None else users.rows
        self._item_ids = bundle.ids("item", items)
        self._user_ids = None if users is None else bundle.ids("user", users)
        self._random = random.Random(request["seed"])
        self.k, self._exclude, self._history = (int(request[name]) for name in ("k", "exclude", "history"))
        if self.k > self.n_items:
            raise BenchError(f"k is {self.k} and the bundle has {self.n_items} items; give a -k of at most that")

    def rows(self, batch: int = 1) -> Feed:
        """What the recommend graph takes, for `batch` users at once."""
        excluded = self._items(self._exclude, batch)
        return {**self._subject(batch), "exclude": excluded, "k": np.array(self.k, np.int64)}

    def raw(self) -> dict[str, Any]:
        """What `Recommender.recommend` takes."""
        asked: dict[str, Any] = {"k": self.k, "exclude": self._item_ids.raw(self._items(self._exclude)[0])}
        if self._user_ids is not None:
            (asked["user"],) = self._user_ids.raw(np.array([self._random.randrange(self._n_users)]))
        else:
            asked["history"] = self._item_ids.raw(self._items(self._history)[0])
        return asked

    def candidates(self, count: int) -> Feed:
        """What the score graph takes, with `count` candidates."""
        return {**self._subject(), "candidates": self._items(count)}

    def history(self) -> Feed:
        """What the encode graph takes."""
        return {"history": self._items(self._history)}

    def item(self) -> Feed:
        """What the similar graph takes."""
        return {"item": self._items(1)[0], "k": np.array(self.k, np.int64)}

    def _subject(self, batch: int = 1) -> Feed:
        if self._n_users:
            return {"user": np.array([self._random.randrange(self._n_users) for _ in range(batch)], np.int64)}
        return {"history": self._items(self._history, batch)}

    def _items(self, count: int, batch: int = 1) -> NDArray[np.int64]:
        rows = [[self._random.randrange(self.n_items) for _ in range(count)] for _ in range(batch)]
        return np.array(rows, np.int64)
