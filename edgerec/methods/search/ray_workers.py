"""Workers of a Ray cluster: one task a processor, on whichever nodes there are, each with EdgeRec installed."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from edgerec.errors import EdgeRecError, MissingExtraError, WorkerError
from edgerec.extras import require
from edgerec.methods.search.workers import Function

_RETRIES = 3
"""Times that a task is given again where its node is lost."""
_PATIENCE_SECONDS = 5.0


class RayTasks:
    """Tasks of a cluster; what is shared lies once in each node's object store, and is read there without a copy."""

    def __init__(self, address: str | None, function: Function, shared: Any) -> None:
        """Connect to the cluster of a 'ray://HOST:PORT' address, or with None start one on this machine.

        Raises MissingExtraError without Ray, WorkerError where the cluster does not answer.
        """
        self._ray = require("ray", "ray")
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address)
        self._task = self._ray.remote(num_cpus=1, max_retries=_RETRIES)(_answered)
        self._function, self._shared = function, self._ray.put(shared)
        self._running: list[Any] = []

    def _connect(self, address: str | None) -> None:
        try:
            if address is not None:
                require("grpc", "ray")
                # Ray itself tries for half a minute.
                host, _, port = address.removeprefix("ray://").rpartition(":")
                socket.create_connection((host, int(port)), _PATIENCE_SECONDS).close()
            self._ray.init(address=address, log_to_driver=False, logging_level="error")
        except MissingExtraError:
            raise
        except Exception as error:  # Ray's are of many kinds, and of many lines
            reason = str(error).strip().splitlines()
            raise WorkerError(
                f"no Ray cluster answers at {address or 'this machine'} ({reason[0] if reason else repr(error)}); "
                "start one with 'GRPC_ENABLE_FORK_SUPPORT=0 ray start --head --ray-client-server-port=10001', and give "
                "ray://HOST:10001"
            ) from error

    def answers(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        numbers = {self._task.remote(self._function, self._shared, task): n for n, task in enumerate(tasks)}
        self._running = list(numbers)
        while self._running:
            (ready,), self._running = self._ray.wait(self._running, num_returns=1)
            try:
                answer, error = self._ray.get(ready)
            except self._ray.exceptions.RayError as failure:
                raise WorkerError(f"a worker of the cluster failed: {_last_line(failure)}") from failure
            if error is not None:
                raise error
            yield numbers[ready], answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()
        if self._ours:
            self._ray.shutdown()


def _answered(function: Function, shared: Any, task: Any) -> tuple[Any, EdgeRecError | None]:
    try:
        return function(shared, task), None
    except EdgeRecError as error:
        return None, error


def _last_line(error: BaseException) -> str:
    """Ray puts the remote traceback into the message: its last line says what happened."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)
