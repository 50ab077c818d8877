"""Rows move from segment to segment: the first min(old, new) values stay, and nothing else is kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.data import Interactions
from edgerec.methods.stream.warm_start import NOISE, CarriedTable, Carry
from edgerec.models import SizePlan

D = 12


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_a_row_keeps_its_first_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(1000, 40, replace=False))
    known = np.sort(rng.choice(40, 25, replace=False))  # the others are new
    old, new = rng.integers(1, D + 1, 25), rng.integers(1, D + 1, 40)
    rows = rng.standard_normal((25, D)).astype(np.float32)
    moved = CarriedTable.of(ids[known], rows, old).moved(ids, new, D, rng)
    assert moved.shape == (40, D)
    for row, size in enumerate(new):
        assert not moved[row, size:].any()
        at = np.flatnonzero(known == row)
        kept = min(int(old[at[0]]), int(size)) if at.size else 0
        if at.size:
            assert np.array_equal(moved[row, :kept], rows[at[0], :kept])
        fresh = moved[row, kept:size]
        assert np.abs(fresh).max(initial=0) < 6 * NOISE
        assert (fresh != 0).all()


def test_what_has_another_size_or_is_new_is_told() -> None:
    side = CarriedTable.of(np.array([2, 5, 9]), np.ones((3, D), np.float32), np.array([3, 4, 5]))
    told = side.resized(np.array([1, 2, 5, 9]), np.array([1, 3, 2, 7]))
    assert told.tolist() == [True, False, True, True]


def test_a_carry_is_stored_within_its_sizes_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    known = Interactions.from_pairs(np.repeat(np.arange(6), 2), np.tile(np.arange(4), 3))
    plan = SizePlan(D, rng.integers(1, D, 6), rng.integers(1, D, 4))
    assert plan.users is not None
    assert plan.items is not None
    users, items = (rng.standard_normal((n, D)).astype(np.float32) for n in known.shape)
    carry = Carry.of(known, plan, users, items)
    stored = carry.state()
    assert stored["users.values"].size + stored["items.values"].size == plan.users.sum() + plan.items.sum()
    again = Carry.from_state(stored)
    assert np.array_equal(again.users.ids, known.user_ids)
    for one, other in ((carry.users, again.users), (carry.items, again.items)):
        assert np.array_equal(one.table.dense(), other.table.dense())
    assert np.array_equal(carry.means(), again.means())
