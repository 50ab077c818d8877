"""Other libraries, measured like bundles: an index or a model on disk, one query per call.

As a program this is an agent like `edgerec_devices.agent`, for this machine only, with the tasks of `tasks.py`, and two
that need the libraries of the extra 'peers':

    {"task": "index", "peer": NAME, "items": FILE.npy, "users": FILE.npy, "index": FOLDER, "k": 20}
    {"task": "peer", "peer": NAME, "index": FOLDER, "settings": {...}, "users": FILE.npy, "k": 20, "calls": ...,
     "seconds": ..., "threads": 1, "seed": 0, "ask": [ROW, ...]}
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.experiments.scale.peers_runtimes import ExecuTorch, LiteRt, OpenVino
from bench.experiments.scale.profiling import profile_bundle
from bench.experiments.scale.tasks import measure_plain, open_graphs
from edgerec.errors import BenchError
from edgerec.extras import require
from edgerec_devices.agent.__main__ import main
from edgerec_devices.agent.clock import Limits, time_calls, timed
from edgerec_devices.agent.counters import memory_figures
from edgerec_devices.agent.tasks import TASKS

Matrix = NDArray[np.float32]


class Peer(Protocol):
    """A library, imported on construction.

    Attributes:
        package: name on PyPI, for the recorded version.
    """

    package: str

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Write the index of (n_items, d) `items`, tuned for the k best items of (n_users, d) `users`.

        Returns the settings chosen for `open`.
        """
        ...

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> Callable[[Matrix], Any]:
        """Return a function from a (d,) query to its (k,) best rows. `settings` are those that `build` returned."""
        ...


def build_index(request: dict[str, Any]) -> dict[str, Any]:
    """Write the index of a matrix; return the 'nbytes' of its files, 'settings' for `measure_peer` and the 'version'.

    Raises MissingExtraError if the library is not installed.
    """
    peer, folder = _peer(request), Path(request["index"])
    folder.mkdir(exist_ok=True)
    items, users = (np.load(request[side], mmap_mode="r") for side in ("items", "users"))
    settings = peer.build(items, users, folder, int(request["k"]))
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    return {"nbytes": nbytes, "settings": settings, "version": metadata.version(peer.package)}


def measure_peer(request: dict[str, Any]) -> dict[str, Any]:
    """Measure an index; return the figures of `measure_plain`, and 'imported': the memory with the library imported,
    before the index was opened."""
    peer = _peer(request)
    imported = memory_figures()
    folder, k, threads = Path(request["index"]), int(request["k"]), int(request["threads"])
    search, load_ms = timed(lambda: peer.open(folder, k, threads, request["settings"]))
    users, numbers = np.load(request["users"], mmap_mode="r"), random.Random(request["seed"])
    recommend = time_calls(
        lambda: np.array(users[numbers.randrange(len(users))]),
        search,
        Limits(int(request["calls"]), float(request["seconds"])),
    )
    memory = memory_figures()
    answers = [np.asarray(search(np.array(users[row]))).tolist() for row in request["ask"]]
    return {
        "load_ms": load_ms,
        "memory": memory,
        "imported": imported,
        "scenarios": {"recommend": recommend},
        "answers": answers,
    }


def _peer(request: dict[str, Any]) -> Peer:
    name = request["peer"]
    if name not in PEERS:
        raise BenchError(f"unknown library {name!r}; expected one of: {', '.join(PEERS)}")
    return PEERS[name]()


EXTRA = "peers"
ROWS_AT_ONCE = 1 << 17
TRAINING_ROWS = 100_000

SearchFunction = Callable[[Matrix], Any]


class Faiss:
    """An exact faiss index: `IndexFlatIP`, or a scalar quantizer with 8 bits per value."""

    package = "faiss-cpu"

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._faiss: Any = require("faiss", EXTRA)

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Train the index on a sample if it needs training, add the items, and write it."""
        faiss, d = self._faiss, items.shape[1]
        if self._kind == "SQ8":
            index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
            index.train(np.ascontiguousarray(items[:: -(-len(items) // TRAINING_ROWS)]))
        else:
            index = faiss.IndexFlatIP(d)
        for start in range(0, len(items), ROWS_AT_ONCE):
            index.add(np.ascontiguousarray(items[start : start + ROWS_AT_ONCE]))
        faiss.write_index(index, str(folder / "index"))
        return {}

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> SearchFunction:
        """Read the index; return a search with `threads` threads."""
        self._faiss.omp_set_num_threads(threads)
        index = self._faiss.read_index(str(folder / "index"))
        return lambda query: index.search(query[None], k)[1][0]


class Usearch:
    """Exact search of usearch over the memory-mapped matrix."""

    package = "usearch"

    def __init__(self) -> None:
        self._index: Any = require("usearch.index", EXTRA)

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Write the items as .npy; there is no index."""
        np.save(folder / "items.npy", items)
        return {}

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> SearchFunction:
        """Map the items; return an exact search."""
        items, product = np.load(folder / "items.npy", mmap_mode="r"), self._index.MetricKind.IP
        return lambda query: self._index.search(items, query, k, product, exact=True, threads=threads).keys


