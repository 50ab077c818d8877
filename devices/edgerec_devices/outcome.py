"""What became of a measuring process, near or far: its answer, or an error of one line."""

from __future__ import annotations

import json
import signal
from subprocess import CompletedProcess
from typing import Any

from edgerec.errors import BenchError, DoesNotFitError

_SIGKILL = 9  # Windows has no such signal, but may talk to devices that have
KILLED = (-_SIGKILL, 128 + _SIGKILL)
"""Where memory runs out the kernel kills what takes most of it; a shell in between adds 128 to the signal."""
OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "Failed to allocate memory", "Cannot allocate memory")
"""What Python, C++, onnxruntime and the system say where it is refused instead."""


def answer_of(done: CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object that the agent wrote.

    Raises:
        DoesNotFitError: it was killed, or ended, for its memory.
        BenchError: the process crashed (the message ends with its last line), or answered something else.
    """
    if done.returncode in KILLED:
        raise DoesNotFitError("the measuring process was killed by SIGKILL, as systems do where memory runs out")
    if done.returncode != 0:
        said = _last_words(done)
        if any(word in said for word in OUT_OF_MEMORY):
            raise DoesNotFitError(f"the measuring process ran out of memory: {said}")
        raise BenchError(f"the measuring process failed: {said}")
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


def signal_name(number: int) -> str:
    """'SIGKILL'; 'signal 9' on systems that do not know it."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(done: CompletedProcess[str]) -> str:
    """The last line of standard error; for a killed process, the signal."""
    if done.returncode < 0:
        return f"killed by {signal_name(-done.returncode)}"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"status {done.returncode}, and it said nothing"
