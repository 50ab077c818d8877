"""The time of a call by operator, from onnxruntime's own profiler."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from edgerec.runtime.bundle import Bundle, onnxruntime
from edgerec_devices.agent.scenarios import Questions, encoded

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
