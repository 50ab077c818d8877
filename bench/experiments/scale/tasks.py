"""Tasks of the agent at scale: a plain ONNX model, the memory of single graphs, and the time of a call by operator.

{"task": "plain", "model": FILE.onnx, "users": 1000, "prepack": true, "calls": ..., "seconds": ..., "threads": 1,
 "seed": 0, "ask": [ROW, ...]}
{"task": "graphs", "bundle": FOLDER, "graphs": ["recommend", "score", "similar"], "calls": 5, "k": 20,
 "exclude": 20, "history": 20, "threads": 1, "seed": 0}
{"task": "profile", "bundle": FOLDER, "calls": 20, "k": 20, "exclude": 20, "history": 20, "threads": 1, "seed": 0}
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgerec.runtime.bundle import Bundle, onnxruntime
from edgerec_devices.agent.clock import Limits, time_calls, timed
from edgerec_devices.agent.counters import memory_figures
from edgerec_devices.agent.scenarios import Feed, Questions, encoded, graph_caller
from edgerec_devices.protocol import Request

WARM_UP = 5
Event = dict[str, Any]


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


def profile_bundle(request: dict[str, Any]) -> dict[str, Any]:
    """Profile the recommend graph of a bundle.

    Stock onnxruntime opens the graph by its path, with the manifest's session options.

    Returns:
        p50_ms: median time of the calls, longer than without the profiler.
        operators: by name {"ms": median milliseconds per call, "count": runs per call}; the body of a loop is counted
            as the operators in it.
    """
    ort, calls = onnxruntime(), int(request["calls"])
    bundle = Bundle(request["bundle"], verify=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = int(request["threads"])
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    for key, value in bundle.manifest.session.items():
        options.add_session_config_entry(key, value)
    questions = Questions(bundle, request)
    with TemporaryDirectory(prefix="edgerec-profile-") as scratch:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch, "calls"))
        graph = bundle.folder / bundle.manifest.graphs["recommend"].file.name
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        for _ in range(WARM_UP + calls):
            session.run(None, encoded(bundle, questions.rows()))
        events = json.loads(Path(session.end_profiling()).read_text())
    return summary(events, calls)


def summary(events: list[Event], calls: int) -> dict[str, Any]:
    """Summarise the events of the last `calls` runs; events have `cat`, `name`, `ts` and `dur` in microseconds."""
    runs = sorted((event for event in events if event.get("name") == "model_run"), key=_start)[-calls:]
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    of_runs = [[node for node in nodes if run["ts"] <= node["ts"] < run["ts"] + run["dur"]] for run in runs]
    own = [_own_times(of_run) for of_run in of_runs]
    count = Counter(node["args"]["op_name"] for of_run in of_runs for node in of_run)
    # The median is robust against calls that waited for another program.
    spent = {name: median(times[name] for times in own) for name in count}
    operators = {
        name: {"ms": spent[name] / 1e3, "count": count[name] / calls}
        for name in sorted(spent, key=lambda name: -spent[name])
    }
    return {"p50_ms": median(run["dur"] for run in runs) / 1e3, "operators": operators}


def _own_times(nodes: list[Event]) -> Counter[str]:
    """Return microseconds by operator in one run; a loop's time excludes the nodes in its body."""
    spent: Counter[str] = Counter()
    around: list[Event] = []
    for node in sorted(nodes, key=_start):
        while around and node["ts"] >= around[-1]["ts"] + around[-1]["dur"]:
            around.pop()
        if around:
            spent[around[-1]["args"]["op_name"]] -= node["dur"]
        around.append(node)
        spent[node["args"]["op_name"]] += node["dur"]
    return spent


def _start(event: Event) -> tuple[int, int]:
    """Return a sort key: earlier events first; of two that start together, the longer one first."""
    return event["ts"], -event["dur"]
