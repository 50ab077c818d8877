"""What a search over sizes has visited: enough to serve any budget afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RunError, TableError
from edgerec.files import atomic_write
from edgerec.json_records import parse_json, record
from edgerec.models import State
from edgerec.tables import load_arrays

FORMAT, VERSION = "edgerec.visits", 1
SIDES = ("users", "items")

Pair = tuple[NDArray[Any], NDArray[Any]]
"""Something of the users, and of the items."""


class _Told(TypedDict):
    """What is kept beside the arrays."""

    d: int
    quality: list[float]
    entries: list[dict[str, Any]]


@dataclass
class Visits:
    """Sizes that were trained and judged, in the order of the search.

    Attributes:
        d: dimensions of a full row.
        full: (n_users,) float32 metric of the full model by user, NaN where nothing is known.
        sizes: of users and items at each visit.
        proposed: what the actors proposed there before any noise, in float16.
        quality: mean quality at each visit.
        entries: of the search's history.
    """

    d: int
    full: NDArray[np.float32]
    sizes: list[Pair] = field(default_factory=list)
    proposed: list[Pair] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sizes)

    def add(self, sizes: Pair, proposed: Pair, quality: float, entry: dict[str, Any]) -> None:
        """Keep one visit: sizes in the narrowest integers, proposals in float16."""
        narrow = np.uint8 if self.d <= 255 else np.uint16 if self.d <= 65535 else np.uint32
        self.sizes.append((sizes[0].astype(narrow), sizes[1].astype(narrow)))
        self.proposed.append((proposed[0].astype(np.float16), proposed[1].astype(np.float16)))
        self.quality.append(quality)
        self.entries.append(entry)

    def kept(self) -> NDArray[np.float64]:
        """(visits,) the share of the values of full rows that each had."""
        return np.array([_total(pair) / (self.d * sum(map(len, pair))) for pair in self.sizes], np.float64)

    def state(self) -> State:
        """All of it as arrays."""
        text = json.dumps({"d": self.d, "quality": self.quality, "entries": self.entries}).encode()
        state: State = {"visits": np.frombuffer(text, np.uint8), "full": self.full}
        for name, pairs in (("sizes", self.sizes), ("proposed", self.proposed)):
            for side, rows in zip(SIDES, zip(*pairs, strict=True), strict=False):
                state[f"{name}.{side}"] = np.stack(rows)
        return state

    @classmethod
    def from_state(cls, state: State) -> Visits:
        """The inverse of `state`. Raises KeyError, ValueError where the arrays do not make any."""
        told = record(_Told, parse_json(state["visits"].tobytes()))

        def pairs(name: str) -> list[Pair]:
            return list(zip(*(state[f"{name}.{side}"] for side in SIDES), strict=True)) if told["quality"] else []

        return cls(told["d"], state["full"], pairs("sizes"), pairs("proposed"), told["quality"], told["entries"])

    def save(self, path: Path, key: dict[str, Any]) -> None:
        """Write a finished search that `key` decides. Raises StorageError."""
        text = json.dumps({"format": FORMAT, "version": VERSION, "key": key}).encode()
        with atomic_write(path) as stream:
            arrays: dict[str, Any] = {"about": np.frombuffer(text, np.uint8), **self.state()}
            np.savez_compressed(stream, **arrays)

    @classmethod
    def load(cls, path: Path, key: dict[str, Any]) -> Visits:
        """Read the finished search that `key` decides.

        Raises RunError where the file is damaged, or of another search; StorageError.
        """
        try:
            arrays = load_arrays(path)
            about = parse_json(arrays.pop("about").tobytes())
            if about != {"format": FORMAT, "version": VERSION, "key": json.loads(json.dumps(key))}:
                raise RunError(f"{path} holds another search; delete it, or give search another folder")
            return cls.from_state(arrays)
        except (TableError, KeyError, ValueError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error}); delete it") from error


def _total(pair: Pair) -> int:
    return int(sum(side.sum(dtype=np.int64) for side in pair))
