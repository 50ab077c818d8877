"""Memory of this process as the kernel counts it, above that of a bare session.

usage: python -m edgerec.runtime.memory BUNDLE QUESTIONS.npz ANSWERS.npz

Answers requests to a bundle in a separate process, and measures its memory above a bare session. Requests are inputs of
graphs, with names such as 'recommend.0.user' and 'score.1.candidates'; answers are outputs.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.runtime.bundle import Bundle, onnxruntime

PROC_STATUS = Path("/proc/self/status")


def memory_kib() -> dict[str, int]:
    """Return VmHWM, VmRSS, RssAnon, RssFile, RssShmem and VmSwap of this process in KiB; empty without /proc."""
    try:
        lines = PROC_STATUS.read_text().splitlines()
    except OSError:
        return {}
    wanted = ("VmHWM", "VmRSS", "RssAnon", "RssFile", "RssShmem", "VmSwap")
    pairs = (line.split(":") for line in lines if line.startswith(wanted))
    return {name: int(rest.split()[0]) for name, rest in pairs}


def run_bare_session(threads: int) -> None:
    """Open a session of one node and run it once, for the memory of onnxruntime itself."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(one_node_model(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.zeros(1, np.float32)})


def one_node_model() -> bytes:
    """Return the ONNX file of y = Relu(x), x float32 [1], written without the onnx package, which may be missing."""
    tensor = _number(1, 1) + _message(2, _message(1, _number(1, 1)))  # elem_type FLOAT, shape [1]
    value = _message(2, _message(1, tensor))
    node = _message(1, b"x") + _message(2, b"y") + _message(4, b"Relu")
    graph = (
        _message(1, node) + _message(2, b"bare") + _message(11, _message(1, b"x") + value)
        + _message(12, _message(1, b"y") + value)
    )  # fmt: skip
    opset = _number(2, 14)
    return _number(1, 8) + _message(7, graph) + _message(8, opset)


def _number(field: int, value: int) -> bytes:
    """Return a protobuf field with a small number."""
    return bytes([field << 3, value])


def _message(field: int, content: bytes) -> bytes:
    """Return a protobuf field with fewer than 128 bytes of text or message."""
    return bytes([field << 3 | 2, len(content)]) + content


def main(bundle: str, questions: str, answers: str) -> None:
    """Answer the requests, and write the answers; errors are printed with a traceback for the parent process."""
    with np.load(questions, allow_pickle=False) as archive:
        requests: dict[str, dict[str, Any]] = defaultdict(dict)
        for name in archive.files:
            call, _, tensor = name.rpartition(".")
            requests[call][tensor] = archive[name]
    run_bare_session(1)
    before = memory_kib()
    opened = Bundle(bundle, verify=False)
    results: dict[str, Any] = {}
    for call, feed in requests.items():
        session = opened.session(call.partition(".")[0])
        names = [output.name for output in session.get_outputs()]
        for name, value in zip(names, session.run(names, feed), strict=True):
            results[f"{call}.{name}"] = value
    after = memory_kib()
    if after:
        results["peak_bytes"] = np.array((after["VmHWM"] - before["VmRSS"]) * 1024)
    np.savez(answers, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
