"""Interactions: how pairs become a matrix, what filtering leaves, what a fingerprint sees."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerec.data import Interactions
from edgerec.errors import DataError

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=80)


def pairs_of(interactions: Interactions) -> list[tuple[Any, Any]]:
    users = interactions.user_ids[interactions.user_rows()].tolist()
    return list(zip(users, interactions.item_ids[interactions.indices].tolist(), strict=True))


def build(pairs: list[tuple[int, int]], **columns: Any) -> Interactions:
    return Interactions.from_pairs([user for user, _ in pairs], [item for _, item in pairs], **columns)


def test_rows_are_the_ranks_of_the_sorted_ids() -> None:
    got = Interactions.from_pairs([30, 10, 30], ["b", "b", "a"])
    assert got.user_ids.tolist() == [10, 30]
    assert got.item_ids.tolist() == ["a", "b"]
    assert got.indptr.tolist() == [0, 1, 3]
    assert got.indices.tolist() == [1, 0, 1]
    assert got.items_of(1).tolist() == [0, 1]
    assert got.indptr.dtype == np.int64
    assert got.indices.dtype == np.int32
    assert got.user_counts().tolist() == [1, 2]
    assert got.item_counts().tolist() == [1, 2]


def test_of_a_repeated_pair_the_latest_is_kept() -> None:
    got = Interactions.from_pairs([1, 1, 1], [5, 5, 5], ratings=[1, 2, 3], timestamps=[10, 30, 20])
    assert got.ratings is not None
    assert got.timestamps is not None
    assert (got.ratings.tolist(), got.timestamps.tolist()) == ([2.0], [30])


@pytest.mark.parametrize("timestamps", [None, [7, 7]])
def test_of_equal_times_the_last_is_kept(timestamps: list[int] | None) -> None:
    got = Interactions.from_pairs([1, 1], [5, 5], ratings=[1, 2], timestamps=timestamps)
    assert got.ratings is not None
    assert got.ratings.tolist() == [2.0]


@given(PAIRS)
def test_every_pair_is_there_once(pairs: list[tuple[int, int]]) -> None:
    assert pairs_of(build(pairs)) == sorted(set(pairs))


@given(PAIRS)
def test_the_matrix_has_a_one_for_every_pair(pairs: list[tuple[int, int]]) -> None:
    pytest.importorskip("scipy")
    got = build(pairs)
    dense = got.matrix().toarray()
    assert dense.sum() == len(got)
    assert all(dense[user, item] == 1 for user, item in zip(got.user_rows(), got.indices, strict=True))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"users": [1, -2], "items": [1, 2]}, "user id -2 is negative"),
        ({"users": [1, 2], "items": [1, -7]}, "item id -7 is negative"),
        ({"users": ["a", ""], "items": [1, 2]}, "an empty user id"),
        ({"users": [1.5], "items": [1]}, "integers or strings, got float64"),
        ({"users": [[1]], "items": [1]}, "one sequence, got 2 dimensions"),
        ({"users": [1], "items": [1, 2]}, "differ in length: 1 and 2"),
        ({"users": [], "items": []}, "0 interactions: there is nothing to train on"),
        ({"users": [1, 2], "items": [1, 2], "ratings": [1, float("nan")]}, "rating 2 of 2 is not a finite"),
        ({"users": [1], "items": [1], "ratings": [1e300]}, "rating 1 of 1 is not a finite number"),
        ({"users": [1], "items": [1], "ratings": ["good"]}, "ratings must be numbers"),
        ({"users": [1], "items": [1], "ratings": [1, 2]}, "1 expected, got shape"),
        ({"users": [1], "items": [1], "timestamps": [0.5]}, "timestamps must be whole numbers"),
        ({"users": [1], "items": [1], "timestamps": [float("nan")]}, "timestamps must be whole numbers"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        Interactions.from_pairs(**arguments)
    assert reason in str(caught.value)


def core(pairs: set[tuple[int, int]], min_user: int, min_item: int) -> set[tuple[int, int]]:
    """The k-core by definition: drop and count again until nothing changes."""
    users, items = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
    kept = {(u, i) for u, i in pairs if users[u] >= min_user and items[i] >= min_item}
    return kept if kept == pairs else core(kept, min_user, min_item)


@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_filtering_leaves_the_core(pairs: list[tuple[int, int]], min_user: int, min_item: int) -> None:
    expected = core(set(pairs), min_user, min_item)
    if expected:
        got = build(pairs).filter(min_user=min_user, min_item=min_item)
        assert pairs_of(got) == sorted(expected)
        assert got.user_counts().min() >= min_user
        assert got.item_counts().min() >= min_item
    else:
        with pytest.raises(DataError, match=f"0 interactions after .*min_user={min_user}, min_item={min_item}"):
            build(pairs).filter(min_user=min_user, min_item=min_item)


def test_filtering_takes_ratings_times_and_titles_along() -> None:
    given = build([(1, 1), (1, 2), (2, 2), (3, 3)], ratings=[1, 2, 3, 4], timestamps=[5, 6, 7, 8])
    got = given.with_titles({1: "one", 2: "two"}).filter(min_item=2)
    assert got.ratings is not None
    assert got.timestamps is not None
    assert got.titles is not None
    assert got.ratings.tolist() == [2, 3]
    assert got.timestamps.tolist() == [6, 7]
    assert got.titles.tolist() == ["two"]


def test_selecting_keeps_users_and_items() -> None:
    given = build([(1, 1), (1, 2), (2, 2)])
    got = given.select(np.array([False, False, True]))
    assert got.shape == given.shape
    assert got.indptr.tolist() == [0, 0, 1]
    assert pairs_of(got) == [(2, 2)]


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_given_does_not_change_the_fingerprint(pairs: list[tuple[int, int]], random: Any) -> None:
    table = [(user, item, user * 0.5, item) for user, item in sorted(set(pairs))]
    shuffled = random.sample(table, len(table))
    first, second = (
        Interactions.from_pairs(*columns[:2], ratings=columns[2], timestamps=columns[3])
        for columns in (list(zip(*rows, strict=True)) for rows in (table, shuffled))
    )
    assert first.fingerprint() == second.fingerprint()


def test_every_content_changes_the_fingerprint() -> None:
    contents: list[Interactions] = [
        build([(1, 1), (2, 2)]),
        build([(1, 1), (2, 3)]),
        build([(1, 1), (3, 2)]),
        build([(1, 2), (2, 1)]),
        build([(1, 1), (1, 2), (2, 2)]),
        build([(1, 1), (2, 2)], ratings=[1, 1]),
        build([(1, 1), (2, 2)], ratings=[1, 2]),
        build([(1, 1), (2, 2)], timestamps=[1, 1]),
        build([(1, 1), (2, 2)], ratings=[1, 1], timestamps=[1, 1]),
        Interactions.from_pairs(["1", "2"], [1, 2]),
        Interactions.from_pairs(["ab", "c"], [1, 2]),
        Interactions.from_pairs(["a", "bc"], [1, 2]),
    ]
    assert len({entry.fingerprint() for entry in contents}) == len(contents)


def test_titles_and_name_do_not_change_the_fingerprint() -> None:
    plain = build([(1, 1), (2, 2)])
    assert build([(1, 1), (2, 2)], name="x").with_titles({1: "one"}).fingerprint() == plain.fingerprint()
