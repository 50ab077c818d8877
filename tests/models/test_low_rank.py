"""The truncated singular value decomposition next to NumPy's of the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from edgerec.models.low_rank import truncated_svd


def _matrix(n: int, m: int, rank: int, smallest: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((side, rank)))[0] for side in (n, m))
    return (left * np.geomspace(100, 100 * smallest, rank)) @ right.T


@pytest.mark.parametrize(
    ("n", "m", "rank", "d", "smallest"),
    [
        (300, 120, 5, 20, 0.1),
        (50, 200, 50, 64, 1e-2),
        (200, 90, 90, 80, 0.01),
        (6, 4, 4, 10, 0.5),
        (400, 300, 30, 8, 1e-2),
    ],
)
def test_values_and_vectors_are_the_exact_ones(n: int, m: int, rank: int, d: int, smallest: float) -> None:
    """With values that fall slowly or fast, and with fewer or more dimensions than the rank."""
    whole = _matrix(n, m, rank, smallest)
    u, s, v = truncated_svd(scipy.sparse.csr_array(whole.astype(np.float32)), d, np.random.default_rng(1))
    exact = np.linalg.svd(whole, compute_uv=False)
    k = min(d, rank)
    np.testing.assert_allclose(s[:k], exact[:k], rtol=1e-4)
    assert not s[k:].any()
    assert not v[:, k:].any()
    np.testing.assert_allclose(v[:, :k].T @ v[:, :k], np.eye(k), atol=1e-5)
    lost, rounding = np.linalg.norm(whole - u * s @ v.T), 1e-4 * np.linalg.norm(whole)
    assert lost == pytest.approx(np.linalg.norm(exact[k:]), rel=1e-3, abs=rounding)


def test_a_matrix_of_zeros_has_none() -> None:
    u, s, v = truncated_svd(scipy.sparse.csr_array((30, 20), dtype=np.float32), 5, np.random.default_rng(0))
    assert (u.shape, s.shape, v.shape) == ((30, 5), (5,), (20, 5))
    assert not any(part.any() for part in (u, s, v))
