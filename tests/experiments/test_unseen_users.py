"""Users who are left out of training: their interactions are gone, and their bundle answers are measured."""

from __future__ import annotations

import numpy as np
import pytest

from bench.experiments.item_only import Training
from bench.experiments.unseen_users import figures_of, without
from edgerec.data import split, synthetic


def test_nothing_of_the_users_who_are_left_out_remains() -> None:
    data = synthetic(n_users=50, n_items=40, n=900, seed=2)
    parts, unseen = split(data, "random:80/20"), np.array([0, 3, 49])
    rest = without(parts, unseen)
    assert np.array_equal(rest.user_ids, np.delete(data.user_ids, unseen))
    assert np.array_equal(rest.item_ids, data.item_ids)
    assert np.array_equal(rest.matrix().toarray(), np.delete(data.matrix().toarray(), unseen, axis=0))
    again = split(rest, "published")
    assert np.array_equal(again.test.matrix().toarray(), np.delete(parts.test.matrix().toarray(), unseen, axis=0))


@pytest.mark.slow
def test_both_kinds_of_users_are_measured_on_bundles_of_the_same_bytes() -> None:
    data = synthetic(n_users=120, n_items=80, n=3000, seed=2)
    training = Training("random:80/20", 16, {"encoder": "least_squares", "alpha": 3.0, "reg": 5.0})
    found = figures_of(training, data, ["lae", "svd"], 4, 0)
    assert found["svd"]["bytes"] <= found["lae"]["bytes"]
    for figures in found.values():
        assert figures["seen users"] + figures["unseen users"] == 120
        assert figures["unseen users"] == 12
        assert 0 < figures["unseen ndcg@20"] < 1
