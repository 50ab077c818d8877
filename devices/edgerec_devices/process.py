"""Measuring processes, local or remote: their input, their exit status, and their answer or a one-line error."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from subprocess import CompletedProcess, Popen, TimeoutExpired
from threading import Event, Timer
from typing import IO, Any, cast

from edgerec.errors import BenchError, DoesNotFitError

_SIGKILL = 9  # Windows has no such signal, but devices that it connects to do
KILLED = (-_SIGKILL, 128 + _SIGKILL)
"""Exit statuses of a killed process: the kernel kills the largest one when memory runs out; a shell adds 128."""
OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "Failed to allocate memory", "Cannot allocate memory")
"""Messages of Python, C++, onnxruntime and the system when memory is refused instead."""


def answer_of(done: CompletedProcess[str]) -> dict[str, Any]:
    """Parse the JSON object that the agent wrote.

    Raises:
        DoesNotFitError: the process was killed, or failed, because memory ran out.
        BenchError: the process crashed (the message ends with its last line), or its answer is no JSON object.
    """
    if done.returncode in KILLED:
        raise DoesNotFitError("the measuring process was killed by SIGKILL, as systems do when memory runs out")
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
    """Return the error of a process that was stopped after its time limit."""
    return BenchError(f"measuring took longer than {seconds:g} s and was stopped; ask for fewer calls or seconds")


def signal_name(number: int) -> str:
    """Return the name of a signal: 'SIGKILL', or 'signal 9' on systems that do not know it."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(done: CompletedProcess[str]) -> str:
    """Return the last line of standard error, or the signal that killed the process."""
    if done.returncode < 0:
        return f"killed by {signal_name(-done.returncode)}"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"status {done.returncode}, and it said nothing"


def exchange(
    process: Popen[bytes],
    pieces: Iterable[bytes],
    seconds: float,
    grace_s: float,
    came: Callable[[], int] = lambda: 0,
) -> int:
    """Write a process's input, wait for its end, and return its exit status.

    The process's input is closed at the end; a process that does not end then is killed.

    Args:
        pieces: bytes for its standard input; writing stops if the process ends.
        seconds: the process is killed if it accepts no input for this long, or, once it has all its input, neither
            sends anything nor ends.
        grace_s: seconds to wait after its input was closed.
        came: returns the number of bytes that it has sent.

    Raises:
        TimeoutExpired: the process was killed after `seconds`.
    """
    stream = cast("IO[bytes]", process.stdin)
    stuck = Event()
    try:
        with suppress(BrokenPipeError):  # the process ended first; its output has the reason
            for piece in pieces:
                with _within(seconds, process, stuck):
                    stream.write(piece)
            with _within(seconds, process, stuck):
                stream.flush()
        if stuck.is_set():
            raise TimeoutExpired(process.args, seconds)
        return _ended(process, seconds, came)
    finally:
        with suppress(BrokenPipeError), _within(grace_s, process, stuck):
            stream.close()
        try:
            process.wait(grace_s)
        except TimeoutExpired:
            process.kill()
            process.wait()


def _ended(process: Popen[bytes], seconds: float, came: Callable[[], int]) -> int:
    while True:
        before = came()
        try:
            return process.wait(seconds)
        except TimeoutExpired:
            if came() == before:
                raise


@contextmanager
def _within(seconds: float, process: Popen[bytes], stuck: Event) -> Iterator[None]:
    """Kill the process if the block takes longer, so that a blocked write ends with BrokenPipeError."""

    def give_up() -> None:
        stuck.set()
        process.kill()

    timer = Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
