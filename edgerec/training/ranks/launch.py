"""The start of a command's ranks by torchrun's launcher, and the error of a rank as one line."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgerec.errors import EdgeRecError, WorkerError
from edgerec.extras import require
from edgerec.training.ranks.gloo import LOST

_OURS = "EDGEREC_LAUNCHER"
"""Set in the ranks that `launch` starts, which leave the printing of errors to it."""
_MONITOR_SECONDS = 0.1
_SHUTDOWN_SECONDS = 5
"""Seconds in which the other ranks must end after SIGTERM, before they are killed."""
_ERRORS = "torch.distributed.elastic.multiprocessing.errors"


def launch(arguments: Sequence[str], processes: int) -> None:
    """Run `edgerec` with these arguments in several processes of this machine, and wait for their end.

    Raises:
        WorkerError: a rank failed or was killed; the others were ended. The message names the first.
        KeyboardInterrupt: Ctrl-C, or the launcher was ended by a signal.
    """
    api = require("torch.distributed.launcher.api", "train")
    multiprocessing = require("torch.distributed.elastic.multiprocessing.api", "train")
    errors = require(_ERRORS, "train")
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # its records are not lines for users
    with tempfile.TemporaryDirectory() as logs:
        config = api.LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=f"edgerec-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=_MONITOR_SECONDS,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            logs_specs=multiprocessing.DefaultLogsSpecs(log_dir=logs),
        )
        os.environ[_OURS] = "1"
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun sets it too: ranks divide the processors
        try:
            api.elastic_launch(config, sys.executable)("-m", "edgerec", *arguments)
        except errors.ChildFailedError as failed:
            raise WorkerError(_first_cause(failed.failures, processes)) from None
        except multiprocessing.SignalException as stopped:
            raise KeyboardInterrupt from stopped


@contextmanager
def reported() -> Iterator[None]:
    """Run a rank's part of a command, and leave an EdgeRecError in the file from which the launcher reads it.

    Raises SystemExit in its place, if `launch` prints it.
    """
    try:
        yield
    except EdgeRecError as error:
        if "TORCHELASTIC_ERROR_FILE" in os.environ:
            handler = require(_ERRORS, "train").get_error_handler()
            handler.initialize()
            handler.record_exception(error)
        if _OURS in os.environ:
            raise SystemExit(2) from error
        raise


def _first_cause(failures: Mapping[int, Any], count: int) -> str:
    """Return the message of the rank that ended the others.

    That is one that a signal killed, as for want of memory, or else one with an error of its own: those that lost the
    connection, and those that the launcher ended with SIGTERM, only followed.
    """
    killed = {rank: one.signal_name() for rank, one in failures.items() if one.exitcode < 0}
    messages = {rank: _message(one) for rank, one in failures.items() if one.exitcode > 0}
    own = {rank: text for rank, text in messages.items() if LOST not in text}
    first = {rank: name for rank, name in killed.items() if name != "SIGTERM"} or ({} if own else killed)
    if first:
        rank = min(first)
        return (
            f"rank {rank} of {count} was killed by {first[rank]}, which ended the others; if memory is short, give "
            "fewer --processes; continue with the same command and --resume"
        )
    rank = min(own or messages)
    return (own or messages)[rank]


def _message(failure: Any) -> str:
    """Return the message of an EdgeRecError that a rank left; its status if it left none."""
    if isinstance(failure.message, dict):
        return str(failure.message["message"]).partition(": ")[2]
    return f"rank {failure.local_rank} ended with status {failure.exitcode}; its messages are above"
