"""EASE: its closed form, the smaller of two Gram matrices, and its nearest neighbours."""

from __future__ import annotations

import numpy as np

from bench.experiments.item_item import ease_weights, item_item_row, nearest
from edgerec.data import Interactions, split, synthetic


def test_weights_are_the_ridge_regression_without_an_items_own_column() -> None:
    for n_users, n_items in ((60, 20), (20, 60)):
        data = synthetic(n_users=n_users, n_items=n_items, n=400, seed=1)
        matrix, found = data.matrix().toarray().astype(np.float64), ease_weights(data, 10.0)
        for item in (0, 7):
            others = np.delete(np.arange(n_items), item)
            rest = matrix[:, others]
            exact = np.linalg.solve(rest.T @ rest + 10 * np.eye(n_items - 1), rest.T @ matrix[:, item])
            assert np.allclose(found[others, item], exact, atol=1e-5)
            assert found[item, item] == 0


def test_nearest_are_the_largest_weights_of_a_row_in_steps_of_one_byte() -> None:
    weights = np.array([[0.0, 0.5, 0.25, 0.1], [0.3, 0.0, -0.2, 0.9]], np.float32)
    found = nearest(weights, 2)
    assert np.array_equal(found != 0, [[False, True, True, False], [True, False, False, True]])
    assert np.allclose(found[found != 0], [0.5, 0.25, 0.3, 0.9], atol=0.9 / 254)


def test_two_groups_of_items_are_recommended_to_their_users() -> None:
    """Every user has eight of the ten items of a group: full rows and few neighbours find the others."""
    rng, pairs = np.random.default_rng(0), []
    for user in range(40):
        first = 10 * (user % 2)
        pairs += [(user, first + item) for item in rng.permutation(10)[:8]]
    users, items = np.array(pairs).T
    parts = split(Interactions.from_rows(np.arange(40), users, np.arange(20), items), "random:80/20")
    full, few = item_item_row(parts, None), item_item_row(parts, 15.0)
    assert (full["bytes"], few["bytes"]) == (20 * 80, 20 * 16)
    assert full["recall@20"] == 1
    assert few["ndcg@20"] > 0.3
