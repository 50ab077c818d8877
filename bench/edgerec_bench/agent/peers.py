"""Other libraries, measured as bundles are: an index or a model on disk, one query a call."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BenchError
from edgerec_bench.agent.clock import Limits, time_calls, timed
from edgerec_bench.agent.memory import memory_figures
from edgerec_bench.agent.peers_indexes import Faiss, Hnswlib, Implicit, Usearch
from edgerec_bench.agent.peers_runtimes import ExecuTorch, LiteRt, OpenVino

Matrix = NDArray[np.float32]


class Peer(Protocol):
    """One library, imported when this is made.

    Attributes:
        package: its name on PyPI, whose version is told.
    """

    package: str

    def build(self, items: Matrix, users: Matrix, folder: Path, k: int) -> dict[str, Any]:
        """Write what `open` reads, for the k best of (n_items, d) to one of (n_users, d); what was chosen for it."""
        ...

    def open(self, folder: Path, k: int, threads: int, settings: dict[str, Any]) -> Callable[[Matrix], Any]:
        """A call from a (d,) query to the (k,) best rows. `settings` are those that `build` told."""
        ...


PEERS: dict[str, Callable[[], Peer]] = {
    "faiss IndexFlatIP": lambda: Faiss("Flat"),
    "faiss SQ8": lambda: Faiss("SQ8"),
    "usearch exact": Usearch,
    "hnswlib": Hnswlib,
    "implicit topk": Implicit,
    "OpenVINO fp32": lambda: OpenVino("fp32"),
    "OpenVINO int8": lambda: OpenVino("int8"),
    "LiteRT fp32": lambda: LiteRt("fp32"),
    "LiteRT int8": lambda: LiteRt("int8"),
    "ExecuTorch fp32": ExecuTorch,
}


def build_index(request: dict[str, Any]) -> dict[str, Any]:
    """Write the index of a matrix; {"nbytes": of its files, "settings": for `measure_peer`, "version"}.

    Raises MissingExtraError where the library is absent.
    """
    peer, folder = _peer(request), Path(request["index"])
    folder.mkdir(exist_ok=True)
    items, users = (np.load(request[side], mmap_mode="r") for side in ("items", "users"))
    settings = peer.build(items, users, folder, int(request["k"]))
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    return {"nbytes": nbytes, "settings": settings, "version": metadata.version(peer.package)}


def measure_peer(request: dict[str, Any]) -> dict[str, Any]:
    """The figures that `measure_plain` gives, of an index; `imported`: the memory before it was
    opened, with the library imported alone."""
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
        raise BenchError(f"there is no peer {name!r}; there are: {', '.join(PEERS)}")
    return PEERS[name]()
