"""The tasks: measure a bundle or a plain ONNX model, or only say what a bare session takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle, onnxruntime
from edgerec_devices.agent.isolated import ISOLATED
from edgerec_devices.agent.clock import Limits, time_calls, timed, yardstick_ms
from edgerec_devices.agent.counters import (
    Instructions,
    bare,
    faults_since,
    instruction_counter,
    memory_figures,
    page_faults,
)
from edgerec_devices.agent.profile import profile_bundle
from edgerec_devices.agent.scenarios import DEFAULT, Feed, Opened, Questions, Measurements, asker

Request = dict[str, Any]


def measure_bundle(request: Request) -> dict[str, Any]:
    """Open a bundle, answer from it, and say what that took.

    Scenarios that `isolated` holds come first; where only such are asked for, their answers are all.

    Returns:
        What `isolated` says of its scenarios, and:
        load_ms: the bundle opened without verification and the recommend graph's session made.
        scenarios: by name, what `time_calls` says. 'recommend' is the graph, one random user (or history) a call,
            in bundle rows; 'recommend, raw ids' is `Recommender.recommend` with the same question; 'score C' is the
            score graph on C random candidates; 'lookup' on one: a user's and an item's row read and decoded;
            'history' the encode graph. Where that makes the vector of a history, a call of the others is of both.
        memory: KiB after the first of the scenarios.
        faults: {minor, major} pages by scenario, and while loading.
        cost: by scenario {instructions, joules} a call, as far as they can be counted.
        yardstick_ms: the same work whatever the bundle, timed between the scenarios.
        verify_ms: the same bundle opened once more, the sha256 of every file compared.
        answers: the raw ids of the k best for each user in request['ask'].
    """
    onnxruntime()
    wanted = request.get("scenarios", DEFAULT)
    alone: dict[str, Any] = {}
    for name in filter(ISOLATED.__contains__, wanted):
        alone |= ISOLATED[name](request)
    if wanted and set(wanted) <= set(ISOLATED):
        return alone
    with instruction_counter() as counter:
        return {**_measure(request, [name for name in wanted if name not in ISOLATED], counter), **alone}


def _measure(request: Request, wanted: Sequence[str], counter: Instructions) -> dict[str, Any]:
    folder, threads = request["bundle"], int(request["threads"])

    def load() -> tuple[Bundle, Recommender]:
        opened = Bundle(folder, verify=False, threads=threads)
        return opened, Recommender(opened)

    before = page_faults()
    (bundle, model), load_ms = timed(load)
    measurements = Measurements(
        Opened(bundle, model, Questions(bundle, request)),
        tuple(int(count) for count in request.get("candidates", ())),
        Limits(int(request["calls"]), float(request["seconds"])),
    )
    measurements.faults["load"] = faults_since(before)
    measurements.take(wanted[:1])
    memory, yardstick = memory_figures(), yardstick_ms()
    measurements.take(wanted[1:])
    measurements.count(counter)
    _, verify_ms = timed(lambda: Bundle(folder, verify=True))
    asked = request.get("ask", ())
    return {
        "load_ms": load_ms,
        "verify_ms": verify_ms,
        "yardstick_ms": yardstick,
        "memory": memory,
        "faults": {name: faults for name, faults in measurements.faults.items() if faults},
        "scenarios": measurements.figures,
        "cost": {name: cost for name, cost in measurements.cost.items() if cost},
        "answers": [[best.item for best in model.recommend(user, k=measurements.opened.questions.k)] for user in asked],
    }


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
        call = asker(bundle, name)
        for _ in range(int(request["calls"])):
            call(ask[name]())
        seen[name] = memory_figures()
    return {"graphs": seen}


Task = Callable[[Request], dict[str, Any]]
"""From a request to its answer."""
TASKS: dict[str, Task] = {
    "bundle": measure_bundle,
    "plain": measure_plain,
    "bare": bare,
    "graphs": open_graphs,
    "profile": profile_bundle,
}
