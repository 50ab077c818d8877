"""The tasks: measure a bundle, measure a plain ONNX model, or only say what a bare session takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle, onnxruntime
from edgerec_bench.agent.clock import Limits, time_calls, timed
from edgerec_bench.agent.memory import bare, memory_figures
from edgerec_bench.agent.yardstick import yardstick_ms

Request = dict[str, Any]
Feed = dict[str, NDArray[np.int64]]


def measure_bundle(request: Request) -> dict[str, Any]:
    """Open a bundle, answer from it, and say what that took.

    Returns:
        load_ms: the bundle opened without verification and the recommend graph's session made.
        scenarios: by name, what `time_calls` says. 'recommend' is the graph, one random user (or history) a call,
            in bundle rows; 'recommend, raw ids' is `Recommender.recommend` with the same question; 'score C' is the
            score graph on C random candidates.
        memory: KiB after the two recommend scenarios, before anything below.
        yardstick_ms: the same work whatever the bundle, timed between the scenarios.
        verify_ms: the same bundle opened once more, the sha256 of every file compared.
        answers: the raw ids of the k best for each user in request['ask'].
    """
    onnxruntime()
    folder, threads = request["bundle"], int(request["threads"])

    def load() -> tuple[Bundle, Recommender]:
        opened = Bundle(folder, verify=False, threads=threads)
        return opened, Recommender(opened)

    (bundle, model), load_ms = timed(load)
    questions = Questions(bundle, request)
    limits = Limits(int(request["calls"]), float(request["seconds"]))
    session = bundle.session("recommend")
    scenarios = {
        "recommend": time_calls(questions.rows, lambda feed: session.run(None, feed), limits),
        "recommend, raw ids": time_calls(questions.raw, lambda asked: model.recommend(**asked), limits),
    }
    memory, yardstick = memory_figures(), yardstick_ms()
    for count in request.get("candidates", ()) if bundle.has_graph("score") else ():
        run = partial(bundle.session("score").run, None)
        scenarios[f"score {count}"] = time_calls(partial(questions.candidates, int(count)), run, limits)
    _, verify_ms = timed(lambda: Bundle(folder, verify=True))
    answers = [[best.item for best in model.recommend(user, k=questions.k)] for user in request.get("ask", ())]
    return {
        "load_ms": load_ms,
        "verify_ms": verify_ms,
        "yardstick_ms": yardstick,
        "memory": memory,
        "scenarios": scenarios,
        "answers": answers,
    }


class Questions:
    """Random questions to a bundle, small and made one at a time, so that they do not show in its memory."""

    def __init__(self, bundle: Bundle, request: Request) -> None:
        items, users = bundle.manifest.items, bundle.manifest.users
        self._n_items, self._n_users = items.rows, 0 if users is None else users.rows
        self._item_ids = bundle.ids("item", items)
        self._user_ids = None if users is None else bundle.ids("user", users)
        self._random = random.Random(request["seed"])
        self.k, self._exclude, self._history = (int(request[name]) for name in ("k", "exclude", "history"))
        if self.k > self._n_items:
            raise BenchError(f"k is {self.k} and the bundle has {self._n_items} items; give a -k of at most that")

    def rows(self) -> Feed:
        """What the recommend graph takes."""
        return {**self._subject(), "exclude": self._items(self._exclude), "k": np.array(self.k, np.int64)}

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

    def _subject(self) -> Feed:
        if self._n_users:
            return {"user": np.array([self._random.randrange(self._n_users)], np.int64)}
        return {"history": self._items(self._history)}

    def _items(self, count: int) -> NDArray[np.int64]:
        return np.array([[self._random.randrange(self._n_items) for _ in range(count)]], np.int64)


def measure_plain(request: Request) -> dict[str, Any]:
    """The same figures for an ONNX file with everything inside: user int64 [1] in, items [1, k] first out."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(request["threads"])
    options.log_severity_level = 3
    if not request["prepack"]:
        options.add_session_config_entry("session.disable_prepacking", "1")
    model, providers = request["model"], ["CPUExecutionProvider"]
    session, load_ms = timed(lambda: ort.InferenceSession(model, options, providers=providers))
    numbers, n_users = random.Random(request["seed"]), int(request["users"])
    recommend = time_calls(
        lambda: {"user": np.array([numbers.randrange(n_users)], np.int64)},
        lambda feed: session.run(None, feed),
        Limits(int(request["calls"]), float(request["seconds"])),
    )
    memory = memory_figures()
    answers = [session.run(None, {"user": np.array([user], np.int64)})[0][0].tolist() for user in request["ask"]]
    return {"load_ms": load_ms, "memory": memory, "scenarios": {"recommend": recommend}, "answers": answers}


TASKS: dict[str, Callable[[Request], dict[str, Any]]] = {
    "bundle": measure_bundle,
    "plain": measure_plain,
    "bare": bare,
}
