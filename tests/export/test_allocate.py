"""Allocations of bytes, and the weights of errors: those by which the scores of users change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.tables import DenseTable
from edgerec_export import Source
from edgerec_export.allocate import ANSWERED, Allocator, allocator, item_importance, rotated, user_importance

N_ITEMS, N_USERS, D = 40, 30, 6
RNG = np.random.default_rng(0)
ITEMS, USERS = (RNG.standard_normal((n, D)) * np.geomspace(3, 0.3, D) for n in (N_ITEMS, N_USERS))
COUNTS = RNG.integers(0, 50, N_ITEMS)
ERRORS = RNG.standard_normal((N_ITEMS, D)) / 10
ALL = np.arange(N_ITEMS)


def source(**others: object) -> Source:
    tables = {"users": DenseTable(USERS), "user_ids": np.arange(N_USERS), "item_counts": COUNTS}
    return replace(Source(DenseTable(ITEMS), ALL, **tables), **others)  # type: ignore[arg-type]


def shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    found = np.maximum(counts, 1).astype(float) ** ANSWERED
    return np.asarray(found / found.sum())


def test_it_is_the_error_of_the_scores_of_all_users() -> None:
    changed = np.square(USERS @ ERRORS.T).mean(0) @ shares(COUNTS)
    assert item_importance(source()).score_error(ALL, ERRORS) == pytest.approx(changed)
    of_users = RNG.standard_normal((N_USERS, D))
    changed = (np.square(of_users @ ITEMS.T) @ shares(COUNTS)).mean()
    assert user_importance(source()).score_error(np.arange(N_USERS), of_users) == pytest.approx(changed)


def test_items_count_alike_if_nothing_is_known_of_them() -> None:
    changed = np.square(USERS @ ERRORS.T).mean()
    assert item_importance(source(item_counts=None)).score_error(ALL, ERRORS) == pytest.approx(changed)


@pytest.mark.parametrize("matrix", [None, RNG.standard_normal((D, D)).astype(np.float32)], ids=["plain", "matrix"])
def test_users_are_sums_of_what_histories_have(matrix: NDArray[np.float32] | None) -> None:
    """Users with one item each, as often as the item has interactions."""
    weights = RNG.uniform(0.1, 1, N_ITEMS).astype(np.float32)
    encoder = LinearEncoder(weights, matrix=matrix)
    users = ITEMS * weights[:, None] @ (np.eye(D) if matrix is None else matrix)
    share = np.maximum(COUNTS, 1) / np.maximum(COUNTS, 1).sum()
    changed = share @ np.square(users @ ERRORS.T) @ shares(COUNTS)
    found = item_importance(source(users=None, user_ids=None, encoder=encoder))
    weight = np.average(np.square(weights), weights=np.maximum(COUNTS, 1))  # shares are of interactions times weights
    assert found.score_error(ALL, ERRORS) * weight == pytest.approx(changed, rel=1e-5)


def test_the_least_squares_weigh_weak_dimensions_as_strong_ones() -> None:
    found = item_importance(source(users=None, user_ids=None, encoder=LeastSquaresEncoder(2.0, 1e-3))).gram
    strong = item_importance(
        source(users=None, user_ids=None, encoder=LinearEncoder(np.ones(N_ITEMS, np.float32)))
    ).gram
    assert np.linalg.cond(found) < 1.5 * np.linalg.cond(strong)
    assert np.diag(found)[0] / np.diag(found)[-1] < 1 < np.diag(strong)[0] / np.diag(strong)[-1]


def test_a_rotation_of_both_changes_nothing() -> None:
    axes = np.linalg.qr(RNG.standard_normal((D, D)))[0]
    plain, turned = item_importance(source()), item_importance(source()).turned(axes)
    assert turned.score_error(ALL, ERRORS @ axes) == pytest.approx(plain.score_error(ALL, ERRORS))
    assert plain.by_value(slice(2, 5)).shape == (3, D)


def test_a_dimension_that_both_rows_lack_counts_once() -> None:
    """In the basis of `rotated`, errors of dimensions are uncorrelated, and what is expected of floats is exact."""
    both = rotated(source(item_counts=None))
    assert both.users is not None
    items, users = both.items.dense(), both.users.dense()
    for width in (2, 4):
        found = Allocator(both, users=True).within(4 * width * (N_ITEMS + N_USERS), ("fp32",), width)
        lost = np.square(users @ items.T - users[:, :width] @ items[:, :width].T).mean()
        assert found.distortion == pytest.approx(lost, rel=1e-3)


@pytest.mark.parametrize("width", [None, 4])
def test_a_budget_is_used_whatever_was_asked_before(width: int | None) -> None:
    budgets = [250.0, 160.0, 280.0, 200.0, 170.0, 250.0]
    precisions = ("int8", "int4")
    shared = Allocator(source(), users=True)
    for nbytes in budgets:
        found = shared.within(nbytes, precisions, width)
        alone = Allocator(source(), users=True).within(nbytes, precisions, width)
        assert 0.9 * nbytes <= found.nbytes <= nbytes
        assert found.distortion == pytest.approx(alone.distortion, rel=0.05)
    assert shared.within(1e9, precisions).whole
    assert shared.within(0, precisions).nbytes == (N_ITEMS + N_USERS) / 2
    assert shared.smallest(precisions).items.sizes.max() == 1


@pytest.mark.parametrize("width", [None, 5])
def test_a_large_table_is_searched_from_a_sample(width: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    precisions = ("int8", "int4")
    for nbytes in (210.0, 240.0, 280.0):
        whole = Allocator(source(), users=True).within(nbytes, precisions, width)
        monkeypatch.setattr(allocator, "SAMPLE", 12)
        sampled = Allocator(source(), users=True)
        found = sampled.within(nbytes, precisions, width)
        monkeypatch.undo()
        assert 0.9 * nbytes <= found.nbytes <= nbytes
        assert found.distortion == pytest.approx(whole.distortion, rel=0.05)
        assert sampled.estimate(nbytes, precisions, width) == pytest.approx(whole.distortion, rel=0.5)
