"""What a search has visited, and what of it is kept: smoothed sizes follow popularity and forget single rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerec.methods.ciess.visits import smoothed


@pytest.mark.parametrize("power", [-0.4, 0.0, 0.5])
def test_what_single_rows_have_is_forgotten(power: float) -> None:
    """Noise a row of half its size leaves a twentieth; what follows popularity stays."""
    rng = np.random.default_rng(3)
    counts = np.floor(5 * (1 - rng.random(6000)) ** -0.8).astype(np.int64)
    meant = 20 * (counts / 10.0) ** power
    noise = rng.normal(0, 0.5, counts.size)
    found = np.log(smoothed(meant * np.exp(noise), counts) / meant)
    assert np.median(np.abs(found)) < 0.025
    assert np.quantile(np.abs(found), 0.95) < 0.1
    assert abs(np.corrcoef(found, noise)[0, 1]) < 0.1


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 128)), min_size=1, max_size=80),
)
def test_rows_as_popular_are_as_large(rows: list[tuple[int, int]]) -> None:
    counts, sizes = (np.array(side, np.int64) for side in zip(*rows, strict=True))
    found = smoothed(sizes, counts)
    assert found.min() >= sizes.min() * (1 - 1e-9)
    assert found.max() <= sizes.max() * (1 + 1e-9)
    for count in np.unique(counts):
        assert np.ptp(found[counts == count]) == 0
    assert np.allclose(smoothed(np.full(sizes.size, 7), counts), 7)
