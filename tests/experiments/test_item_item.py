"""EASE: its closed form, the smaller of two Gram matrices; and bundles of nearest neighbours."""

from __future__ import annotations

import numpy as np

from bench.experiments.item_item import FULL, filters, full_row, nearest_row, precision_of, weights_of
from edgerec.data import Interactions, split, synthetic


def test_weights_are_the_ridge_regression_without_an_items_own_column() -> None:
    for n_users, n_items in ((60, 20), (20, 60)):
        data = synthetic(n_users=n_users, n_items=n_items, n=400, seed=1)
        matrix, found = data.matrix().toarray().astype(np.float64), weights_of(precision_of(data, 10.0))
        for item in (0, 7):
            others = np.delete(np.arange(n_items), item)
            rest = matrix[:, others]
            exact = np.linalg.solve(rest.T @ rest + 10 * np.eye(n_items - 1), rest.T @ matrix[:, item])
            assert np.allclose(found[others, item], exact, atol=1e-5)
            assert found[item, item] == 0


def test_two_groups_of_items_are_recommended_to_their_users() -> None:
    """Every user has eight of the ten items of a group: full rows and bundles of neighbours find the others."""
    rng, pairs = np.random.default_rng(0), []
    for user in range(40):
        first = 10 * (user % 2)
        pairs += [(user, first + item) for item in rng.permutation(10)[:8]]
    users, items = np.array(pairs).T
    parts = split(Interactions.from_rows(np.arange(40), users, np.arange(20), items), "random:80/20")
    few = nearest_row(parts, 20_000)
    assert few["bytes"] <= 20_000
    assert few["recall@20"] == 1
    for name in FULL:
        full = full_row(parts, name)
        assert full["bytes"] == 20 * 80
        assert full["recall@20"] == 1


def test_filters_are_those_of_the_singular_vectors() -> None:
    """With all of them V V' is the projection on the rows of R."""
    data = synthetic(n_users=60, n_items=20, n=400, seed=1)
    matrix, degrees = data.matrix().toarray().astype(np.float64), np.maximum(data.item_counts(), 1)
    scaled = matrix / np.sqrt(np.maximum(matrix.sum(1, keepdims=True), 1)) / np.sqrt(degrees)
    exact = scaled.T @ scaled + 0.3 * np.diag(degrees**-0.5) @ np.linalg.pinv(scaled) @ scaled @ np.diag(degrees**0.5)
    assert np.allclose(filters(data, 0.3), exact, atol=1e-4)
