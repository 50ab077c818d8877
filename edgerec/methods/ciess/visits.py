"""The visited sizes of a search, and the candidates within one budget derived from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BudgetError, RunError, TableError
from edgerec.files import atomic_write
from edgerec.json_records import parse_json, record
from edgerec.methods.base import Job
from edgerec.methods.ciess.config import ORIGINS
from edgerec.methods.search import projected, searched_budget
from edgerec.models import SizePlan, State
from edgerec.tables import load_arrays

FORMAT, VERSION = "edgerec.visits", 1
SIDES = ("users", "items")
_PART = "visits"
"""Beginning of the names of the files of a search in progress."""

UserItemArrays = tuple[NDArray[Any], NDArray[Any]]
"""An array of the users and one of the items."""


class _StoredSearch(TypedDict):
    """The part of a search that is stored as JSON with its arrays."""

    d: int
    quality: list[float]
    entries: list[dict[str, Any]]


@dataclass
class Visits:
    """Sizes that were trained and evaluated, in the order of the search.

    Attributes:
        d: dimensions of a full row.
        full: (n_users,) float32 metric of the full model by user, NaN if unknown.
        sizes: sizes of users and items at each visit.
        proposed: the actors' proposals at each visit before any noise, in float16.
        quality: mean quality at each visit.
        entries: entries of the search's history.
    """

    d: int
    full: NDArray[np.float32]
    sizes: list[UserItemArrays] = field(default_factory=list)
    proposed: list[UserItemArrays] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sizes)

    def add(self, sizes: UserItemArrays, proposed: UserItemArrays, quality: float, entry: dict[str, Any]) -> None:
        """Store one visit: sizes in the narrowest integers, proposals in float16."""
        narrow = np.uint8 if self.d <= 255 else np.uint16 if self.d <= 65535 else np.uint32
        self.sizes.append((sizes[0].astype(narrow), sizes[1].astype(narrow)))
        self.proposed.append((proposed[0].astype(np.float16), proposed[1].astype(np.float16)))
        self.quality.append(quality)
        self.entries.append(entry)

    def since(self, first: int) -> Visits:
        """Return the visits from number `first` on, without the full model's metric."""
        return Visits(
            self.d, self.full[:0], self.sizes[first:], self.proposed[first:], self.quality[first:], self.entries[first:]
        )

    def extend(self, other: Visits) -> None:
        """Append the visits of another search of the same rows."""
        self.sizes += other.sizes
        self.proposed += other.proposed
        self.quality += other.quality
        self.entries += other.entries

    def densities(self) -> NDArray[np.float64]:
        """Return (visits,) densities: the values of each visit over those of full rows."""
        return np.array([_sum(pair) / (self.d * sum(map(len, pair))) for pair in self.sizes], np.float64)

    def state(self) -> State:
        """Return everything as arrays."""
        text = json.dumps({"d": self.d, "quality": self.quality, "entries": self.entries}).encode()
        state: State = {"visits": np.frombuffer(text, np.uint8), "full": self.full}
        for name, pairs in (("sizes", self.sizes), ("proposed", self.proposed)):
            for side, rows in zip(SIDES, zip(*pairs, strict=True), strict=False):
                state[f"{name}.{side}"] = np.stack(rows)
        return state

    @classmethod
    def from_state(cls, state: State) -> Visits:
        """Read the arrays of `state`. Raises KeyError, ValueError if they are incomplete."""
        fields = record(_StoredSearch, parse_json(state["visits"].tobytes()))

        def pairs(name: str) -> list[UserItemArrays]:
            return list(zip(*(state[f"{name}.{side}"] for side in SIDES), strict=True)) if fields["quality"] else []

        return cls(fields["d"], state["full"], pairs("sizes"), pairs("proposed"), fields["quality"], fields["entries"])

    def save(self, path: Path, key: dict[str, Any]) -> None:
        """Write a finished search with its `key`. Raises StorageError."""
        text = json.dumps({"format": FORMAT, "version": VERSION, "key": key}).encode()
        with atomic_write(path) as stream:
            arrays: dict[str, Any] = {"about": np.frombuffer(text, np.uint8), **self.state()}
            np.savez_compressed(stream, **arrays)

    @classmethod
    def load(cls, path: Path, key: dict[str, Any]) -> Visits:
        """Read a finished search with this `key`.

        Raises RunError if the file is damaged, or of another search; StorageError.
        """
        try:
            arrays = load_arrays(path)
            about = parse_json(arrays.pop("about").tobytes())
            if about != {"format": FORMAT, "version": VERSION, "key": json.loads(json.dumps(key))}:
                raise RunError(f"{path} holds another search; delete it, or give search another folder")
            return cls.from_state(arrays)
        except (TableError, KeyError, ValueError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error}); delete it") from error


