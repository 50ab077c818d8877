"""The agent's tasks: measure a bundle, or a bare session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle, onnxruntime
from edgerec_devices.agent.clock import Limits, timed, yardstick_ms
from edgerec_devices.agent.counters import Instructions, bare, faults_since, memory_figures, page_faults
from edgerec_devices.agent.isolated import ISOLATED
from edgerec_devices.agent.scenarios import DEFAULT, Measurements, OpenBundle, Questions, backend_of

Request = dict[str, Any]


def measure_bundle(request: Request) -> dict[str, Any]:
    """Open a bundle and measure its load, its scenarios and their costs.

    Isolated scenarios run first; if the request has no others, their answers are the whole answer.

    Returns:
        The answers of the isolated scenarios, and:
        load_ms: time to open the bundle without verification and the session of its recommend graph.
        scenarios: by name, the result of `time_calls`. 'recommend' is the graph with one random user (or history) per
            call, in bundle rows; 'recommend, raw ids' is `Recommender.recommend` with the same question; 'score C' is
            the score graph on C random candidates; 'lookup' on one, which reads and decodes one row of a user and one
            of an item; 'history' is the encode graph. If the bundle has an encode graph, a call of the other scenarios
            includes it.
        memory: KiB after the first scenario.
        faults: {minor, major} page faults by scenario, and while loading.
        cost: by scenario {instructions, joules} per call, if they can be counted.
        yardstick_ms: time of a fixed piece of work, measured between the scenarios.
        verify_ms: time to open the bundle once more, with the sha256 of every file compared.
        answers: raw ids of the k best items of each user in request['ask'].
    """
    if backend_of(request) == "onnxruntime":
        onnxruntime()
    wanted = request.get("scenarios", DEFAULT)
    alone: dict[str, Any] = {}
    for name in filter(ISOLATED.__contains__, wanted):
        alone |= ISOLATED[name](request)
    if wanted and set(wanted) <= set(ISOLATED):
        return alone
    with closing(Instructions()) as counter:
        return {**_measure(request, [name for name in wanted if name not in ISOLATED], counter), **alone}


def _measure(request: Request, wanted: Sequence[str], counter: Instructions) -> dict[str, Any]:
    folder, threads, backend = request["bundle"], int(request["threads"]), backend_of(request)

    def load() -> tuple[Bundle, Recommender]:
        opened = Bundle(folder, verify=False, threads=threads)
        return opened, Recommender(opened, backend)

    before = page_faults()
    (bundle, model), load_ms = timed(load)
    measurements = Measurements(
        OpenBundle(bundle, model, Questions(bundle, request), backend),
        tuple(int(count) for count in request.get("candidates", ())),
        Limits(int(request["calls"]), float(request["seconds"])),
    )
    measurements.faults["load"] = faults_since(before)
    measurements.take(wanted[:1])
    memory, yardstick = memory_figures(), yardstick_ms()
    measurements.take(wanted[1:])
    measurements.count(counter)
    _, verify_ms = timed(lambda: Bundle(folder, verify=True))
    users = request.get("ask", ())
    return {
        "load_ms": load_ms,
        "verify_ms": verify_ms,
        "yardstick_ms": yardstick,
        "memory": memory,
        "faults": {name: faults for name, faults in measurements.faults.items() if faults},
        "scenarios": measurements.figures,
        "cost": {name: cost for name, cost in measurements.cost.items() if cost},
        "answers": [[best.item for best in model.recommend(user, k=measurements.opened.questions.k)] for user in users],
    }


Task = Callable[[Request], dict[str, Any]]
"""A function from a request to its answer."""
TASKS: dict[str, Task] = {
    "bundle": measure_bundle,
    "bare": bare,
}
