"""The history of a search, one JSON object a line, from which it resumes after a kill and is plotted."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RunError
from edgerec.files import append_json, drop_torn_line, read_bytes, remove, whole_lines
from edgerec.json_records import parse_json, record
from edgerec.models import SizePlan
from edgerec.training import SEARCH

FILE_NAME = "search.jsonl"
VISITS_NAME = "visited.npz"
"""File of the visited sizes in the same folder, if a method stores them."""
DECILES = 10
RETRAIN = "retrain"
"""The strategy of entries about a full training at the end of a search."""


A = TypeVar("A")


def action_of(kind: type[A], fields: Any) -> A:
    """Return the action of an entry, a dataclass. Raises RunError if it is malformed."""
    try:
        return record(kind, fields, "an action")
    except ValueError as error:
        raise RunError(f"the history of the search is damaged ({error}); train again with --overwrite") from error


class SearchHistory:
    """The entries of a search, in a file if the run has a folder.

    Attributes:
        entries: all entries, those of earlier calls first.
    """

    def __init__(self, folder: Path | None) -> None:
        """Open the history of the run in `folder`, or one in memory; drop an incomplete last line.

        Raises RunError if the file is damaged, StorageError.
        """
        self._path = None if folder is None else folder / FILE_NAME
        self.entries: list[dict[str, Any]] = []
        if self._path is not None and self._path.exists():
            self.entries = read_history(self._path)
            drop_torn_line(self._path)

    @property
    def evaluated(self) -> list[dict[str, Any]]:
        """The entries of evaluated actions, without those of full trainings."""
        return [entry for entry in self.entries if entry["strategy"] != RETRAIN]

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry and flush it to the disk. Raises StorageError."""
        self.entries.append(entry)
        if self._path is not None:
            append_json(self._path, entry)

    @staticmethod
    def clear(folder: Path) -> None:
        """Delete the search of the run in `folder`. Raises StorageError."""
        for name in (FILE_NAME, VISITS_NAME):
            remove(folder / name)
        shutil.rmtree(folder / SEARCH, ignore_errors=True)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read a history file without an incomplete last line. Raises RunError if it is damaged, StorageError."""
    entries = []
    for number, line in enumerate(whole_lines(read_bytes(path)).splitlines(), 1):
        try:
            entries.append(_entry(parse_json(line)))
        except ValueError as error:
            raise RunError(f"{path} is damaged in line {number} ({error}); train again with --overwrite") from error
    return entries


class _Entry(TypedDict):
    """The fields of every entry; methods may add their own, such as the episode.

    iteration: number from 0. action: the action, in the method's terms. strategy: the strategy that chose it.
    predicted: predicted fitness, or None. fitness: eval over that of full-size tables; None of a full training, which
    has `eval` itself. density: values over those of full rows. seconds: seconds since the action before. sizes: mean
    sizes, by 'users' and 'items', of ten parts of the rows, the least popular first.
    """

    iteration: int
    action: Any
    strategy: str
    predicted: float | None
    fitness: float | None
    density: float
    seconds: float
    sizes: dict[str, list[float]]
    eval: NotRequired[float]
    within: NotRequired[bool]


def _entry(fields: Any) -> dict[str, Any]:
    """Check an entry. Raises ValueError."""
    entry = dict[str, Any](record(_Entry, fields))
    for side in ("users", "items"):
        if len(entry["sizes"].get(side, ())) != DECILES:
            raise ValueError(f"it must have {DECILES} sizes of the {side}")
    if entry["fitness"] is None and entry["strategy"] != RETRAIN:
        raise ValueError("an evaluated action must have a fitness")
    return entry


def size_deciles(
    plan: SizePlan, user_counts: NDArray[np.int64], item_counts: NDArray[np.int64]
) -> dict[str, list[float]]:
    """Return the mean sizes of ten parts of user and item rows, the least popular first: an entry's `sizes`.

    Args:
        user_counts, item_counts: (n,) interactions of the rows.
    """
    sides = {"users": (plan.users, user_counts), "items": (plan.items, item_counts)}
    return {side: _deciles(plan.d, sizes, counts) for side, (sizes, counts) in sides.items()}


def _deciles(d: int, sizes: NDArray[np.int64] | None, counts: NDArray[np.int64]) -> list[float]:
    if sizes is None:
        return [float(d)] * DECILES
    ordered = sizes[np.argsort(counts, kind="stable")]
    # With fewer rows than parts, some parts share a row.
    ends = np.linspace(0, len(ordered), DECILES + 1)
    parts = [slice(int(start), max(int(end), int(start) + 1)) for start, end in pairwise(ends)]
    return [round(float(ordered[part].mean()), 3) for part in parts]
