"""The SVD against numpy's full one."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.models import SharingTrainer, SizePlan
from edgerec.models.low_rank import krylov, scaled_matrix, truncated_svd
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


@pytest.mark.parametrize(("c", "power"), [(0.0, 0.0), (-0.2, 0.5)])
def test_scores_equal_the_projection_of_the_formula(random_data: Interactions, c: float, power: float) -> None:
    a, b, d = 0.3, 0.6, 50  # all dimensions: the random projection leaves no error
    trainer = SVD().trainer(random_data, SizePlan(d), SVDConfig(a=a, b=b, c=c, power=power), seed=0)
    assert trainer.epoch()["energy"] == pytest.approx(1, abs=1e-4)
    vectors = trainer.vectors()
    R = random_data.matrix().toarray().astype(np.float64)
    _, s, vt = np.linalg.svd(scaled_matrix(random_data, a, b).toarray().astype(np.float64))
    degrees, weights = R.sum(axis=0), (s[:d] / s[0]) ** power
    expected = (R * degrees**-b) @ vt[:d].T @ (weights[:, None] * vt[:d]) * degrees ** (b + c)
    np.testing.assert_allclose(vectors.users @ vectors.items.T, expected, atol=1e-3)


def test_few_steps_are_those_of_a_shorter_decomposition(random_data: Interactions) -> None:
    """And all that are there are exact."""
    found = krylov(scaled_matrix(random_data, 0.4, 0.4), 5, np.random.default_rng(0))
    few, all_of_them = (found.right_vectors(5, steps)[0] for steps in (1, 16))
    exact = np.linalg.svd(scaled_matrix(random_data, 0.4, 0.4).toarray(), compute_uv=False)[:5]
    np.testing.assert_allclose(all_of_them, exact, rtol=1e-4)
    assert (few < exact * (1 + 1e-6)).all()
    assert few.sum() < 0.95 * exact.sum()


@pytest.mark.parametrize("grown", [False, True])
def test_a_trainer_with_shared_decompositions_is_one_without(random_data: Interactions, grown: bool) -> None:
    """Also where the final training knows more interactions than they do."""
    part = random_data.select(np.arange(len(random_data)) % 10 > 0) if grown else random_data
    config = SVDConfig(a=0.2, b=0.3, c=0.1, power=0.5)
    cold, warm = (SVD().trainer(random_data, SizePlan(5), config, seed=0) for _ in range(2))
    assert isinstance(warm, SharingTrainer)
    warm.begin(lambda: SVD().shared_start(part, 5, SVDConfig(), 0))
    assert warm.epoch()["energy"] == pytest.approx(cold.epoch()["energy"], rel=1e-3)
    one, two = (trainer.vectors() for trainer in (cold, warm))
    np.testing.assert_allclose(one.users @ one.items.T, two.users @ two.items.T, atol=0.05)


def test_decompositions_do_not_depend_on_the_order(random_data: Interactions) -> None:
    """So that a search that was stopped resumes to the same bits."""
    orders = [[(0.4, 0.4), (0.2, 0.3), (0.0, 0.5), (0.4, 0.5), (0.2, 0.3)], [(0.2, 0.3)]]
    shared = [SVD().shared_start(random_data, 5, SVDConfig(), 0) for _ in orders]
    one, two = (
        [start.of(random_data, *pair, 12)[1] for pair in order][-1] for start, order in zip(shared, orders, strict=True)
    )
    assert one.tobytes() == two.tobytes()


def test_users_are_the_weighted_sum_of_the_cut_rows(random_data: Interactions, uneven: SizePlan) -> None:
    trainer = SVD().trainer(random_data, SizePlan(12, None, uneven.items), SVDConfig(b=0.4, c=0.1), seed=0)
    trainer.epoch()
    vectors = trainer.vectors()
    assert vectors.encoder is not None
    degrees = random_data.item_counts()
    np.testing.assert_allclose(vectors.encoder.weights, degrees**-0.9, rtol=1e-5)
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
