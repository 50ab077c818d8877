"""Metrics: by hand, against a slow obvious reference, and the same however the work is divided."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerec.data import (
    Interactions,
    Sample,
    evaluate_vectors,
    metrics_of_rankings,
    metrics_per_user,
    popularity_of,
    ranking,
    split,
    synthetic,
    top_k,
)
from edgerec.errors import DataError

GRID = Interactions.from_pairs([0, 0, 1, 2], [0, 2, 3, 1])
"""Three users, four items: user 0 likes items 0 and 2, user 1 item 3, user 2 item 1."""


def test_recall_and_ndcg_by_hand() -> None:
    rankings = np.array([[2, 3, 0], [0, 1, 2], [3, 1, -1]])
    got = metrics_of_rankings(rankings, GRID, ks=(1, 3))
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    assert got["recall@1"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert got["ndcg@1"] == pytest.approx((1 + 0 + 0) / 3)
    assert got["recall@3"] == pytest.approx((1 + 0 + 1) / 3)
    assert got["ndcg@3"] == pytest.approx(((1 + third) / (1 + second) + 0 + second) / 3)
    assert got["coverage@1"] == 3 / 4
    assert got["coverage@3"] == 1
    assert "popularity@1" not in got


def test_popularity_is_the_mean_count_of_what_is_shown() -> None:
    got = metrics_of_rankings(
        np.array([[0, 1], [3, -1]]), GRID, rows=np.array([0, 2]), popularity=np.array([8, 4, 2, 3]), ks=(2,)
    )
    assert got["popularity@2"] == (8 + 4 + 3) / 3


def test_shards_of_users_measure_as_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = split(synthetic(90, 60, 2000), "random:80/20")
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 4), np.float32) for n in (90, 60))
    whole = evaluate_vectors(users, items, parts.train, parts.test)
    monkeypatch.setattr("edgerec.data.metrics._USERS_AT_ONCE", 7)
    assert evaluate_vectors(users, items, parts.train, parts.test) == whole


def test_a_sample_of_users_has_margins_that_shrink_to_nothing() -> None:
    """Item 0 ranks first for all: a hit of the users 0 to 24, and of nobody else."""
    test = Interactions.from_pairs(range(100), [int(user >= 25) for user in range(100)])
    seen = test.select(np.zeros(100, np.bool_))
    users, items = np.ones((100, 1), np.float32), np.array([[2], [1]], np.float32)

    def measure(size: int) -> dict[str, float]:
        return evaluate_vectors(users, items, seen, test, ks=(1,), sample=Sample(size, seed=2))

    everyone = measure(1000)
    assert (everyone["recall@1"], everyone["recall@1_margin"]) == (0.25, 0)
    found = measure(50)
    share = found["recall@1"]
    assert (50 * share).is_integer()
    deviation = math.sqrt(share * (1 - share) * 50 / 49)
    assert found["ndcg@1_margin"] == pytest.approx(1.959964 * deviation * math.sqrt(50 / 99) / math.sqrt(50))
    assert abs(share - 0.25) < found["recall@1_margin"]
    assert "recall@1_margin" not in evaluate_vectors(users, items, seen, test, ks=(1,))


def test_users_without_a_test_item_are_not_averaged() -> None:
    test = GRID.select(np.array([True, False, False, False]))
    rankings = np.array([[0], [1], [2]])
    assert metrics_of_rankings(rankings, test, ks=(1,))["recall@1"] == 1
    assert metrics_per_user(rankings, test, ks=(1,))["recall@1"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("rankings", "ks", "reason"),
    [
        ([[0, 1], [1, 2]], (1,), "one row for each of 3 users"),
        ([[0], [1], [2]], (2,), "cutoffs must be from 1 to the rankings' length 1"),
        ([[0], [1], [4]], (1,), "outside 0 to 3"),
        ([[0], [1], [-2]], (1,), "outside 0 to 3"),
        ([[0, 0], [1, 2], [2, -1]], (1,), "names an item twice"),
    ],
)
def test_malformed_rankings_are_refused(rankings: list[list[int]], ks: tuple[int, ...], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        metrics_of_rankings(np.array(rankings), GRID, ks=ks)


def test_nothing_to_measure_is_an_error() -> None:
    nothing = GRID.select(np.zeros(4, bool))
    with pytest.raises(DataError, match="no ranked user has a test item"):
        metrics_of_rankings(np.zeros((3, 1), int), nothing, ks=(1,))
    with pytest.raises(DataError, match="no ranked user"):
        evaluate_vectors(np.ones((3, 2), np.float32), np.ones((4, 2), np.float32), GRID, nothing)


def test_an_empty_test_scores_nothing_for_anyone() -> None:
    got = metrics_per_user(np.zeros((3, 1), int), GRID.select(np.zeros(4, bool)), ks=(1,))
    assert got["ndcg@1"].tolist() == [0, 0, 0]


def test_vectors_that_do_not_fit_or_diverged_are_refused() -> None:
    users, items = np.ones((3, 2), np.float32), np.ones((4, 2), np.float32)
    with pytest.raises(DataError, match="vectors of 2 users and 4 items do not fit"):
        evaluate_vectors(users[:2], items, GRID, GRID)
    items[1, 1] = np.nan
    with pytest.raises(DataError, match="not finite: the training diverged"):
        evaluate_vectors(users, items, GRID, GRID)
    with pytest.raises(DataError, match="popularity needs"):
        popularity_of([])


def slow(users: Any, items: Any, seen: Interactions, test: Interactions, k: int) -> dict[str, float]:
    """The definitions, one user and one item at a time."""
    counts, recalls, ndcgs, shown = seen.item_counts(), [], [], []
    for user in range(test.n_users):
        positives = set(test.items_of(user).tolist())
        if not positives:
            continue
        hidden = set(seen.items_of(user).tolist())
        left = [item for item in range(test.n_items) if item not in hidden]
        ranked = sorted(left, key=lambda item: (-float(users[user] @ items[item]), item))[:k]
        gains = [1 / math.log2(place + 2) for place, item in enumerate(ranked) if item in positives]
        best = [1 / math.log2(place + 2) for place in range(min(k, len(positives)))]
        recalls.append(len(gains) / len(positives))
        ndcgs.append(sum(gains) / sum(best))
        shown += ranked
    return {
        f"recall@{k}": float(np.mean(recalls)),
        f"ndcg@{k}": float(np.mean(ndcgs)),
        f"coverage@{k}": len(set(shown)) / test.n_items,
        f"popularity@{k}": float(np.mean(counts[shown])) if shown else 0.0,
    }


@given(st.data())
def test_the_definitions_hold_on_random_data(data: st.DataObject) -> None:
    n_users, n_items = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    pairs = np.argwhere(rng.random((n_users, n_items)) < 0.4)
    if len(pairs) < 2:
        return
    whole = Interactions.from_pairs(*pairs.T)
    part = rng.random(len(whole)) < 0.5
    part[:2] = (True, False)
    seen, test = whole.select(part), whole.select(~part)
    # Small whole numbers: products are exact, and equal scores abound.
    users = rng.integers(-1, 2, (whole.n_users, 3)).astype(np.float32)
    items = rng.integers(-1, 2, (whole.n_items, 3)).astype(np.float32)
    for k in (1, 5, 20):
        got = evaluate_vectors(users, items, seen, test, ks=(k,), threads=2)
        assert got == pytest.approx(slow(users, items, seen, test, k))


@given(
    st.integers(1, 40),
    st.integers(1, 1500),
    st.integers(1, 25),
    st.sampled_from([1, 3, 1000]),
    st.integers(0, 99),
)
def test_the_best_of_a_block_are_exact(rows: int, n: int, k: int, values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (rows, n)).astype(np.float32)
    scores[rng.random((rows, n)) < rng.random()] = -np.inf
    k = min(k, n)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    expected = np.where(np.isneginf(np.take_along_axis(scores, order, 1)), -1, order)
    assert (ranking.best_of(scores, k) == expected).all()


def test_of_equal_scores_those_in_front_count_whatever_chunk_they_are_in() -> None:
    scores = np.zeros((1, 128 * 64), np.float32)
    scores[0, 5000] = 1
    assert ranking.best_of(scores, 4).tolist() == [[5000, 0, 1, 2]]


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 12), st.integers(0, 99))
def test_rows_of_any_size_rank_as_whole_ones_do(n_users: int, n_items: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Halves are summed without rounding, however many zeros stand between them.
    tables = [rng.integers(-4, 5, (n, d)).astype(np.float32) / 2 for n in (n_users, n_items)]
    users, items = (table * (np.arange(d) < rng.integers(0, d + 1, (len(table), 1))) for table in tables)
    rows = rng.permutation(n_users)[: rng.integers(1, n_users + 1)]
    got = ranking.top_k_of_vectors(users, items, rows, 7, threads=2)
    assert (got == top_k(lambda block: users[block] @ items.T, rows, n_items, 7)).all()
    assert (ranking.sizes_of(users) == [max(np.flatnonzero(row), default=-1) + 1 for row in users]).all()


def test_fewer_than_k_left_are_padded() -> None:
    got = top_k(lambda rows: np.zeros((len(rows), 4), np.float32), np.arange(3), 4, 6, seen=[GRID])
    assert got.tolist() == [[1, 3, -1, -1, -1, -1], [0, 1, 2, -1, -1, -1], [0, 2, 3, -1, -1, -1]]


def test_threads_and_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = split(synthetic(700, 500, 9000), "random:50/25/25")
    rng = np.random.default_rng(0)
    users = rng.standard_normal((700, 16)).astype(np.float32)
    items = rng.standard_normal((500, 16)).astype(np.float32)
    seen = (parts.train, parts.validation)
    results = [evaluate_vectors(users, items, seen, parts.test, threads=threads) for threads in (1, 2, 5, None)]
    for scores_at_once in (1, 500 * 7, 500 * 100):
        monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", scores_at_once)
        results.append(evaluate_vectors(users, items, seen, parts.test))
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)  # as if it were not installed
    results.append(evaluate_vectors(users, items, seen, parts.test))
    assert all(result == results[0] for result in results)
