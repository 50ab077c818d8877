"""The ranks of several processes: torch.distributed with gloo, started by torchrun, moves what they exchange."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import WorkerError
from edgerec.extras import require
from edgerec.ranks import ALONE, Array, Ranks

_STARTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that torchrun sets in the processes that it starts."""
LOST = "lost its connection"
"""Words of the error of a rank that notices the end of another, which is never the first cause."""


def is_rank() -> bool:
    """Return True in a process that torchrun started as one of several."""
    return all(name in os.environ for name in _STARTED) and os.environ["WORLD_SIZE"] != "1"


def threads_of_rank() -> int:
    """Return this rank's share of the processors."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the ranks of this process while the block runs; `ALONE` if torchrun did not start it as one of several.

    Raises WorkerError if the others do not answer.
    """
    if not is_rank():
        yield ALONE
        return
    ranks = GlooRanks()
    yield ranks
    ranks.leave()  # not after an error: the others are waited for there


class GlooRanks(Ranks):
    """One of the processes that torchrun started.

    Sums and broadcasts are whole numbers of messages of gloo: tests/training/ranks/traffic.py says how many bytes.
    Every method raises WorkerError if another rank has ended.
    """

    def __init__(self) -> None:
        """Connect to the other ranks. Raises WorkerError if they do not answer."""
        torch = require("torch", "train")
        self._torch, self._to = torch, require("torch.distributed", "train")
        self._parent = os.getppid()
        self.rank, self.count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self._guarded(lambda: self._to.init_process_group("gloo"))

    def leave(self) -> None:
        """Disconnect, when all ranks are done."""
        self.wait()
        self._to.destroy_process_group()

    def sum(self, array: Array) -> Array:
        result = np.array(array)  # reduced in place
        self._guarded(lambda: self._to.all_reduce(self._tensor(result)))
        return result[()] if result.ndim == 0 else result  # type: ignore[return-value]

    def total(self, value: float) -> float:
        return float(self.sum(np.array([value], np.float64))[0])

    def gather(self, rows: Array) -> Array:
        counts = self._counts(len(rows))
        result = np.empty((int(counts.sum()), *rows.shape[1:]), rows.dtype)
        parts = np.split(result, np.cumsum(counts)[:-1])
        parts[self.rank][...] = rows

        def broadcast() -> None:
            # A broadcast of each part, as gloo's own gathering needs parts of equal size.
            sent = [
                self._to.broadcast(self._tensor(part), source, async_op=True)
                for source, part in enumerate(parts)
                if part.size
            ]
            for one in sent:
                one.wait()

        self._guarded(broadcast)
        return result  # type: ignore[return-value]

    def collect(self, rows: Array) -> Array:
        counts = self._counts(len(rows))
        if self.rank:
            if rows.size:
                self._guarded(lambda: self._to.send(self._tensor(np.ascontiguousarray(rows)), 0))
            return rows
        result = np.empty((int(counts.sum()), *rows.shape[1:]), rows.dtype)
        parts = np.split(result, np.cumsum(counts)[:-1])
        parts[0][...] = rows

        def receive() -> None:
            for source, part in enumerate(parts):
                if source and part.size:
                    self._to.recv(self._tensor(part), source)

        self._guarded(receive)
        return result  # type: ignore[return-value]

    def first(self, array: Array) -> Array:
        result = np.array(array)
        self._guarded(lambda: self._to.broadcast(self._tensor(result), 0))
        return result  # type: ignore[return-value]

    def exchange(self, parts: Sequence[Array], lengths: Sequence[int] | None = None) -> list[Array]:
        sizes = [len(part) for part in parts]
        mine = self._received(sizes) if lengths is None else list(lengths)
        result = np.empty((sum(mine), *parts[0].shape[1:]), parts[0].dtype)
        given = np.concatenate(parts)
        self._guarded(lambda: self._to.all_to_all_single(self._tensor(result), self._tensor(given), mine, sizes))
        return np.split(result, np.cumsum(mine)[:-1])  # type: ignore[return-value]

    def wait(self) -> None:
        self._guarded(self._to.barrier)

    def _received(self, sizes: list[int]) -> list[int]:
        """Return how many rows each rank sends to this one, which sends `sizes`."""
        every = np.zeros((self.count, self.count), np.int64)  # (from, to)
        every[self.rank] = sizes
        received: list[int] = self.sum(every)[:, self.rank].tolist()
        return received

    def _counts(self, n: int) -> NDArray[np.int64]:
        """Return the (count,) numbers of rows of all ranks."""
        counts = np.zeros(self.count, np.int64)
        counts[self.rank] = n
        return self.sum(counts)

    def _tensor(self, array: NDArray[Any]) -> Any:
        return self._torch.from_numpy(array)

    def _guarded(self, operation: Callable[[], Any]) -> None:
        """Run a collective operation. Raises WorkerError if a rank, or the launcher of this one, has ended."""
        if os.getppid() != self._parent:  # a launcher that is killed leaves its ranks running
            raise WorkerError(f"rank {self.rank} {LOST} to its launcher; continue with --resume")
        try:
            operation()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise WorkerError(
                f"rank {self.rank} of {self.count} {LOST} to the others ({reason}): the first message of torchrun "
                "names the rank that ended; continue with the same command and --resume"
            ) from error
