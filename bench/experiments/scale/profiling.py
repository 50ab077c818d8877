"""Calls of a bundle's recommend graph by operator: a task of the agent, and a program for a device behind SSH.

{"task": "profile", "bundle": FOLDER, "calls": 20, "k": 20, "exclude": 20, "history": 20, "threads": 1, "seed": 0}

As a program it reads such a request from standard input, with "bundles": [FOLDER, ...] instead of "bundle". It imports
nothing but what a device has.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from edgerec.runtime.bundle import Bundle, onnxruntime
from edgerec_devices.agent.clock import Limits, time_calls
from edgerec_devices.agent.scenarios import Questions, encoded, graph_caller

WARM_UP = 5
Event = dict[str, Any]


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


def without_profiler(operators: dict[str, Any]) -> dict[str, Any]:
    """Return operators as `summary` does, each run less that of the cheapest operator, which is mostly the profiler."""
    least = min(spent["ms"] / spent["count"] for spent in operators.values())
    return {name: {**spent, "ms": spent["ms"] - least * spent["count"]} for name, spent in operators.items()}


def count_bundle(request: dict[str, Any]) -> dict[str, Any]:
    """Return the median time of calls without the profiler, as p50_ms, and the operators of `profile_bundle`."""
    bundle, limits = Bundle(request["bundle"], verify=False, threads=int(request["threads"])), int(request["calls"])
    calls = time_calls(Questions(bundle, request).rows, graph_caller(bundle, "recommend"), Limits(limits, 0.0))
    return {"p50_ms": calls["p50_ms"], "operators": without_profiler(profile_bundle(request)["operators"])}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    counted = [count_bundle({**given, "bundle": bundle}) for bundle in given["bundles"]]
    json.dump({"bundles": counted}, sys.stdout)
