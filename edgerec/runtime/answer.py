"""Answers questions from a bundle in a process of its own, and says how much memory that took above a bare session.

usage: python -m edgerec.runtime.answer BUNDLE QUESTIONS.npz ANSWERS.npz

Questions are the graphs' inputs, named 'recommend.0.user', 'score.1.candidates'; answers are their outputs.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import numpy as np

from edgerec.runtime.bundle import Bundle
from edgerec.runtime.memory import memory_kib, run_bare_session


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
