"""The walk: its distribution is known by construction, and it stays in bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.errors import SettingError
from edgerec.methods.ciess.agent import Walk, nearest_size


def share(d_max: int, at: int, n: int = 200_000) -> np.ndarray:
    """(d_max + 1,) how often one step leads to each size."""
    ends = Walk(d_max).step(np.full(n, at), np.random.default_rng(0))
    return np.bincount(ends, minlength=d_max + 1) / n


def test_a_step_is_as_likely_as_it_is_near() -> None:
    """1 / distance over the ten neighbours, 4.567 in all."""
    found = share(128, 64)
    total = 2 * sum(1 / s for s in range(1, 6))
    assert total == pytest.approx(4.567, abs=1e-3)
    for s in range(1, 6):
        assert found[64 - s] == pytest.approx(1 / s / total, abs=4e-3)
        assert found[64 + s] == pytest.approx(1 / s / total, abs=4e-3)
    assert found[:59].sum() == found[70:].sum() == found[64] == 0


def test_at_the_ends_only_what_is_there_is_drawn() -> None:
    total = sum(1 / s for s in range(1, 6))
    for at, ends in ((1, range(2, 7)), (128, range(127, 122, -1))):
        found = share(128, at)
        for s, end in enumerate(ends, 1):
            assert found[end] == pytest.approx(1 / s / total, abs=4e-3)
    # 1/2 to size 1, 1/1 to sizes 2 and 4, all of 3's neighbours on a walk over four sizes
    assert share(4, 3)[[1, 2, 3, 4]] == pytest.approx([0.2, 0.4, 0.0, 0.4], abs=4e-3)


@settings(max_examples=60, deadline=None)
@given(
    d_max=st.integers(1, 200),
    reach=st.integers(1, 12),
    steps=st.integers(0, 8),
    n=st.integers(1, 50),
    seed=st.integers(0),
)
def test_it_stays_in_bounds_and_moves_at_every_step(d_max: int, reach: int, steps: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(1, d_max, n, endpoint=True)
    visited = Walk(d_max, reach).visited(start, steps, rng)
    assert visited.shape == (n, steps + 1)
    assert np.array_equal(visited[:, 0], start)
    assert visited.min() >= 1
    assert visited.max() <= d_max
    moved = np.abs(np.diff(visited, axis=1))
    assert (moved <= reach).all()
    assert (moved == 0).all() if d_max == 1 else (moved > 0).all()


def test_rows_walk_on_their_own_and_alike_for_a_seed() -> None:
    walk, start = Walk(64), np.full(1000, 30)
    one, other = (walk.visited(start, 5, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(one, other)
    assert np.unique(one[:, 5]).size > 20


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 128))
def test_the_nearest_size_is_a_size(actions: list[float], d_max: int) -> None:
    sizes = nearest_size(np.array(actions), d_max)
    assert sizes.min() >= 1
    assert sizes.max() <= d_max
    inside = [(a, s) for a, s in zip(actions, sizes, strict=True) if 1 <= a <= d_max]
    assert all(abs(a - s) <= 0.5 for a, s in inside)


def test_no_sizes_and_no_reach_are_refused() -> None:
    with pytest.raises(SettingError):
        Walk(0)
    with pytest.raises(SettingError):
        Walk(10, reach=0)
