"""The libraries that search vectors, measured as bundles are: an index on disk, one query a call."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError
from edgerec.extras import require
from edgerec_bench.agent.clock import Limits, time_calls, timed
from edgerec_bench.agent.memory import memory_figures

EXTRA = "peers"
ROWS_AT_ONCE = 1 << 17
TRAINING_ROWS = 100_000
Search = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
"""(d,) query and k to the (k,) best rows."""


class Faiss:
    """An exact index of faiss, as `IndexFlatIP` or with 8 bits a value."""

    package = "faiss"

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._faiss: Any = require(self.package, EXTRA)

    def build(self, items: NDArray[np.float32], path: Path) -> None:
        faiss, d = self._faiss, items.shape[1]
        if self._kind == "SQ8":
            index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
            index.train(np.ascontiguousarray(items[:: -(-len(items) // TRAINING_ROWS)]))
        else:
            index = faiss.IndexFlatIP(d)
        for start in range(0, len(items), ROWS_AT_ONCE):
            index.add(np.ascontiguousarray(items[start : start + ROWS_AT_ONCE]))
        faiss.write_index(index, str(path))

    def open(self, path: Path, threads: int) -> Search:
        self._faiss.omp_set_num_threads(threads)
        index = self._faiss.read_index(str(path))

        def search(query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
            rows: NDArray[np.int64] = index.search(query[None], k)[1][0]
            return rows

        return search


class Usearch:
    """usearch's exact search over the matrix, memory-mapped."""

    package = "usearch"

    def __init__(self) -> None:
        require(self.package, EXTRA)
        self._index: Any = require("usearch.index", EXTRA)

    def build(self, items: NDArray[np.float32], path: Path) -> None:
        with path.open("wb") as stream:
            np.save(stream, items)

    def open(self, path: Path, threads: int) -> Search:
        items, product = np.load(path, mmap_mode="r"), self._index.MetricKind.IP

        def search(query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
            found = self._index.search(items, query, k, product, exact=True, threads=threads)
            return np.asarray(found.keys, np.int64)

        return search


PEERS: dict[str, Callable[[], Faiss | Usearch]] = {
    "faiss IndexFlatIP": lambda: Faiss("Flat"),
    "faiss SQ8": lambda: Faiss("SQ8"),
    "usearch exact": Usearch,
}


def build_index(request: dict[str, Any]) -> dict[str, Any]:
    """Write the index of a matrix; {"nbytes": of the file}. Raises MissingExtraError where the library is absent."""
    path = Path(request["index"])
    _peer(request).build(np.load(request["items"], mmap_mode="r"), path)
    return {"nbytes": path.stat().st_size}


def measure_peer(request: dict[str, Any]) -> dict[str, Any]:
    """The figures that `measure_plain` gives, of an index; `imported`: the memory before it was
    opened, with the library imported alone."""
    peer = _peer(request)
    imported = memory_figures()
    path, threads, k = Path(request["index"]), int(request["threads"]), int(request["k"])
    search, load_ms = timed(lambda: peer.open(path, threads))
    users, numbers = np.load(request["users"], mmap_mode="r"), random.Random(request["seed"])
    recommend = time_calls(
        lambda: np.array(users[numbers.randrange(len(users))]),
        lambda query: search(query, k),
        Limits(int(request["calls"]), float(request["seconds"])),
    )
    memory = memory_figures()
    answers = [search(np.array(users[row]), k).tolist() for row in request["ask"]]
    return {
        "load_ms": load_ms,
        "memory": memory,
        "imported": imported,
        "scenarios": {"recommend": recommend},
        "answers": answers,
    }


def _peer(request: dict[str, Any]) -> Faiss | Usearch:
    name = request["peer"]
    if name not in PEERS:
        raise BenchError(f"there is no peer {name!r}; there are: {', '.join(PEERS)}")
    return PEERS[name]()
