"""Pruning: known matrices with known answers, and bounds that hold for any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgerec.errors import BudgetError
from edgerec.methods.magnitude import best_protection, largest, prune

# Few distinct values, so that ties and zeros are common.
matrices = npst.arrays(
    np.float32, npst.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([-3, -2, -1, 0, 1, 2])
)

KNOWN = np.array([[9, -8, 7, 1], [6, -5, 0, 0.5], [0.1, 0.2, -0.3, 0]], np.float32)


@pytest.mark.parametrize(
    ("n_values", "protected", "kept"),
    [
        (0, 0, []),
        (3, 0, [(0, 0), (0, 1), (0, 2)]),
        (5, 0, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]),
        (3, 1, [(0, 0), (1, 0), (2, 2)]),
        (5, 1, [(0, 0), (0, 1), (0, 2), (1, 0), (2, 2)]),
        (6, 2, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 2)]),
        (99, 1, list(zip(*np.nonzero(KNOWN), strict=True))),
    ],
)
def test_the_largest_stay_after_each_rows_own(n_values: int, protected: int, kept: list[tuple[int, int]]) -> None:
    expected = np.zeros_like(KNOWN)
    for place in kept:
        expected[place] = KNOWN[place]
    assert np.array_equal(prune(KNOWN, n_values, protected), expected)


def test_of_equals_the_first_stays() -> None:
    ones = np.ones((3, 3), np.float32)
    ones[0, 0] = -1
    assert np.argwhere(prune(ones, 4, 0)).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]
    assert np.argwhere(prune(ones, 4, 1)).tolist() == [[0, 0], [0, 1], [1, 0], [2, 0]]


@given(matrices, st.data())
@settings(max_examples=300, deadline=None)
def test_the_budget_holds_and_every_row_keeps_its_own(matrix: np.ndarray, data: st.DataObject) -> None:
    n_values = data.draw(st.integers(0, matrix.size + 3))
    protected = data.draw(st.integers(0, min(n_values // len(matrix), matrix.shape[1])))
    pruned = prune(matrix, n_values, protected)
    kept = pruned != 0
    assert kept.sum() == min(n_values, np.count_nonzero(matrix))
    assert np.array_equal(pruned[kept], matrix[kept])
    assert (kept.sum(axis=1) >= np.minimum(protected, np.count_nonzero(matrix, axis=1))).all()
    # What was dropped is not larger than what its row kept, nor than what any row kept above its protection.
    sizes, dropped = np.abs(matrix), (matrix != 0) & ~kept
    for row in np.flatnonzero(dropped.any(axis=1) & kept.any(axis=1)):
        assert sizes[row][dropped[row]].max() <= sizes[row][kept[row]].min()
    free = kept & ~largest(sizes, protected)
    if free.any() and dropped.any():
        assert sizes[dropped].max() <= sizes[free].min()


@given(matrices, st.data())
@settings(max_examples=200, deadline=None)
def test_largest_is_the_head_of_a_stable_sort(values: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, values.shape[1]))
    expected = np.zeros(values.shape, bool)
    np.put_along_axis(expected, np.argsort(-values, axis=1, kind="stable")[:, :count], True, axis=1)
    assert np.array_equal(largest(values, count), expected)


def test_more_protection_than_the_budget_is_refused() -> None:
    with pytest.raises(BudgetError, match="at most 1"):
        prune(KNOWN, 5, 2)


@given(st.integers(0, 20), st.lists(st.integers(1, 9), max_size=40), st.lists(st.integers(1, 9), max_size=40))
@settings(max_examples=300, deadline=None)
def test_the_search_finds_a_peak_behind_a_level_start(level: int, up: list[int], down: list[int]) -> None:
    scores = np.cumsum([0] * (level + 1) + up + [-step for step in down])
    asked: list[int] = []

    def score(k: int) -> float:
        asked.append(k)
        return float(scores[k])

    best = best_protection(score, len(scores) - 1)
    assert scores[best] == scores.max()
    assert len(asked) == len(set(asked)) <= 5 * np.log(len(scores)) + 3


def test_the_search_takes_the_least_of_a_few_equals() -> None:
    assert best_protection(lambda k: 1.0, 0) == 0
    assert best_protection(lambda k: 1.0, 2) == 0
    assert best_protection(lambda k: float(k == 3), 3) == 3
