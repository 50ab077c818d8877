"""One process that is written to, waited for, and gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen, TimeoutExpired
from threading import Event, Timer
from typing import IO, cast


def converse(
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
