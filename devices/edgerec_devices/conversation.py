"""One process that is written to, waited for, and gone afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from subprocess import Popen, TimeoutExpired
from typing import IO, cast


def converse(process: Popen[bytes], write: Callable[[IO[bytes]], None], seconds: float | None, grace_s: float) -> int:
    """Its exit status. At the end its input is closed, and it is killed where that does not end it.

    Args:
        write: to its standard input; what it ended before is not written.
        seconds: to wait for its end; None for as long as it takes.
        grace_s: to wait after its input was closed.

    Raises:
        TimeoutExpired: it took longer than `seconds`; it is gone then too.
    """
    stream = cast("IO[bytes]", process.stdin)
    try:
        with suppress(BrokenPipeError):  # the other side ended first, and says why
            write(stream)
            stream.flush()
        return process.wait(seconds)
    finally:
        with suppress(BrokenPipeError):
            stream.close()
        try:
            process.wait(grace_s)
        except TimeoutExpired:
            process.kill()
            process.wait()
