"""A stream: interactions in the order of time, cut into segments that each train, and test, on their own.

As SCALL's code does it (Qu et al. 2024, arXiv 2407.15411): a segment ends where more than so many new users and items
have come; its first 80 % train and the rest test; a fifth as many interactions of the past, of its own users, are
replayed; and what is measured are users and items that are in both parts.
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
    """How a stream is cut.

    Attributes:
        by: 'new', a segment has at most `size` users and items that were never seen before; 'days', it is `size` days
            long; 'count', there are `size` segments with about as many new ones each.
        size: at least 1.
        train: share of a segment's interactions that train; the others test.
        holdout: 'time', the last of all test, as in the paper; 'user', the last of each user, and none of users with
            one alone. Where users come once and leave, as in MovieLens, hardly any are on both sides of one cut.
        replay: interactions of earlier segments that are trained on again, as a share of those that train.
        seed: of the replay.

    Raises DataError at a cut, shares or a seed that do not exist.
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
        """Read 'new:1000', 'days:30' or '8'. Raises DataError."""
        match = re.fullmatch(r"(?:(new|days):)?(\d{1,18})", text.strip())
        if match is None:
            raise DataError(f"the segments {text!r} are malformed; {_EXPECTED}")
        return cls(match[1] or "count", int(match[2]), **settings)

    def __str__(self) -> str:
        return str(self.size) if self.by == "count" else f"{self.by}:{self.size}"

    def to_dict(self) -> dict[str, Any]:
        """A form for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> StreamSpec:
        """The inverse of `to_dict`; what else is in `value` is left alone. Raises DataError."""
        try:
            return cls(**{field.name: value[field.name] for field in fields(cls)})
        except (KeyError, TypeError) as error:
            raise DataError(f"a stream needs by, size, train, holdout, replay and seed, got {value!r}") from error


@dataclass(frozen=True)
class Segment:
    """One stretch of a stream; all parts are over the users and items that are known while it trains.

    Attributes:
        number: from 0.
        begins, ends: seconds, of its first and last interaction.
        past: all earlier segments.
        train: what is new.
        replay: a part of `past`, of users of `train`.
        test: of users and items of `train` alone; no pair of `past` or `train`.
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
        """Past and train together: what a model may know."""
        return merge(self.past, self.train)

    @cached_property
    def positives(self) -> Interactions:
        """Train and replay together: what a model that follows the stream is trained on."""
        return merge(self.train, self.replay)

    def measured(self) -> tuple[Ints, Ints]:
        """Rows of the users and items that the test part has: who ranks what (SCALL's code)."""
        return np.flatnonzero(self.test.user_counts()), np.flatnonzero(self.test.item_counts())

    def measure(
        self, users: NDArray[np.float32], items: NDArray[np.float32], *, threads: int | None = None
    ) -> dict[str, float]:
        """Metrics of vectors (n_users, d) and (n_items, d), as `evaluate_vectors` has them: the test part's users rank
        the test part's items, and what they had before is masked (SCALL's code)."""
        user_rows, item_rows = self.measured()
        seen, test = self._measured_parts
        return evaluate_vectors(users[user_rows], items[item_rows], seen, test, ks=KS, threads=threads)

    def worth(
        self, users: NDArray[np.float32], items: NDArray[np.float32], *, threads: int | None = None
    ) -> NDArray[np.float64]:
        """(n,) the mean of Recall@20 and NDCG@20 of each user of the test part: their mean is SCALL's reward."""
        user_rows, item_rows = self.measured()
        seen, test = self._measured_parts
        rows = np.arange(user_rows.size)
        rankings = top_k_of_vectors(users[user_rows], items[item_rows], rows, _K, seen=[seen], threads=threads)
        metrics = metrics_per_user(rankings, test, ks=[_K])
        return (metrics[f"recall@{_K}"] + metrics[f"ndcg@{_K}"]) / 2

    @cached_property
    def _measured_parts(self) -> tuple[Interactions, Interactions]:
        """What is masked, and what is looked for, over `measured` alone."""
        return among(self.known, *self.measured()), among(self.test, *self.measured())


