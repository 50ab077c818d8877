"""Workers that run the trainings of a search: this process, other processes, or a Ray cluster.

All run one function of (shared, task), which must be importable by name. The shared part is sent to each worker once.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from edgerec.errors import EdgeRecError, MissingExtraError, UnsupportedError, WorkerError
from edgerec.extras import require

Function = Callable[[Any, Any], Any]
_LOCAL, _CLUSTER = "ray", "ray://"


class Pool(ABC):
    """Runs tasks; a context manager, whose end stops the workers.

    Attributes:
        size: number of tasks that run at a time.
    """

    size: int

    @abstractmethod
    def answers(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the number and result of each task, in the order of completion.

        Raises the function's errors, and WorkerError if a worker is lost.
        """

    def close(self) -> None:
        """Stop the workers, if there are any."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_workers(text: str) -> int | str:
    """Parse workers: a number from 1 up, 'ray', or 'ray://HOST:PORT'. Raises UnsupportedError."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text == _LOCAL or (text.startswith(_CLUSTER) and text.rpartition(":")[2].isdecimal()):
        return text
    raise UnsupportedError(f"there are no workers {text!r}; give a number, 'ray', or ray://HOST:PORT")


def pool(workers: int | str | None, function: Function, shared: Any) -> Pool:
    """Return a pool: a number of processes, a Ray cluster by its address, or None for this process alone.

    Raises UnsupportedError for malformed workers, MissingExtraError without Ray, WorkerError if its cluster does not
    answer.
    """
    if workers is None:
        return Serial(function, shared)
    kind = parse_workers(str(workers))
    if isinstance(kind, int):
        return Processes(kind, function, shared)
    return RayTasks(None if kind == _LOCAL else kind, function, shared)


class Serial(Pool):
    """A pool that runs one task after another in this process."""

    size = 1

    def __init__(self, function: Function, shared: Any) -> None:
        self._function, self._shared = function, shared

    def answers(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for number, task in enumerate(tasks):
            yield number, self._function(self._shared, task)


class Processes(Pool):
    """A pool of processes on this machine, started with the first tasks.

    They end when this process ends, even if it is killed, since their pipe closes.
    """

    def __init__(self, n: int, function: Function, shared: Any) -> None:
        self.size, self._function, self._shared = n, function, shared
        self._running: dict[Connection, multiprocessing.process.BaseProcess] = {}

    def answers(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        waiting, at = deque(enumerate(tasks)), dict[Connection, int]()
        while len(self._running) < min(self.size, len(tasks)):
            self._start()
        for pipe in self._running:
            if waiting:
                at[pipe] = self._send(pipe, waiting.popleft())
        while at:
            ready = wait(list(at))
            for pipe in [pipe for pipe in at if pipe in ready]:
                number = at.pop(pipe)
                answer = self._receive(pipe)
                if waiting:
                    at[pipe] = self._send(pipe, waiting.popleft())
                yield number, answer

    def _start(self) -> None:
        # Forked children would inherit the locks of torch's and BLAS's threads in any state.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._function, self._shared), daemon=True)
        with _interrupts_held():
            process.start()
        theirs.close()
        self._running[ours] = process

    def _send(self, pipe: Connection, task: tuple[int, Any]) -> int:
        number, what = task
        try:
            pipe.send(what)
        except OSError:
            self._lost(pipe)
        return number

    def _receive(self, pipe: Connection) -> Any:
        try:
            answer, error = pipe.recv()
        except (EOFError, OSError):
            self._lost(pipe)
        if error is not None:
            raise error
        return answer

    def _lost(self, pipe: Connection) -> None:
        process = self._running[pipe]
        process.join(5)
        status = process.exitcode
        why = f"was killed by {signal.Signals(-status).name}" if status is not None and status < 0 else "ended"
        raise WorkerError(
            f"a worker {why}; if memory is short, continue with fewer --workers. A script must start "
            "workers under: if __name__ == '__main__'"
        )

    def close(self) -> None:
        """Stop the processes."""
        for pipe, process in self._running.items():
            process.terminate()
            pipe.close()
        for process in self._running.values():
            process.join()
        self._running.clear()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back: a process that starts meanwhile never sees it, and this one gets it afterwards.

    Without it a worker that still imports its modules would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # starting it would let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, function: Function, shared: Any) -> None:
    """Run tasks until the pipe closes; ignore Ctrl-C, which reaches all processes: the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send((function(shared, task), None))
        except EdgeRecError as error:
            pipe.send((None, error))
        except Exception as error:
            pipe.send((None, WorkerError(f"a worker failed: {error!r}")))


_RETRIES = 3
"""Number of retries of a task if its node is lost."""
_PATIENCE_SECONDS = 5.0
"""Seconds in which a cluster must accept a connection."""


class RayTasks(Pool):
    """A pool on a Ray cluster, whose nodes hold the shared part once; workers read it without a copy."""

    def __init__(self, address: str | None, function: Function, shared: Any) -> None:
        """Connect to the cluster of a 'ray://HOST:PORT' address, or with None start one on this machine.

        Raises MissingExtraError without Ray, WorkerError if the cluster does not answer.
        """
        self._ray = require("ray", "ray")
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address)
        self._task = self._ray.remote(num_cpus=1, max_retries=_RETRIES)(_answered)
        self._function, self._shared = function, self._ray.put(shared)
        self._running: list[Any] = []
        self.size = max(int(self._ray.cluster_resources().get("CPU", 1)), 1)

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
        except Exception as error:  # Ray raises errors of many types, with messages of many lines
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

    def close(self) -> None:
        """Cancel the running tasks, and leave the cluster."""
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
    """Return the last line of a Ray error, whose message contains the remote traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)