class Hnswlib:
    """The approximate graph index of hnswlib, with `ef` chosen to find RECALL of the exact best items."""

    package = "hnswlib"
    RECALL = 0.95
    BUILD: ClassVar[dict[str, int]] = {"M": 16, "ef_construction": 200}
    """The values of hnswlib's own examples."""
    SAMPLE_QUERIES = 200

    def __init__(self) -> None:
        self._hnswlib: Any = require("hnswlib", EXTRA)

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Build the graph, and find the smallest `ef` that reaches the recall."""
        index = self._hnswlib.Index(space="ip", dim=items.shape[1])
        index.init_index(max_elements=len(items), **self.BUILD)
        for start in range(0, len(items), ROWS_AT_ONCE):
            index.add_items(np.ascontiguousarray(items[start : start + ROWS_AT_ONCE]))
        index.save_index(str(folder / "index"))
        queries = np.ascontiguousarray(users[: self.SAMPLE_QUERIES])
        return {"dim": items.shape[1], **self.BUILD, **self._choose_ef(index, queries, _exact(items, queries, k))}

    def _choose_ef(self, index: Any, queries: Matrix, best: NDArray[np.int64]) -> dict[str, Any]:
        """Return the smallest ef of k, 1.5 k, 2 k, 3 k, 4 k, ... that reaches the recall, and its recall."""
        k, most, found = best.shape[1], index.get_current_count(), 0.0
        for ef in (k * half << power >> 1 for power in count() for half in (2, 3)):
            index.set_ef(ef)
            rows = index.knn_query(queries, k=k)[0]
            found = float(np.mean([np.isin(row, exact).mean() for row, exact in zip(rows, best, strict=True)]))
            if found >= self.RECALL or ef >= most:
                break
        return {"ef": ef, "recall": round(found, 4)}

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> SearchFunction:
        """Load the graph; return a search with the settings that `build` chose."""
        index = self._hnswlib.Index(space="ip", dim=settings["dim"])
        index.load_index(str(folder / "index"))
        index.set_ef(settings["ef"])
        index.set_num_threads(threads)
        return lambda query: index.knn_query(query[None], k=k)[0][0]


class Implicit:
    """The exact top k of implicit over the matrix, as in its models."""

    package = "implicit"

    def __init__(self) -> None:
        self._topk: Any = require("implicit.cpu.topk", EXTRA).topk
        self._limits: Any = require("threadpoolctl", EXTRA)

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Write the items as .npy; there is no index."""
        np.save(folder / "items.npy", items)
        return {}

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> SearchFunction:
        """Load the items; return a search by `implicit.cpu.topk`."""
        self._limits.threadpool_limits(threads)  # it multiplies with scipy's BLAS
        items = np.load(folder / "items.npy")
        return lambda query: self._topk(items, query[None], k, num_threads=threads)[0][0]


class Turbovec:
    """The approximate index of turbovec: 4 bits a value after a rotation, searched without a list of candidates."""

    package = "turbovec"
    BITS, SAMPLE = 4, 1024

    def __init__(self) -> None:
        os.environ.setdefault("RAYON_NUM_THREADS", "1")  # which it reads once, at its first search
        self._turbovec: Any = require("turbovec", EXTRA)

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Calibrate the index on rows spread over the items, add the items, and write it."""
        index = self._turbovec.TurboQuantIndex(items.shape[1], self.BITS)
        index.calibrate(np.ascontiguousarray(items[:: -(-len(items) // self.SAMPLE)]))
        index.add(np.ascontiguousarray(items))
        index.write(str(folder / "index"))
        return {"bits": self.BITS}

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> SearchFunction:
        """Read the index, and prepare its caches; return a search."""
        index = self._turbovec.TurboQuantIndex.load(str(folder / "index"))
        index.prepare()
        return lambda query: index.search(query[None], k)[1][0]


def _exact(items: Matrix, queries: Matrix, k: int) -> NDArray[np.int64]:
    """Return the (B, k) rows with the largest products, from blocks of the items."""
    rows, scores = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for start in range(0, len(items), ROWS_AT_ONCE):
        part = queries @ items[start : start + ROWS_AT_ONCE].T
        scores = np.concatenate([scores, part], axis=1)
        rows = np.concatenate([rows, np.tile(np.arange(start, start + part.shape[1]), (len(queries), 1))], axis=1)
        best = np.argpartition(-scores, min(k, scores.shape[1] - 1), axis=1)[:, :k]
        rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
    return rows


PEERS: dict[str, Callable[[], Peer]] = {
    "faiss IndexFlatIP": lambda: Faiss("Flat"),
    "faiss SQ8": lambda: Faiss("SQ8"),
    "usearch exact": Usearch,
    "hnswlib": Hnswlib,
    "implicit topk": Implicit,
    "turbovec 4 bit": Turbovec,
    "OpenVINO fp32": lambda: OpenVino("fp32"),
    "OpenVINO int8": lambda: OpenVino("int8"),
    "LiteRT fp32": lambda: LiteRt("fp32"),
    "LiteRT int8": lambda: LiteRt("int8"),
    "ExecuTorch fp32": ExecuTorch,
}

if __name__ == "__main__":
    main(
        {
            **TASKS,
            "plain": measure_plain,
            "graphs": open_graphs,
            "profile": profile_bundle,
            "index": build_index,
            "peer": measure_peer,
        }
    )
