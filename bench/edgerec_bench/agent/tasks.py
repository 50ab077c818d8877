"""The tasks: measure a bundle, a plain ONNX model or another library, or only say what a bare session takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle, onnxruntime
from edgerec_bench.agent.clock import Limits, time_calls, timed
from edgerec_bench.agent.memory import bare, memory_figures
from edgerec_bench.agent.peers import build_index, measure_peer
from edgerec_bench.agent.profile import profile_bundle
from edgerec_bench.agent.questions import Feed, Questions, encoded
from edgerec_bench.agent.yardstick import yardstick_ms

Request = dict[str, Any]


def measure_bundle(request: Request) -> dict[str, Any]:
    """Open a bundle, answer from it, and say what that took.

    Returns:
        load_ms: the bundle opened without verification and the recommend graph's session made.
        scenarios: by name, what `time_calls` says. 'recommend' is the graph, one random user (or history) a call,
            in bundle rows; 'recommend, raw ids' is `Recommender.recommend` with the same question; 'score C' is the
            score graph on C random candidates. Where a graph of its own makes a history's vector, a call is of both.
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
    scenarios = {
        "recommend": time_calls(questions.rows, _asker(bundle, "recommend"), limits),
        "recommend, raw ids": time_calls(questions.raw, lambda asked: model.recommend(**asked), limits),
    }
    memory, yardstick = memory_figures(), yardstick_ms()
    for count in request.get("candidates", ()) if bundle.has_graph("score") else ():
        ask = _asker(bundle, "score")
        scenarios[f"score {count}"] = time_calls(partial(questions.candidates, int(count)), ask, limits)
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


def _asker(bundle: Bundle, graph: str) -> Callable[[Feed], Any]:
    """A call of a graph, after one of 'encode' where that makes the vector that it takes."""
    run = partial(bundle.session(graph).run, None)
    return (lambda feed: run(encoded(bundle, feed))) if bundle.has_graph("encode") else run


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


def open_graphs(request: Request) -> dict[str, Any]:
    """Open the graphs of one bundle one after the other in this process, and call each.

    Returns:
        {"graphs": {name: memory after its calls}}, in KiB, in the order of request['graphs']; absent graphs are left
        out.
    """
    onnxruntime()
    bundle = Bundle(request["bundle"], verify=False, threads=int(request["threads"]))
    questions = Questions(bundle, request)
    ask: dict[str, Callable[[], Feed]] = {
        "recommend": questions.rows,
        "score": partial(questions.candidates, 1000),
        "similar": questions.item,
    }
    seen: dict[str, dict[str, int]] = {}
    for name in filter(bundle.has_graph, request["graphs"]):
        call = _asker(bundle, name)
        for _ in range(int(request["calls"])):
            call(ask[name]())
        seen[name] = memory_figures()
    return {"graphs": seen}


TASKS: dict[str, Callable[[Request], dict[str, Any]]] = {
    "bundle": measure_bundle,
    "plain": measure_plain,
    "bare": bare,
    "graphs": open_graphs,
    "profile": profile_bundle,
    "index": build_index,
    "peer": measure_peer,
}
