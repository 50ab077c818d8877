"""EASE: its closed form, the smaller of two Gram matrices; and bundles of nearest neighbours."""

from __future__ import annotations

import numpy as np

from bench.experiments.item_item import full_row, nearest_row, precision_of, weights_of
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
    full, few = full_row(parts), nearest_row(parts, 20_000)
    assert full["bytes"] == 20 * 80
    assert few["bytes"] <= 20_000
    assert full["recall@20"] == few["recall@20"] == 1
