"""Streams: interactions in the order of time, divided into segments that each have a train and a test part.

As in SCALL's code (Qu et al. 2024, arXiv 2407.15411): a segment ends before it has more than a given number of new
users and items; its first 80 % train and the rest test; past interactions of its users, a fifth as many, are replayed;
users and items that are in both parts are measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import Interactions
from edgerec.data.metrics import KS, evaluate_vectors, metrics_per_user
from edgerec.data.ranking import top_k_of_vectors
from edgerec.data.split import merge
from edgerec.errors import DataError

_DAY = 86_400
_K = 20
_EXPECTED = "expected new:1000 (new users and items in a segment), days:30, or 8 (segments of as many new ones)"
HOLDOUTS = ("time", "user")

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class StreamSpec:
    """The rule that divides a stream into segments.

    Attributes:
        by: 'new' for segments of at most `size` new users and items, 'days' for segments of `size` days, 'count' for
            `size` segments with about as many new users and items each.
        size: size or number of segments, at least 1.
        train: share of a segment's interactions that train; the others test.
        holdout: the test part: 'time' for the last interactions of all, as in the paper; 'user' for the last of each
            user with at least two. If users appear once and leave, as in MovieLens, 'time' leaves hardly any in both
            parts.
        replay: interactions of earlier segments to train on again, as a share of those that train.
        seed: seed of the replay.

    Raises DataError for an unknown rule, invalid shares or a negative seed.
    """

    by: str = "count"
    size: int = 8
    train: float = 0.8
    holdout: str = "time"
    replay: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in ("new", "days", "count") or self.size < 1:
            raise DataError(f"there are no segments {self.by}:{self.size}; {_EXPECTED}")
        if not 0 < self.train < 1 or not 0 <= self.replay < math.inf or self.seed < 0:
            raise DataError(
                f"a stream takes a training share between 0 and 1, a replay and a seed from 0 up, got {self.train}, "
                f"{self.replay} and {self.seed}"
            )
        if self.holdout not in HOLDOUTS:
            raise DataError(f"a stream holds back by {' or '.join(HOLDOUTS)}, not by {self.holdout!r}")

    @classmethod
    def parse(cls, text: str, **settings: Any) -> StreamSpec:
        """Parse 'new:1000', 'days:30' or '8'. Raises DataError."""
        match = re.fullmatch(r"(?:(new|days):)?(\d{1,18})", text.strip())
        if match is None:
            raise DataError(f"the segments {text!r} are malformed; {_EXPECTED}")
        return cls(match[1] or "count", int(match[2]), **settings)

    def __str__(self) -> str:
        return str(self.size) if self.by == "count" else f"{self.by}:{self.size}"

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> StreamSpec:
        """Read the JSON of `to_dict`; other entries of `value` are ignored. Raises DataError."""
        try:
            return cls(**{field.name: value[field.name] for field in fields(cls)})
        except (KeyError, TypeError) as error:
            raise DataError(f"a stream needs by, size, train, holdout, replay and seed, got {value!r}") from error


@dataclass(frozen=True)
class Segment:
    """A segment of a stream; all parts are over the users and items that are known while it trains.

    Attributes:
        number: number of the segment, from 0.
        begins, ends: seconds of its first and last interaction.
        past: interactions of all earlier segments.
        train: new interactions to train on.
        replay: a sample of `past`, of users of `train`.
        test: interactions of users and items of `train`, without pairs of `past` or `train`.
        new_users, new_items: (n,) rows that no earlier segment has.
    """

    number: int
    begins: int
    ends: int
    past: Interactions
    train: Interactions
    replay: Interactions
    test: Interactions
    new_users: Ints
    new_items: Ints

    @cached_property
    def known(self) -> Interactions:
        """The union of past and train, which a model may use."""
        return merge(self.past, self.train)

    @cached_property
    def positives(self) -> Interactions:
        """The union of train and replay, on which a continued model is trained."""
        return merge(self.train, self.replay)

    def measured(self) -> tuple[Ints, Ints]:
        """Return the user rows and item rows of the test part; these users rank these items (SCALL's code)."""
        return np.flatnonzero(self.test.user_counts()), np.flatnonzero(self.test.item_counts())

    def measure(
        self, users: NDArray[np.float32], items: NDArray[np.float32], *, threads: int | None = None
    ) -> dict[str, float]:
        """Return the metrics of vectors (n_users, d) and (n_items, d), as `evaluate_vectors` defines them.

        Users of the test part rank its items; their earlier interactions are masked (SCALL's code).
        """
        user_rows, item_rows = self.measured()
        seen, test = self._measured_parts
        return evaluate_vectors(users[user_rows], items[item_rows], seen, test, ks=KS, threads=threads)

    def user_metric(
        self, users: NDArray[np.float32], items: NDArray[np.float32], *, threads: int | None = None
    ) -> NDArray[np.float64]:
        """Return (n,) means of Recall@20 and NDCG@20 of the test part's users; their mean is SCALL's reward."""
        user_rows, item_rows = self.measured()
        seen, test = self._measured_parts
        rows = np.arange(user_rows.size)
        rankings = top_k_of_vectors(users[user_rows], items[item_rows], rows, _K, seen=[seen], threads=threads)
        metrics = metrics_per_user(rankings, test, ks=[_K])
        return (metrics[f"recall@{_K}"] + metrics[f"ndcg@{_K}"]) / 2

    @cached_property
    def _measured_parts(self) -> tuple[Interactions, Interactions]:
        """The masked interactions and the positives, over `measured` alone."""
        return among(self.known, *self.measured()), among(self.test, *self.measured())


def among(part: Interactions, user_rows: Ints, item_rows: Ints) -> Interactions:
    """Return the interactions between some users and items, over these alone; rows are ascending."""
    places = np.full(part.n_items, -1, np.int32)
    places[item_rows] = np.arange(item_rows.size)
    chosen = part.select(np.isin(part.user_rows(), user_rows) & (places[part.indices] >= 0))
    pointers = np.concatenate([[0], np.cumsum(chosen.user_counts()[user_rows])]).astype(np.int64)
    return Interactions(
        part.user_ids[user_rows], part.item_ids[item_rows], pointers, places[chosen.indices], name=part.name
    )


def stream(interactions: Interactions, spec: StreamSpec | str) -> Stream:
    """Divide interactions into the segments of a stream.

    Raises DataError for interactions without timestamps, fewer than two segments, or one without a measurable pair.
    """
    return Stream(interactions, StreamSpec.parse(spec) if isinstance(spec, str) else spec)


class Stream:
    """The segments of interactions, each built on access.

    Attributes:
        spec: the rule that divides it.
        interactions: all interactions.
    """

    def __init__(self, interactions: Interactions, spec: StreamSpec) -> None:
        """Find the boundaries of the segments. Raises DataError as `stream` does."""
        if interactions.timestamps is None:
            raise DataError("a stream needs timestamps, which these interactions lack")
        self.spec, self.interactions = spec, interactions
        self._times = interactions.timestamps
        self._users, self._items = interactions.user_rows().astype(np.int64), interactions.indices.astype(np.int64)
        self._order = np.lexsort((self._items, self._users, self._times))
        self._cuts = _cuts(self._times[self._order], self._newcomers(), spec)
        if len(self) < 2:
            raise DataError(f"{spec} makes one segment of all interactions: make segments smaller")
        # The segment of each interaction, and True if it trains, in the order of the data.
        self._segment = np.empty(len(interactions), np.int64)
        self._segment[self._order] = np.repeat(np.arange(len(self)), np.diff(self._cuts))
        self._trains = np.zeros(len(interactions), np.bool_)
        for number in range(len(self)):
            self._trains[self._training(self._order[self._cuts[number] : self._cuts[number + 1]])] = True
            if not self._measured(number).any():
                raise DataError(
                    f"segment {number} of {spec} has no test interaction of a user and an item that it trains on, so "
                    "there is nothing to measure: make segments larger, or hold back by user"
                )

    def __len__(self) -> int:
        return len(self._cuts) - 1

    def __iter__(self) -> Iterator[Segment]:
        return (self.segment(number) for number in range(len(self)))

    def segment(self, number: int) -> Segment:
        """Return the segment of a number, from 0."""
        current = self._segment == number
        past, train = self._segment < number, current & self._trains
        # A user or an item of the test part alone is not known yet: it could not have been trained.
        known_users, known_items = (np.unique(rows[past | train]) for rows in (self._users, self._items))
        whole = self.interactions
        titles = None if whole.titles is None else whole.titles[known_items]

        def part(chosen: NDArray[np.bool_]) -> Interactions:
            found = among(whole.select(chosen), known_users, known_items)
            return Interactions(
                found.user_ids, found.item_ids, found.indptr, found.indices, titles=titles, name=whole.name
            )

        inside = self._order[self._cuts[number] : self._cuts[number + 1]]
        return Segment(
            number,
            int(self._times[inside[0]]),
            int(self._times[inside[-1]]),
            part(past),
            part(train),
            part(self._replayed(number, past, train)),
            part(self._measured(number)),
            *(
                np.flatnonzero(~np.isin(known, rows[past]))
                for known, rows in ((known_users, self._users), (known_items, self._items))
            ),
        )

    def _newcomers(self) -> Ints:
        """Return (n,) numbers of new users and items, 0 to 2, of each interaction in the order of time."""
        new = np.zeros(len(self._order), np.int64)
        for rows in (self._users, self._items):
            new[np.unique(rows[self._order], return_index=True)[1]] += 1
        return new

    def _training(self, inside: Ints) -> Ints:
        """Return the training interactions of a segment, in the order of time."""
        if self.spec.holdout == "time":
            end = min(math.ceil(self.spec.train * inside.size), inside.size - 1)
            # Interactions at the second of the boundary test, so that training sees none of that second.
            times = self._times[inside]
            return inside[: np.searchsorted(times, times[end], side="left")]
        users = self._users[inside]
        grouped = np.argsort(users, kind="stable")
        _, starts, counts = np.unique(users[grouped], return_index=True, return_counts=True)
        places = np.empty(inside.size, np.int64)
        places[grouped] = np.arange(inside.size) - np.repeat(starts, counts)
        limits = np.maximum(np.ceil(self.spec.train * counts), 1)
        training: Ints = inside[places < limits[np.searchsorted(users[grouped][starts], users)]]
        return training

    def _measured(self, number: int) -> NDArray[np.bool_]:
        """Return (n,) bool: the test interactions of users and items that the segment trains on."""
        train = (self._segment == number) & self._trains
        test: NDArray[np.bool_] = (self._segment == number) & ~self._trains
        for rows in (self._users, self._items):
            test &= np.isin(rows, rows[train])
        return test

    def _replayed(self, number: int, past: NDArray[np.bool_], train: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return (n,) bool: a uniform sample of the past of the training users, as a reservoir would hold it."""
        candidates = np.flatnonzero(past & np.isin(self._users, self._users[train]))
        size = min(round(self.spec.replay * int(train.sum())), candidates.size)
        rng = np.random.default_rng([self.spec.seed, number])
        chosen = np.zeros(len(past), np.bool_)
        chosen[rng.choice(candidates, size, replace=False)] = True
        return chosen


def _cuts(times: Ints, new: Ints, spec: StreamSpec) -> Ints:
    """Return (segments + 1,) indices, in the order of time, at which segments begin, and the end.

    Interactions of the same second stay together; a rest of less than half a segment joins the last one.
    """
    if spec.by == "days":
        length = spec.size * _DAY
        cuts = [*np.flatnonzero(np.diff((times - times[0]) // length, prepend=-1)).tolist(), times.size]
        short = (times[-1] - times[0]) % length < length / 2
    elif spec.by == "count":
        shares = np.cumsum(new) * spec.size // (np.sum(new) + 1)
        starts = np.flatnonzero(np.diff(shares, prepend=-1) > 0)
        cuts = [*np.unique(np.searchsorted(times, times[starts], side="left")).tolist(), times.size]
        short = False
    else:
        total = np.concatenate([[0], np.cumsum(new)])
        cuts = [0]
        while cuts[-1] < times.size:
            cuts.append(_end(times, total, cuts[-1], spec.size))
        short = total[cuts[-1]] - total[cuts[-2]] < spec.size / 2
    if len(cuts) > 2 and short:
        del cuts[-2]
    return np.array(cuts, np.int64)


def _end(times: Ints, total: Ints, start: int, size: int) -> int:
    """Return the end of a segment that begins at `start`.

    The first interaction that exceeds `size` new users and items begins the next segment, with all of its second. A
    single second that exceeds it is a segment.
    """
    end = int(np.searchsorted(total, total[start] + size, side="right")) - 1
    if end >= times.size:
        return times.size
    begins = int(np.searchsorted(times, times[end], side="left"))
    return begins if begins > start else int(np.searchsorted(times, times[end], side="right"))
