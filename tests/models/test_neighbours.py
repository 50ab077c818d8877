"""Neighbours by regression: EASE's weights where all items are candidates, planted groups, pairs in rows with room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from edgerec import item_neighbours
from edgerec.data import Interactions, synthetic
from edgerec.errors import SettingError
from edgerec.models.neighbours import REGS, ItemRegression
from edgerec.runtime import Recommender
from edgerec_export import export, from_neighbours

GROUP = 5


@pytest.fixture(scope="module")
def data() -> Interactions:
    return synthetic(n_users=80, n_items=30, n=900, seed=0)


def ease(data: Interactions, reg: float) -> np.ndarray:
    """EASE's precisions, from the inverse of the whole Gram matrix."""
    matrix = data.matrix().toarray().astype(np.float64)
    return np.linalg.inv(matrix.T @ matrix + reg * np.eye(data.n_items))


def test_with_all_items_as_candidates_the_weights_are_those_of_ease(data: Interactions) -> None:
    precisions = ease(data, 20.0)
    correlations = -precisions / np.sqrt(np.outer(np.diag(precisions), np.diag(precisions)))
    found = item_neighbours(data, data.n_items - 1, reg=20.0)
    of_pairs = np.zeros_like(correlations)
    rows, at = np.nonzero(found.neighbours >= 0)
    others = found.neighbours[rows, at]
    assert not (of_pairs[others, rows] + of_pairs[rows, others]).any()
    of_pairs[rows, others] = found.weights[rows, at]
    np.testing.assert_allclose(of_pairs + of_pairs.T, np.maximum(correlations, 0) * (1 - np.eye(30)), atol=1e-6)
    np.testing.assert_allclose(found.of_history**2, np.diag(precisions), rtol=1e-5)
    assert len({frozenset(pair) for pair in zip(rows.tolist(), others.tolist(), strict=True)}) == len(rows)
    # A score of EASE: h B with B[i, j] = -P[i, j] / P[j, j], but for the pairs of negative weight.
    wanted = (correlations > 0) * -precisions / np.diag(precisions)
    np.testing.assert_allclose(found.scores(data.matrix()), data.matrix() @ wanted, atol=1e-5)


def test_the_neighbours_of_an_item_are_those_of_its_group() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(12, size=400)
    items = np.concatenate([group * GROUP + rng.choice(GROUP, 3, replace=False) for group in groups])
    data = Interactions.from_pairs(np.repeat(np.arange(400), 3), items)
    found = item_neighbours(data, 2)
    assert found.reg in REGS
    group, (rows, at) = data.item_ids // GROUP, np.nonzero(found.neighbours >= 0)
    assert len(rows) > 1.8 * data.n_items  # of 2; the last pairs have no room in either row
    assert (group[found.neighbours[rows, at]] == group[rows]).all()


def test_the_largest_pairs_are_in_rows_with_room(data: Interactions) -> None:
    regression = ItemRegression(data, 29)
    whole, few = (regression.neighbours(k, 20.0) for k in (29, 2))
    assert (few.neighbours >= 0).sum() == 2 * data.n_items
    largest = np.sort(whole.weights.ravel())[-20:]
    np.testing.assert_array_equal(np.sort(few.weights.ravel())[-20:], largest)


def test_a_bundle_answers_with_them(data: Interactions, tmp_path: Path) -> None:
    found = item_neighbours(data, 4, reg=20.0)
    source = from_neighbours(found.neighbours, found.weights, of_history=found.of_history, of_answer=found.of_answer)
    bundle = export(source, tmp_path / "b.bundle", users=False, layout="ell").folder
    rows, at = np.nonzero(found.neighbours >= 0)
    own = scipy.sparse.csr_array((found.weights[rows, at], (rows, found.neighbours[rows, at])), shape=(30, 30))
    table = np.eye(30) + own.toarray()
    history = [3, 8]
    scores = (found.of_history[history] @ (table @ table.T)[history]) * found.of_answer
    scores[history] = -np.inf
    with Recommender.load(bundle) as model:
        answered = model.recommend(history=history, k=5)
    assert [one.item for one in answered] == np.argsort(-scores)[:5].tolist()
    assert [one.score for one in answered] == pytest.approx(np.sort(scores)[:-6:-1].tolist(), rel=1e-4)


def test_items_without_users_have_no_neighbours() -> None:
    rows = np.array([0, 1, 0, 1], np.int32)
    data = Interactions(np.arange(2), np.arange(4), np.array([0, 2, 4]), rows)
    found = item_neighbours(data, 3, reg=1.0)
    assert (found.neighbours[2:] == -1).all()
    assert sorted(found.neighbours[:2].max(axis=1).tolist()) in ([-1, 0], [-1, 1])


@pytest.mark.parametrize("how", [{"k": 0}, {"k": 60}, {"k": 3, "reg": 0.0}, {"k": 3, "candidates": 2}])
def test_values_out_of_range_are_refused(data: Interactions, how: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="must be in"):
        item_neighbours(data, **how)  # type: ignore[arg-type]
