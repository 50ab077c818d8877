"""The command line: it parses, calls the Python API and prints; it decides nothing of its own."""

from __future__ import annotations

import io
import os
import sys

from edgerec.errors import EdgeRecError, reason_of
from edgerec.extras import require

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
PIPE_CLOSED = 141
"""Exit status if the reader of standard output left early, as of programs that SIGPIPE ends."""


def main() -> None:
    """Run `edgerec`. A user's error is one line on standard error and status 2; Ctrl-C is status 130, and a reader of
    standard output that leaves early, as `head` does, is status 141."""
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A title, or the name of a file, may hold what the terminal or UTF-8 has no bytes for.
            sys.stdout.reconfigure(errors="backslashreplace")
        require("click", "cli")
        require("rich", "cli")
        from edgerec.cli.app import run

        status = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        status = PIPE_CLOSED
    except KeyboardInterrupt:
        status = INTERRUPTED
    except EdgeRecError as error:
        sys.stderr.write(f"Error: {reason_of(error)}\n")
        status = 2
    if status == PIPE_CLOSED:
        # What is still buffered would be written at exit, and fail there with a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if status == INTERRUPTED:
        # Python ends `python -m` by the signal, whatever the status, where the last code that it compiled from a
        # string was interrupted: dataclasses compile theirs. Any other code makes it forget that.
        exec("")
    sys.exit(status)
