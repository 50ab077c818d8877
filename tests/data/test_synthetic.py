"""Made-up data: of the shape asked for, the same for a seed, and with something to learn."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.data import evaluate_vectors, split, synthetic
from edgerec.errors import DataError


def test_synthetic_keeps_its_word() -> None:
    got = synthetic(300, 200, 5000, seed=1)
    assert (got.shape, len(got)) == ((300, 200), 5000)
    assert got.user_counts().min() >= 1
    assert all((np.diff(got.items_of(user)) > 0).all() for user in range(300))
    assert got.titles is not None
    assert got.titles[17] == "Item 17"
    assert got.fingerprint() == synthetic(300, 200, 5000, seed=1).fingerprint()
    assert got.fingerprint() != synthetic(300, 200, 5000, seed=2).fingerprint()
    popular = np.sort(got.item_counts())[::-1]
    assert popular[:20].sum() > 4 * popular[-20:].sum()
    for impossible in ((0, 5, 5), (10, 10, 9), (10, 10, 51)):
        with pytest.raises(DataError, match="cannot be drawn"):
            synthetic(*impossible)


def test_a_planted_structure_is_learnt_by_an_svd() -> None:
    linalg = pytest.importorskip("scipy.sparse.linalg")
    parts = split(synthetic(), "random:80/20")
    train = parts.train_all
    left, strengths, right = linalg.svds(train.matrix(), k=16, v0=np.ones(min(train.shape)))
    svd = evaluate_vectors(left * strengths, right.T, train, parts.test)
    counts = train.item_counts()[:, None].astype(np.float32)
    popular = evaluate_vectors(np.ones((train.n_users, 1), np.float32), counts, train, parts.test)
    assert svd["recall@20"] > 1.5 * popular["recall@20"]
    assert svd["ndcg@20"] > 1.5 * popular["ndcg@20"]
    assert popular["popularity@20"] > svd["popularity@20"]
