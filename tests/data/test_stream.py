"""Streams: segments partition time, know only the past, and are measured on users and items of both their parts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgerec.data import Interactions, Segment, Stream, StreamSpec, stream
from edgerec.data.stream import HOLDOUTS, among
from edgerec.errors import DataError

DAY = 86_400


def drifting(n: int, rng: np.random.Generator, seconds: int = 10**6) -> Interactions:
    """Users and items come and go, so that there are new ones all the time."""
    times = np.sort(rng.integers(0, seconds, n))
    drift = np.linspace(0, 20, n).astype(int)
    return Interactions.from_pairs(drift + rng.integers(0, 12, n), drift + rng.integers(0, 9, n), timestamps=times)


MADE = drifting(1500, np.random.default_rng(0))


def pairs(part: Interactions) -> set[tuple[int, int]]:
    users, items = part.user_ids[part.user_rows()], part.item_ids[part.indices]
    return set(zip(users.tolist(), items.tolist(), strict=True))


def listed(*events: tuple[int, int, int]) -> Interactions:
    """Of (user, item, seconds)."""
    users, items, times = zip(*events, strict=True)
    return Interactions.from_pairs(users, items, timestamps=times)


def cut(whole: Interactions, spec: StreamSpec) -> list[Segment]:
    """The segments, where each has something to measure."""
    try:
        return list(stream(whole, spec))
    except DataError as error:
        assume("one segment" not in str(error) and "nothing to measure" not in str(error))
        raise


CUTS = (("new", 20), ("new", 9), ("days", 9), ("days", 2), ("count", 3))


@st.composite
def streams(draw: st.DrawFn, cuts: tuple[tuple[str, int], ...] = CUTS) -> tuple[Interactions, StreamSpec]:
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    spans = draw(st.integers(30, 500))
    whole = drifting(draw(st.integers(300, 600)), rng, spans)
    assert whole.timestamps is not None
    whole = replace(whole, timestamps=whole.timestamps * (DAY // 10))
    by, size = draw(st.sampled_from(cuts))
    spec = StreamSpec(by, size, holdout=draw(st.sampled_from(HOLDOUTS)), replay=draw(st.sampled_from([0.0, 0.2, 1.0])))
    return whole, spec


@given(streams())
def test_segments_hold_what_they_promise(given_stream: tuple[Interactions, StreamSpec]) -> None:
    whole, spec = given_stream
    segments = cut(whole, spec)
    times = dict(zip(zip(whole.user_rows(), whole.indices, strict=True), whole.timestamps, strict=True))
    seconds = {(whole.user_ids[u], whole.item_ids[i]): int(time) for (u, i), time in times.items()}
    seen: set[tuple[int, int]] = set()
    for number, segment in enumerate(segments):
        assert segment.number == number
        train, test, past, replay = map(pairs, (segment.train, segment.test, segment.past, segment.replay))
        # The past is all that came before, and every part is over what is known by now.
        assert past >= seen
        assert not past & (train | test)
        assert not train & test
        assert all(segment.begins <= seconds[pair] <= segment.ends for pair in train | test)
        assert all(seconds[pair] < segment.begins for pair in past)
        assert {u for u, _ in past | train} == set(segment.known.user_ids.tolist())
        assert {i for _, i in past | train} == set(segment.known.item_ids.tolist())
        new = {u for u, _ in train} - {u for u, _ in past}
        assert set(segment.train.user_ids[segment.new_users].tolist()) == new
        # What is measured is in both parts.
        assert test
        assert {u for u, _ in test} <= {u for u, _ in train}
        assert {i for _, i in test} <= {i for _, i in train}
        if spec.holdout == "time":
            assert max(seconds[pair] for pair in train) < min(seconds[pair] for pair in test)
        # Replayed are pairs of the past, of users who are there now.
        assert replay <= past
        assert {u for u, _ in replay} <= {u for u, _ in train}
        assert len(replay) <= round(spec.replay * len(train))
        seen |= train | test
    assert pairs(segments[-1].past) | seen <= pairs(whole)


@given(streams((("new", 9), ("new", 15), ("new", 30))))
def test_a_segment_has_no_more_new_ones_than_asked(given_stream: tuple[Interactions, StreamSpec]) -> None:
    whole, spec = given_stream
    segments = cut(whole, spec)
    everything = [(segment.begins, segment.ends) for segment in segments]
    assert all(ends < begins for (_, ends), (begins, _) in pairwise(everything))
    seen: set[str] = set()
    times = whole.timestamps
    assert times is not None
    for number, (begins, ends) in enumerate(everything):
        inside = (times >= begins) & (times <= ends)
        now = {f"u{u}" for u in whole.user_rows()[inside]} | {f"i{i}" for i in whole.indices[inside]}
        # One second can bring more by itself, and the last segment takes what is left.
        alone = begins == ends
        assert len(now - seen) <= spec.size or alone or number == len(everything) - 1
        seen |= now


def test_seconds_stay_whole() -> None:
    """Thirteen new ones at one second are more than the two that a segment may have."""
    events = [(u, i, 0) for u in range(5) for i in range(2 * (u % 2), 2 * (u % 2) + 7)]
    events += [(u, i, 10) for u in range(5, 8) for i in range(2 * (u % 2), 2 * (u % 2) + 9)]
    segments = Stream(listed(*events), StreamSpec("new", 2, holdout="user"))
    assert [(segment.begins, segment.ends) for segment in segments] == [(0, 0), (10, 10)]
    assert len(segments.segment(0).train) == 5 * 6


def test_days_without_anything_make_no_segment() -> None:
    events = [
        (u, i, day * DAY + u)
        for day in (0, 1, 40, 41)
        for u in range(day, day + 4)
        for i in range(2 * (u % 2), 2 * (u % 2) + 7)
    ]
    spec = StreamSpec.parse("days:2", holdout="user")
    assert [(segment.begins // DAY, segment.ends // DAY) for segment in stream(listed(*events), spec)] == [
        (0, 1),
        (40, 41),
    ]


def test_as_many_segments_as_asked_for() -> None:
    assert len(stream(MADE, StreamSpec.parse("2", holdout="user"))) == 2


def test_the_last_fifth_tests() -> None:
    by_user = stream(MADE, StreamSpec.parse("2", holdout="user")).segment(0)
    everything = len(by_user.train) + len(by_user.test)
    assert 0.7 < len(by_user.train) / everything < 0.95
    counts = by_user.train.user_counts() + by_user.test.user_counts()
    assert (by_user.test.user_counts() <= counts // 5).all()
    by_time = stream(MADE, StreamSpec.parse("2", holdout="time")).segment(1)
    assert 0.75 < len(by_time.train) / (len(by_time.train) + len(by_time.test)) < 0.85


def test_a_seed_decides_what_is_replayed() -> None:
    first, again, other = (
        stream(MADE, StreamSpec("count", 2, holdout="user", replay=0.05, seed=s)).segment(1) for s in (1, 1, 2)
    )
    assert pairs(first.replay) == pairs(again.replay) != pairs(other.replay)
    assert len(first.replay) == round(0.05 * len(first.train))
    assert pairs(first.positives) == pairs(first.train) | pairs(first.replay)


def test_vectors_that_know_the_test_part_are_perfect() -> None:
    segment = stream(MADE, StreamSpec.parse("2", holdout="user")).segment(1)
    users = segment.test.matrix().toarray()
    items = np.eye(segment.test.n_items, dtype=np.float32)
    found = segment.measure(users, items, threads=1)
    assert found["ndcg@20"] == 1
    # What was seen before is masked: to rank it first costs nothing.
    masked = segment.measure(users + 5 * segment.known.matrix().toarray(), items, threads=1)
    assert masked["ndcg@20"] == 1
    assert segment.measure(-users, items, threads=1)["ndcg@5"] < 0.5


def test_parts_of_users_and_items() -> None:
    small = among(MADE, np.array([3, 7, 9]), np.array([2, 8]))
    chosen = {(u, i) for u, i in pairs(MADE) if u in MADE.user_ids[[3, 7, 9]] and i in MADE.item_ids[[2, 8]]}
    assert pairs(small) == chosen
    assert small.shape == (3, 2)


@pytest.mark.parametrize("text", ["", "new", "new:", "new:-1", "weeks:3", "0", "days:0", "new:1.5"])
def test_segments_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="expected new:1000"):
        StreamSpec.parse(text)


@pytest.mark.parametrize("settings", [{"train": 1.0}, {"replay": -1.0}, {"seed": -1}, {"holdout": "week"}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(DataError, match="a stream"):
        StreamSpec.parse("8", **settings)


def test_data_that_make_no_stream_are_refused() -> None:
    with pytest.raises(DataError, match="timestamps"):
        stream(Interactions.from_pairs([1, 2], [3, 4]), "8")
    with pytest.raises(DataError, match="one segment"):
        stream(MADE, "new:100000")
    lonely = listed(*[(u, u, u * DAY) for u in range(30)])
    with pytest.raises(DataError, match="segment 0 of 3 has no test interaction"):
        stream(lonely, "3")


@pytest.mark.parametrize("text", ["new:1000", "days:30", "8"])
def test_text_and_back(text: str) -> None:
    assert str(StreamSpec.parse(text)) == text


def test_a_spec_comes_back_from_json() -> None:
    spec = StreamSpec("new", 50, 0.7, "user", 0.5, 3)
    assert StreamSpec.from_dict({**spec.to_dict(), "segment": 2}) == spec
    with pytest.raises(DataError, match="a stream needs"):
        StreamSpec.from_dict({"kind": "random", "fractions": [0.8, 0.2], "seed": 0})