class VisitParts:
    """The visits of a search in progress: a file for each iteration, so that its time does not grow with the search."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, visits: Visits) -> None:
        """Append all stored visits to `visits`, which has none. Raises RunError if a file is damaged; StorageError."""
        for path in sorted(self._folder.glob(f"{_PART}-*.npz")):
            try:
                part = Visits.from_state(load_arrays(path))
                if path != self._path(len(visits)):
                    raise ValueError("visits before it are missing")
            except (TableError, KeyError, ValueError, TypeError) as error:
                raise RunError(f"{path} is damaged ({error}); train again with --overwrite") from error
            visits.extend(part)

    def append(self, visits: Visits, first: int) -> None:
        """Store the visits from number `first` on. Raises StorageError."""
        with atomic_write(self._path(first)) as stream:
            arrays: dict[str, Any] = {**visits.since(first).state()}
            np.savez(stream, **arrays)

    def _path(self, number: int) -> Path:
        return self._folder / f"{_PART}-{number:06}.npz"


def _sum(pair: UserItemArrays) -> int:
    return int(sum(side.sum(dtype=np.int64) for side in pair))


Scores = NDArray[np.float64]

VISITED, PROJECTED, PROPOSED, SMOOTHED = ORIGINS
_UNSPENT = 0.1
"""Maximum share of the budget that sizes of origin 'visited' may leave unspent."""
_GROUPS = 20
"""Number of groups of rows of similar popularity: so few that each mean is over hundreds of rows."""


@dataclass(frozen=True)
class Candidate:
    """Sizes within the budget.

    Attributes:
        plan: the sizes; they meet the budget exactly, except for visited ones and budgets in bytes.
        origin: 'visited' for visited sizes as they are; 'projected' for visited sizes projected onto the budget;
            'proposed' for the actors' proposals without noise, projected; 'smoothed' for visited sizes averaged over
            rows of similar popularity, projected.
        visit: number of the visit in the search.
        score: score measured by the search; None for sizes changed since.
    """

    plan: SizePlan
    origin: str
    visit: int
    score: float | None


def candidates(job: Job, visits: Visits, scores: Scores, origins: tuple[str, ...], count: int) -> list[Candidate]:
    """Return the candidates of each origin.

    For 'visited' these are all sizes that spend the budget without exceeding it. For each other origin these are the
    `count` visits with the largest score above the expected one for their density, in standard deviations, minus the
    absolute logarithm of their number of values over the budget's (ours).

    Args:
        scores: (visits,) by which visits are ranked.

    Raises BudgetError if there is none: no visited sizes spend the budget, and no other origin is given.
    """
    better = _better_than_its_size(visits, scores)
    found = list(_visited(job, visits, scores)) if VISITED in origins else []
    for origin, pairs in ((PROJECTED, visits.sizes), (PROPOSED, visits.proposed), (SMOOTHED, visits.sizes)):
        if origin in origins:
            found += _promising(job, origin, pairs, better, count)
    if not found:
        raise BudgetError(
            "the search visited no sizes that spend this budget; let candidate_sources name others, which are "
            "projected on it, or give the search more episodes"
        )
    return found


def _visited(job: Job, visits: Visits, scores: Scores) -> Iterator[Candidate]:
    budget = searched_budget(job)
    total, widths = budget.total, budget.item_widths
    for number, pair in enumerate(visits.sizes):
        sizes = [side.astype(np.int64) for side in pair]
        few = widths is None or all(np.unique(side).size <= widths for side in sizes)
        spent = sum(int(side.sum()) for side in sizes)
        if few and (1 - _UNSPENT) * total <= spent <= total:
            yield Candidate(SizePlan(job.d, *sizes), VISITED, number, float(scores[number]))


def _promising(job: Job, origin: str, pairs: list[UserItemArrays], better: Scores, count: int) -> Iterator[Candidate]:
    total = searched_budget(job).total
    sums = np.array([sum(float(side.sum(dtype=np.float64)) for side in pair) for pair in pairs])
    order = np.argsort(np.abs(np.log(sums / total)) - better, kind="stable")
    users, items = job.split.train.user_counts(), job.split.train.item_counts()
    for number in order[:count].tolist():
        pair = pairs[number]
        if origin == SMOOTHED:
            pair = smoothed(pair[0], users), smoothed(pair[1], items)
        yield Candidate(projected(job, pair), origin, number, None)


def smoothed(sizes: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n,) `sizes` (n,) averaged over rows with similar numbers of interactions.

    These are the geometric means of 20 groups of rows by their `counts` (n,), linearly interpolated over the logarithm
    of the counts.
    """
    order = np.argsort(counts, kind="stable")
    seen, logs = np.log1p(counts.astype(np.float64)), np.log(sizes.astype(np.float64))
    groups = [group for group in np.array_split(order, _GROUPS) if group.size]
    # Groups of the same mean popularity are merged.
    at, inverse = np.unique([float(seen[group].mean()) for group in groups], return_inverse=True)
    rows = np.array([group.size for group in groups], np.float64)
    totals = np.bincount(inverse, [float(logs[group].sum()) for group in groups])
    level: NDArray[np.float64] = np.exp(np.interp(seen, at, totals / np.bincount(inverse, rows)))
    return level


def _better_than_its_size(visits: Visits, scores: Scores) -> Scores:
    """Return (visits,) differences of scores from the expected ones for their density, in standard deviations.

    The expected score is a parabola in the logarithm of the density, fitted by least squares.
    """
    x = np.log(visits.densities())
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    beyond = scores - design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    better: Scores = beyond / max(float(beyond.std()), 1e-9)
    return better
