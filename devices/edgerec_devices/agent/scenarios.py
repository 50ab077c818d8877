"""Scenarios: series of calls to an open bundle with random questions."""

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
from edgerec.runtime.recommender import Backend
from edgerec_devices.agent.clock import Limits, time_calls
from edgerec_devices.agent.counters import Energy, Instructions, faults_since, page_faults

DEFAULT = ("recommend", "score")
COUNTED_CALLS = 20
ENERGY_MS = 100.0
"""Minimum length of a scenario whose energy is reported: the counters are updated once per millisecond."""


class Work(NamedTuple):
    """A function that prepares a question, which is not timed, and the call, which is."""

    prepare: Callable[[], Any]
    call: Callable[[Any], Any]


class OpenBundle(NamedTuple):
    """An open bundle, its recommender, and random questions to it."""

    bundle: Bundle
    model: Recommender
    questions: Questions
    backend: Backend = "onnxruntime"

    def caller(self, graph: str) -> Callable[[Feed], Any]:
        """Return a function that answers the feeds of a graph."""
        return caller(self.bundle, self.model, self.backend, graph)


def works(scenario: str, opened: OpenBundle, candidates: tuple[int, ...]) -> Iterator[tuple[str, Work]]:
    """Yield the calls of a scenario by the names of their figures; none if the bundle has no graph for it.

    A graph is opened when its work is yielded: earlier measurements do not include its memory.
    """
    bundle, model, questions, backend = opened
    if scenario == "recommend":
        yield "recommend", Work(questions.rows, opened.caller("recommend"))
        yield "recommend, raw ids", Work(questions.raw, lambda question: model.recommend(**question))
    if scenario == "score" and bundle.has_graph("score"):
        for count in candidates:
            yield f"score {count}", Work(partial(questions.candidates, count), opened.caller("score"))
    if scenario == "lookup" and bundle.has_graph("score"):
        yield "lookup", Work(partial(questions.candidates, 1), opened.caller("score"))
    # The kernel encodes a history inside of each request.
    if scenario == "history" and bundle.has_graph("encode") and backend == "onnxruntime":
        yield "history", Work(questions.history, graph_caller(bundle, "encode"))


class Measurements:
    """The measurements of the scenarios that have run.

    Attributes:
        figures: by name, the result of `time_calls`.
        faults: by name, {minor, major} page faults during the calls.
        cost: by name, {instructions, joules} per call; unknown ones are absent.
    """

    def __init__(self, opened: OpenBundle, candidates: tuple[int, ...], limits: Limits) -> None:
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
        """Count the instructions of additional calls of each scenario, which are not timed."""
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
    """Replace the history in a feed by its vector, if the bundle's 'encode' graph computes vectors."""
    if "history" not in feed or not bundle.has_graph("encode"):
        return feed
    rest = {name: value for name, value in feed.items() if name != "history"}
    (rest["vector"],) = bundle.session("encode").run(None, {"history": feed["history"]})
    if "exclude" in rest:
        rest["exclude"] = np.hstack([rest["exclude"], feed["history"]])
    return rest


def graph_caller(bundle: Bundle, graph: str) -> Callable[[Feed], Any]:
    """Return a function that calls a graph, after the 'encode' graph if the bundle has one."""
    run = partial(bundle.session(graph).run, None)
    if graph == "encode" or not bundle.has_graph("encode"):
        return run
    return lambda feed: run(encoded(bundle, feed))


def backend_of(request: dict[str, Any]) -> Backend:
    """Return what answers a request: the kernel if it is the provider."""
    return "kernel" if request.get("provider") == "kernel" else "onnxruntime"


def caller(bundle: Bundle, model: Recommender, backend: Backend, graph: str) -> Callable[[Feed], Any]:
    """Return a function that answers the feeds of a graph: the graph, or the kernel."""
    if backend == "onnxruntime":
        return graph_caller(bundle, graph)

    def by_kernel(feed: Feed) -> Any:
        subject: Feed = {name: feed[name] for name in feed if name in ("user", "history")}
        if graph == "score":
            return model.score_rows(subject, feed["candidates"])
        return model.recommend_rows(subject, feed["exclude"], int(feed["k"]))

    return by_kernel


class Questions:
    """Random questions to a bundle, created one at a time so that they do not add to the measured memory.

    Attributes:
        n_items: number of items in the catalogue.
        k: number of requested items.
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
        """Return a feed of the recommend graph for `batch` users."""
        excluded = self._items(self._exclude, batch)
        return {**self._subject(batch), "exclude": excluded, "k": np.array(self.k, np.int64)}

    def raw(self) -> dict[str, Any]:
        """Return keyword arguments of `Recommender.recommend`."""
        arguments: dict[str, Any] = {"k": self.k, "exclude": self._item_ids.raw(self._items(self._exclude)[0])}
        if self._user_ids is not None:
            (arguments["user"],) = self._user_ids.raw(np.array([self._random.randrange(self._n_users)]))
        else:
            arguments["history"] = self._item_ids.raw(self._items(self._history)[0])
        return arguments

    def candidates(self, count: int) -> Feed:
        """Return a feed of the score graph with `count` candidates."""
        return {**self._subject(), "candidates": self._items(count)}

    def history(self) -> Feed:
        """Return a feed of the encode graph."""
        return {"history": self._items(self._history)}

    def item(self) -> Feed:
        """Return a feed of the similar graph."""
        return {"item": self._items(1)[0], "k": np.array(self.k, np.int64)}

    def _subject(self, batch: int = 1) -> Feed:
        if self._n_users:
            return {"user": np.array([self._random.randrange(self._n_users) for _ in range(batch)], np.int64)}
        return {"history": self._items(self._history, batch)}

    def _items(self, count: int, batch: int = 1) -> NDArray[np.int64]:
        rows = [[self._random.randrange(self.n_items) for _ in range(count)] for _ in range(batch)]
        return np.array(rows, np.int64)
