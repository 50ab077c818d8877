"""Tasks of the agent at scale: a plain ONNX model, and the memory of single graphs.

{"task": "plain", "model": FILE.onnx, "users": 1000, "prepack": true, "calls": ..., "seconds": ..., "threads": 1,
 "seed": 0, "ask": [ROW, ...]}
{"task": "graphs", "bundle": FOLDER, "graphs": ["recommend", "score", "similar"], "calls": 5, "k": 20,
 "exclude": 20, "history": 20, "threads": 1, "seed": 0}
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from edgerec.runtime.bundle import Bundle, onnxruntime
from edgerec_devices.agent.clock import Limits, time_calls, timed
from edgerec_devices.agent.counters import memory_figures
from edgerec_devices.agent.scenarios import Feed, Questions, graph_caller
from edgerec_devices.protocol import Request


def measure_plain(request: Request) -> dict[str, Any]:
    """Measure a self-contained ONNX file: input user int64 [1], first output items [1, k]."""
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
    """Open the graphs of a bundle one after the other in this process, and call each.

    Returns:
        {"graphs": {name: memory after its calls}} in KiB, in the order of request['graphs']; graphs that the bundle
        does not have are left out.
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
        call = graph_caller(bundle, name)
        for _ in range(int(request["calls"])):
            call(ask[name]())
        seen[name] = memory_figures()
    return {"graphs": seen}
