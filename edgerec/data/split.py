"""Splits of interactions into parts that train, choose settings, and test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import Interactions, user_ranges
from edgerec.errors import DataError

_HELD_BACK = 0.05
"""Share of train that chooses epochs and settings if a split has no validation share."""

_KINDS = ("random", "leave-one-out", "leave-last-out", "time", "published", "all")
_TEST = 2
_EXPECTED = (
    "expected random:80/20, random:50/25/25, random:50+25/25, leave-one-out, leave-last-out, time:80/20 or the like, "
    "with shares above 0 that sum to 100, published or all"
)


@dataclass(frozen=True)
class SplitSpec:
    """A split, as text random:80/20, random:50/25/25, leave-one-out, leave-last-out, time:80/20, published or all.

    Two shares are train/test: 5 % of train is then held back as validation, to choose epochs and settings,
    and the final model is trained again on all of train. Three are train/validation/test; with a plus between the
    first two the final model is trained again on both, as in the code of BET and CIESS.

    'leave-one-out' tests a random interaction of each user with two or more, which suits data with a few interactions a
    user; 5 % of the rest chooses epochs and settings, and the final model is trained again on all of the rest.

    'published' has the test part of the data's own files. Their validation part, or 5 % of train if they have none,
    chooses epochs and settings, and the final model is trained again on all but the test part.

    'all' tests nothing: 5 % of the interactions choose epochs and settings, and the final model is trained on all.

    Attributes:
        kind: 'random' (within each user), 'leave-one-out' and 'leave-last-out' (of each user), 'time' (one point in
            time for all users), 'published' (as the data come).
        fractions: shares of train, test or of train, validation, test; they sum to 1. () for the other kinds but
            time.
        seed: seed of the random choices, from 0 up.
        again: with three shares, True to train the final model again on train and validation.

    Raises DataError for an unknown kind, invalid shares or a negative seed.
    """

    kind: str
    fractions: tuple[float, ...] = ()
    seed: int = 0
    again: bool = False

    def __post_init__(self) -> None:
        shares = self.fractions
        if self.kind not in ("random", "time"):
            valid = not shares
        else:
            valid = len(shares) in (2, 3) and min(shares) > 0 and math.isclose(sum(shares), 1)
        valid = valid and (len(shares) == 3 or not self.again)
        if self.kind not in _KINDS or not valid or self.seed < 0:
            seed = "" if self.seed >= 0 else f" with seed {self.seed}"
            raise DataError(f"there is no split '{self}'{seed}; {_EXPECTED}")

    @classmethod
    def parse(cls, text: str, *, seed: int = 0) -> SplitSpec:
        """Parse the text form; shares are percentages. Raises DataError."""
        kind, _, shares = text.partition(":")
        first, plus, rest = shares.partition("+")
        listed = [first, *rest.split("/")] if plus else shares.split("/")
        try:
            fractions = tuple(float(share) / 100 for share in listed) if shares else ()
        except ValueError:
            raise DataError(f"the split {text!r} is malformed; {_EXPECTED}") from None
        return cls(kind, fractions, seed, bool(plus))

    @property
    def fit_all(self) -> bool:
        """True if the final model is trained again on train and validation together."""
        return len(self.fractions) == 2 or self.again or self.kind in ("leave-one-out", "published", "all")

    @property
    def tests_at_random(self) -> bool:
        """True if the seed decides which interactions test."""
        return self.kind in ("random", "leave-one-out")

    def tests_of(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Return how many of `counts` interactions of a user, of an array of users, test in a split at random."""
        wanted = np.floor(counts * self.fractions[-1] + 0.5) if self.fractions else np.ones(counts.shape)
        tests: NDArray[np.float64] = np.minimum(wanted, np.maximum(counts - 1, 0))
        return tests

    def without_final(self, counts: Sequence[int]) -> SplitSpec:
        """Return the split of parts of these sizes whose final model is not trained again."""
        if not self.fit_all:
            return self
        parts = [max(count, 1) for count in counts]  # 'all' has no test part
        shares = tuple(part / sum(parts) for part in parts)
        return SplitSpec(self.kind if self.fractions else "random", shares, self.seed)

    def __str__(self) -> str:
        shares = "/".join(f"{100 * fraction:g}" for fraction in self.fractions)
        shares = shares.replace("/", "+", 1) if self.again else shares
        return f"{self.kind}:{shares}" if shares else self.kind

    def to_dict(self) -> dict[str, Any]:
        """Return the split as JSON."""
        fields: dict[str, Any] = {"kind": self.kind, "fractions": list(self.fractions), "seed": self.seed}
        return {**fields, "again": True} if self.again else fields

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> SplitSpec:
        """Read the JSON of `to_dict`. Raises DataError."""
        try:
            shares = tuple(map(float, value["fractions"]))
            return cls(str(value["kind"]), shares, int(value["seed"]), bool(value.get("again", False)))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"a split needs kind, fractions and seed, got {value!r}") from error


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of the interactions over the same users and items.

    Attributes:
        train: interactions to train on.
        validation: interactions to choose epochs and settings on; may be empty for small data.
        test: interactions to measure on once, at the end.
        spec: the rule of the split.
    """

    train: Interactions
    validation: Interactions
    test: Interactions
    spec: SplitSpec

    @property
    def fit_all(self) -> bool:
        """True if the final model is trained again on `train_all`."""
        return self.spec.fit_all

    def without_final(self) -> Split:
        """Return the same parts without a final training on `train_all`."""
        if not self.fit_all or not len(self.validation):
            return self
        counts = [len(self.train), len(self.validation), len(self.test)]
        return replace(self, spec=self.spec.without_final(counts))

    @cached_property
    def train_all(self) -> Interactions:
        """The union of train and validation."""
        return merge(self.train, self.validation)


def split(interactions: Interactions, spec: SplitSpec | str) -> Split:
    """Split interactions, with the same result for the same spec on every platform.

    'random' and the splits of one interaction leave at least one in train of a user with two or more. The parts that a
    folder of `edgerec data build` stores for the spec are used as they are.

    Raises DataError if the split needs timestamps or published parts that the data do not have, or leaves train or test
    empty; 'all' has no test part.
    """
    spec = SplitSpec.parse(spec) if isinstance(spec, str) else spec
    parts = interactions.stored_parts(spec.to_dict())
    if parts is None:
        shards: tuple[list[Interactions], ...] = ([], [], [])
        for shard, numbers in assigned(interactions, spec):
            for number, chosen in enumerate(shards):
                chosen.append(shard.select(numbers == number))
        train, validation, test = (interactions.of_shards(chosen) for chosen in shards)
        parts = train, validation, test
    result = Split(*parts, spec)
    check_parts(spec, len(result.train), len(result.test))
    return result


def check_parts(spec: SplitSpec, n_train: int, n_test: int) -> None:
    """Raise DataError if the train or the test part of a split is empty."""
    for name, count in (("train", n_train), ("test", n_test)):
        if not count and not (name == "test" and spec.kind == "all"):
            cure = {"random": "leave-one-out", "time": "random:80/20"}.get(spec.kind, "all, which tests nothing")
            reason = "too few interactions a user, or too few points in time"
            raise DataError(f"{spec} leaves {name} empty: {reason}; try --split {cure}")


def assigned(interactions: Interactions, spec: SplitSpec) -> Iterator[tuple[Interactions, _PartNumbers]]:
    """Yield shards of users, with the part of each of their interactions. Raises DataError as `split` does."""
    assign = _ASSIGN[spec.kind](interactions, spec)
    return ((shard, assign(shard)) for shard in interactions.shards())


def merge(a: Interactions, b: Interactions) -> Interactions:
    """Return the union of two disjoint parts over the same users and items; items of a user are ascending.

    It has ratings and timestamps if both parts have them. Raises DataError if ids differ or a pair is in both.
    """
    if not all(
        one is other or np.array_equal(one, other)
        for one, other in ((a.user_ids, b.user_ids), (a.item_ids, b.item_ids))
    ):
        raise DataError("interactions of different users or items cannot be merged: split one data set, not two")
    ranges = user_ranges(a.indptr + b.indptr)
    return a.of_shards([_merged(a.users_between(*users), b.users_between(*users)) for users in ranges])


def _merged(a: Interactions, b: Interactions) -> Interactions:
    pairs = np.concatenate([_pair_keys(a), _pair_keys(b)])
    order = np.argsort(pairs, kind="stable")
    if (np.diff(pairs[order]) == 0).any():
        raise DataError("interactions that share pairs cannot be merged: parts must be disjoint")

    def column(first: NDArray[Any] | None, second: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if first is None or second is None else np.concatenate([first, second])[order]

    return Interactions(
        a.user_ids,
        a.item_ids,
        a.indptr + b.indptr,
        np.concatenate([a.indices, b.indices])[order],
        column(a.ratings, b.ratings),
        column(a.timestamps, b.timestamps),
    )


def _pair_keys(part: Interactions) -> NDArray[np.int64]:
    return part.user_rows().astype(np.int64) * part.n_items + part.indices


_PartNumbers = NDArray[np.int8]
"""(n,) the part of each interaction: 0 train, 1 validation, 2 test."""


_Assign = Callable[[Interactions], _PartNumbers]
"""Returns the parts of a shard; called with all shards in order, so that random numbers are drawn as for the whole."""


def _random(interactions: Interactions, spec: SplitSpec) -> _Assign:
    draw, draw_user = _generators(interactions, spec)

    def assign(shard: Interactions) -> _PartNumbers:
        counts = shard.user_counts()
        places = _places(shard, draw.random(len(shard)))
        tests = spec.tests_of(counts)
        if len(spec.fractions) != 3:
            # Rounded up or down at random: rounding to the nearest would hold back nothing of users with fewer than
            # ten.
            held = np.floor((counts - tests) * _HELD_BACK + draw_user.random(len(counts)))
        else:
            held = np.floor(counts * spec.fractions[1] + 0.5)
        return _by_place(shard, places, tests, np.minimum(held, np.maximum(counts - tests - 1, 0)))

    return assign


def _generators(interactions: Interactions, spec: SplitSpec) -> tuple[np.random.Generator, np.random.Generator]:
    """Return generators of a number for each interaction, and of the numbers for each user that follow them."""
    draw, later = (np.random.PCG64(spec.seed) for _ in range(2))
    later.advance(len(interactions))
    return np.random.Generator(draw), np.random.Generator(later)


def _leave_last_out(interactions: Interactions, spec: SplitSpec) -> _Assign:
    _times(interactions, spec)

    def assign(shard: Interactions) -> _PartNumbers:
        counts = shard.user_counts()
        # At equal times the higher item row counts as the later: interactions do not have the order of their file.
        places = _places(shard, -shard.indices, -_times(shard, spec))
        return _by_place(shard, places, (counts >= 2).astype(int), (counts >= 3).astype(int))

    return assign


def _by_time(interactions: Interactions, spec: SplitSpec) -> _Assign:
    times = _times(interactions, spec)
    first = spec.fractions[0]
    ends = (first * (1 - _HELD_BACK), first) if len(spec.fractions) == 2 else (first, first + spec.fractions[1])
    cuts = [_smallest(times, min(round(end * len(times)), len(times) - 1)) for end in ends]
    # Interactions at the second of a boundary belong to the later part, so that no part sees that of the next.
    return lambda shard: np.searchsorted(cuts, _times(shard, spec), side="right").astype(np.int8)


def _smallest(values: NDArray[np.int64], place: int) -> int:
    """Return the value at a place, from 0, of the sorted values, by bisection: they may be larger than memory."""
    low, high = int(values.min()), int(values.max())
    while low < high:
        middle = (low + high) // 2
        if np.count_nonzero(values <= middle) > place:
            high = middle
        else:
            low = middle + 1
    return low


def _times(interactions: Interactions, spec: SplitSpec) -> NDArray[np.int64]:
    if interactions.timestamps is None:
        raise DataError(f"{spec} needs timestamps, which these interactions lack; use random:80/20")
    return interactions.timestamps


def _published(interactions: Interactions, spec: SplitSpec) -> _Assign:
    if interactions.parts is None:
        raise DataError(
            f"{interactions.name or 'the data set'} comes without a published split; expected a folder with train and "
            "test files, such as train.txt and test.txt (a cached set of an older version is fetched again after it is "
            "deleted); or use random:80/20"
        )
    complete = bool((interactions.parts == 1).any())
    draw, draw_user = _generators(interactions, spec)

    def assign(shard: Interactions) -> _PartNumbers:
        parts = shard.parts
        if parts is None or complete:
            return np.zeros(0, np.int8) if parts is None else parts
        is_test = parts == _TEST
        rows = shard.user_rows()
        counts = np.bincount(rows[~is_test], minlength=shard.n_users)
        places = _places(shard, draw.random(len(shard)), is_test)
        held = np.minimum(np.floor(counts * _HELD_BACK + draw_user.random(len(counts))), np.maximum(counts - 1, 0))
        return np.where(is_test, _TEST, places < held[rows]).astype(np.int8)

    return assign


def _everything(interactions: Interactions, spec: SplitSpec) -> _Assign:
    draw, draw_user = _generators(interactions, spec)

    def assign(shard: Interactions) -> _PartNumbers:
        counts = shard.user_counts()
        held = np.minimum(np.floor(counts * _HELD_BACK + draw_user.random(len(counts))), np.maximum(counts - 1, 0))
        return _by_place(shard, _places(shard, draw.random(len(shard))), np.zeros(len(counts)), held)

    return assign


def _places(interactions: Interactions, *keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return (n,) ranks, from 0, of interactions among those of their user, sorted by the last key first."""
    rows = interactions.user_rows()
    places = np.empty(len(rows), np.int64)
    places[np.lexsort((*keys, rows))] = np.arange(len(rows))
    places -= interactions.indptr[rows]
    return places


def _by_place(
    interactions: Interactions, places: NDArray[np.int64], tests: NDArray[Any], held: NDArray[Any]
) -> _PartNumbers:
    """Return the parts by rank: the first `tests` (n_users,) of each user test, the next `held` (n_users,) validate."""
    rows = interactions.user_rows()
    is_test = places < tests[rows]
    is_held = ~is_test & (places < (tests + held)[rows])
    return np.where(is_test, _TEST, is_held).astype(np.int8)


_ASSIGN: dict[str, Callable[[Interactions, SplitSpec], _Assign]] = {
    "random": _random,
    "leave-one-out": _random,
    "leave-last-out": _leave_last_out,
    "time": _by_time,
    "published": _published,
    "all": _everything,
}