def among(part: Interactions, user_rows: Ints, item_rows: Ints) -> Interactions:
    """The interactions between some users and some items, over these alone; rows ascend."""
    places = np.full(part.n_items, -1, np.int32)
    places[item_rows] = np.arange(item_rows.size)
    chosen = part.select(np.isin(part.user_rows(), user_rows) & (places[part.indices] >= 0))
    pointers = np.concatenate([[0], np.cumsum(chosen.user_counts()[user_rows])]).astype(np.int64)
    return Interactions(
        part.user_ids[user_rows], part.item_ids[item_rows], pointers, places[chosen.indices], name=part.name
    )


def stream(interactions: Interactions, spec: StreamSpec | str) -> Stream:
    """Cut interactions into a stream's segments.

    Raises DataError: no timestamps, fewer than two segments, or one in which nothing can be measured.
    """
    return Stream(interactions, StreamSpec.parse(spec) if isinstance(spec, str) else spec)


class Stream:
    """The segments of interactions, each made when it is asked for.

    Attributes:
        spec: how it was cut.
        interactions: all of it.
    """

    def __init__(self, interactions: Interactions, spec: StreamSpec) -> None:
        """Raises DataError, as `stream` does."""
        if interactions.timestamps is None:
            raise DataError("a stream needs timestamps, which these interactions lack")
        self.spec, self.interactions = spec, interactions
        self._times = interactions.timestamps
        self._users, self._items = interactions.user_rows().astype(np.int64), interactions.indices.astype(np.int64)
        self._order = np.lexsort((self._items, self._users, self._times))
        self._cuts = _cuts(self._times[self._order], self._newcomers(), spec)
        if len(self) < 2:
            raise DataError(f"{spec} makes one segment of all interactions: make segments smaller")
        # Interactions by segment, and whether they train; by their places in the data.
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
        """The segment of that number, from 0."""
        current = self._segment == number
        past, train = self._segment < number, current & self._trains
        # A user or an item that only tests is not known yet: nothing could have been trained for it.
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
        """(n,) how many of an interaction's user and item no earlier one has: 0 to 2, in the order of time."""
        new = np.zeros(len(self._order), np.int64)
        for rows in (self._users, self._items):
            new[np.unique(rows[self._order], return_index=True)[1]] += 1
        return new

    def _training(self, inside: Ints) -> Ints:
        """Those of a segment's interactions, in the order of time, that train."""
        if self.spec.holdout == "time":
            end = min(math.ceil(self.spec.train * inside.size), inside.size - 1)
            # Everything at the very second of the cut lies behind it: training sees no present of the test.
            times = self._times[inside]
            return inside[: np.searchsorted(times, times[end], side="left")]
        users = self._users[inside]
        grouped = np.argsort(users, kind="stable")
        _, starts, counts = np.unique(users[grouped], return_index=True, return_counts=True)
        places = np.empty(inside.size, np.int64)
        places[grouped] = np.arange(inside.size) - np.repeat(starts, counts)
        kept = np.maximum(np.ceil(self.spec.train * counts), 1)
        training: Ints = inside[places < kept[np.searchsorted(users[grouped][starts], users)]]
        return training

    def _measured(self, number: int) -> NDArray[np.bool_]:
        """(n,) the test interactions of users and items that the segment trains on."""
        train = (self._segment == number) & self._trains
        test: NDArray[np.bool_] = (self._segment == number) & ~self._trains
        for rows in (self._users, self._items):
            test &= np.isin(rows, rows[train])
        return test

    def _replayed(self, number: int, past: NDArray[np.bool_], train: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n,) a uniform sample of the past of the users who train: what a reservoir of that size would hold."""
        candidates = np.flatnonzero(past & np.isin(self._users, self._users[train]))
        size = min(round(self.spec.replay * int(train.sum())), candidates.size)
        rng = np.random.default_rng([self.spec.seed, number])
        chosen = np.zeros(len(past), np.bool_)
        chosen[rng.choice(candidates, size, replace=False)] = True
        return chosen


def _cuts(times: Ints, new: Ints, spec: StreamSpec) -> Ints:
    """(segments + 1,) places in the order of time where segments begin, and the end of all. Seconds stay whole; a rest
    of less than half a segment is the last one's."""
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
    """Where a segment ends: the first interaction with which there are too many new ones, and all of its second, begin
    the next. A second that alone has too many is a segment."""
    end = int(np.searchsorted(total, total[start] + size, side="right")) - 1
    if end >= times.size:
        return times.size
    begins = int(np.searchsorted(times, times[end], side="left"))
    return begins if begins > start else int(np.searchsorted(times, times[end], side="right"))
