"""What became of a measuring process, near or far: its answer, or an error of one line."""

from __future__ import annotations

import json
import signal
from subprocess import CompletedProcess
from typing import Any

from edgerec.errors import BenchError


def answer_of(done: CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object that the agent wrote.

    Raises:
        BenchError: the process crashed (the message ends with its last line), or answered something else.
    """
    if done.returncode != 0:
        raise BenchError(f"the measuring process failed: {_last_words(done)}")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        said = done.stdout[:80]
        raise BenchError(f"the measuring process answered {said!r}, no JSON object; is edgerec installed whole?")
    return answer


def took_too_long(seconds: float) -> BenchError:
    """The error of a process that was stopped."""
    return BenchError(f"measuring took longer than {seconds:g} s and was stopped; ask for fewer calls or seconds")


def _last_words(done: CompletedProcess[str]) -> str:
    """The last line of standard error; for a killed process, the signal."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"killed by {name}" + ("; is there enough memory?" if name == "SIGKILL" else "")
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"status {done.returncode}, and it said nothing"
