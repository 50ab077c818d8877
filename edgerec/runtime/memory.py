"""This process's memory as the kernel counts it, and the bare session that every figure is compared with.

usage: python -m edgerec.runtime.memory BUNDLE QUESTIONS.npz ANSWERS.npz

Answers questions from a bundle in a process of its own, and measures the memory that this took above a bare session.
Questions are the graphs' inputs, named 'recommend.0.user', 'score.1.candidates'; answers are their outputs.
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
    """VmHWM, VmRSS, RssAnon, RssFile, RssShmem and VmSwap of this process in KiB; empty where there is no /proc."""
    try:
        lines = PROC_STATUS.read_text().splitlines()
    except OSError:
        return {}
    wanted = ("VmHWM", "VmRSS", "RssAnon", "RssFile", "RssShmem", "VmSwap")
    pairs = (line.split(":") for line in lines if line.startswith(wanted))
    return {name: int(rest.split()[0]) for name, rest in pairs}


def run_bare_session(threads: int) -> None:
    """Open a session of one node and run it once: what onnxruntime itself takes."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(one_node_model(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.zeros(1, np.float32)})


def one_node_model() -> bytes:
    """The ONNX file of y = Relu(x), x float32 [1]: ModelProto by hand, since the onnx package may be absent."""
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
    """A protobuf field that holds a small number."""
    return bytes([field << 3, value])


def _message(field: int, content: bytes) -> bytes:
    """A protobuf field that holds fewer than 128 bytes of text or message."""
    return bytes([field << 3 | 2, len(content)]) + content


def main(bundle: str, questions: str, answers: str) -> None:
    """Answer and write; errors go to standard error with a traceback, for the parent to show."""
    with np.load(questions, allow_pickle=False) as archive:
        asked: dict[str, dict[str, Any]] = defaultdict(dict)
        for name in archive.files:
            call, _, tensor = name.rpartition(".")
            asked[call][tensor] = archive[name]
    run_bare_session(1)
    before = memory_kib()
    opened = Bundle(bundle, verify=False)
    results: dict[str, Any] = {}
    for call, feed in asked.items():
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
