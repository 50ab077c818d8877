"""Measuring processes: written to and waited for, near or far; then their answer, or an error of one line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from subprocess import CompletedProcess, Popen, TimeoutExpired
from threading import Event, Timer
from typing import IO, Any, cast

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


def exchange(
    process: Popen[bytes],
    pieces: Iterable[bytes],
    seconds: float,
    grace_s: float,
    came: Callable[[], int] = lambda: 0,
) -> int:
    """Its exit status. At the end its input is closed, and it is killed where that does not end it.

    Args:
        pieces: for its standard input; what it ended before is not written.
        seconds: until it is given up: in which it takes no piece, or, once it has all, sends nothing and does not end.
        grace_s: to wait after its input was closed.
        came: bytes that it has sent so far.

    Raises:
        TimeoutExpired: it was given up; it is gone then too.
    """
    stream = cast("IO[bytes]", process.stdin)
    stuck = Event()
    try:
        with suppress(BrokenPipeError):  # the other side ended first, and says why
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
    """A write that takes longer ends with BrokenPipeError: its reader is killed."""

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
