"""The SVD against numpy's full one."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.models import SizePlan
from edgerec.models.low_rank import scaled_matrix, truncated_svd
from edgerec.models.svd import SVD, SVDConfig


def test_scaling_divides_by_powers_of_the_degrees(random_data: Interactions) -> None:
    R = random_data.matrix().toarray()
    expected = R * R.sum(axis=1, keepdims=True) ** -0.3 * R.sum(axis=0) ** -0.6
    np.testing.assert_allclose(scaled_matrix(random_data, 0.3, 0.6).toarray(), expected, rtol=1e-5)


def test_factors_equal_numpys_up_to_sign(random_data: Interactions) -> None:
    matrix = scaled_matrix(random_data, 0.5, 0.5)
    u, s, v = truncated_svd(matrix, 6, np.random.default_rng(0))
    full_u, full_s, full_vt = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(s, full_s[:6], rtol=1e-3)
    for mine, theirs in ((u[:, :3], full_u[:, :3]), (v[:, :3], full_vt[:3].T)):
        overlap = mine.T @ theirs
        np.testing.assert_allclose(np.abs(overlap), np.eye(3), atol=0.02)


def test_seeds_agree_in_sign(random_data: Interactions) -> None:
    matrix = scaled_matrix(random_data, 0.5, 0.5)
    one, two = (truncated_svd(matrix, 3, np.random.default_rng(seed))[2] for seed in (0, 1))
    np.testing.assert_allclose(one, two, atol=0.02)


def test_past_the_rank_factors_are_zero(random_data: Interactions) -> None:
    _, s, v = truncated_svd(scaled_matrix(random_data, 0, 0), 70, np.random.default_rng(0))
    assert s.shape == (70,)
    assert not s[50:].any()
    assert not v[:, 50:].any()


def test_scores_equal_the_projection_of_the_formula(random_data: Interactions) -> None:
    a, b, d = 0.3, 0.6, 50  # all dimensions: the random projection leaves no error
    trainer = SVD().trainer(random_data, SizePlan(d), SVDConfig(a=a, b=b), seed=0)
    assert trainer.epoch()["energy"] == pytest.approx(1, abs=1e-4)
    vectors = trainer.vectors()
    R = random_data.matrix().toarray().astype(np.float64)
    _, _, vt = np.linalg.svd(scaled_matrix(random_data, a, b).toarray().astype(np.float64))
    degrees = R.sum(axis=0)
    expected = (R * degrees**-b) @ vt[:d].T @ vt[:d] * degrees**b
    np.testing.assert_allclose(vectors.users @ vectors.items.T, expected, atol=1e-3)


def test_users_are_the_weighted_sum_of_the_cut_rows(random_data: Interactions, uneven: SizePlan) -> None:
    trainer = SVD().trainer(random_data, SizePlan(12, None, uneven.items), SVDConfig(b=0.4), seed=0)
    trainer.epoch()
    vectors = trainer.vectors()
    assert vectors.encoder is not None
    degrees = random_data.item_counts()
    np.testing.assert_allclose(vectors.encoder.weights, degrees**-0.8, rtol=1e-5)
    history = random_data.items_of(4)
    expected = vectors.encoder.weights[history] @ vectors.items[history]
    np.testing.assert_allclose(vectors.users[4], expected, rtol=1e-4, atol=1e-6)


def test_items_that_nobody_took_score_nothing(random_data: Interactions) -> None:
    without = random_data.select(random_data.indices != 3)
    trainer = SVD().trainer(without, SizePlan(5), SVDConfig(), seed=0)
    trainer.epoch()
    np.testing.assert_allclose(trainer.vectors().items[3], 0, atol=1e-5)


def test_sizes_for_users_are_refused(random_data: Interactions, uneven: SizePlan) -> None:
    with pytest.raises(UnsupportedError, match="no user table"):
        SVD().trainer(random_data, uneven, SVDConfig(), seed=0)
