"""Sizes keep a budget exactly, whatever is asked of them, in both forms of a budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.budget import Budget
from edgerec.data import Interactions
from edgerec.errors import BudgetError
from edgerec.methods.stream.observation import SHAPES, power_law
from edgerec.methods.stream.room import WIDTHS, Room, values_of


def square(n: int) -> Interactions:
    return Interactions.from_pairs(np.arange(n), np.arange(n))


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    n_users, n_items, d = draw(st.integers(1, 300)), draw(st.integers(1, 300)), draw(st.integers(1, 64))
    return Room(n_users, n_items, draw(st.integers(n_users + n_items, (n_users + n_items) * d)), d)


shapes = st.floats(*SHAPES)


@settings(deadline=None)
@given(rooms(), st.floats(0, 1), shapes, shapes)
def test_a_plan_spends_the_room_exactly(room: Room, share: float, users: float, items: float) -> None:
    plan = room.plan(power_law(room.n_users, users), power_law(room.n_items, items), share)
    assert values_of(plan) == room.total
    for sizes in (plan.users, plan.items):
        assert sizes is not None
        assert sizes.min() >= 1
        assert sizes.max() <= room.d
        assert (np.diff(sizes) <= 0).all()  # weights descend


@settings(deadline=None, max_examples=25)
@given(rooms(), st.floats(0, 1), shapes, shapes)
def test_a_bundle_in_bytes_has_few_sizes_within_the_room(room: Room, share: float, users: float, items: float) -> None:
    room = Room(room.n_users, room.n_items, room.total, room.d, WIDTHS)
    plan = room.plan(power_law(room.n_users, users), power_law(room.n_items, items), share)
    assert values_of(plan) <= room.total
    for sizes in (plan.users, plan.items):
        assert sizes is not None
        assert np.unique(sizes).size <= WIDTHS


@pytest.mark.parametrize("budget", ["25%", "4B/row"])
def test_a_mean_size_stays_while_rows_come(budget: str) -> None:
    rooms = [Room.of(Budget.parse(budget), square(n), 16, bytes_per_value=1.0) for n in (100, 1000)]
    assert rooms[0].mean == pytest.approx(rooms[1].mean, rel=0.01)
    assert rooms[1].total == pytest.approx(10 * rooms[0].total, rel=0.01)


@pytest.mark.parametrize("budget", ["4000", "64KiB"])
def test_a_total_stays_while_rows_come(budget: str) -> None:
    rooms = [Room.of(Budget.parse(budget), square(n), 64) for n in (400, 800)]
    assert rooms[0].total >= rooms[1].total  # ids of a bundle take their part
    assert rooms[0].total < rooms[1].total * 1.2
    assert rooms[1].mean < rooms[0].mean * 0.51


def test_a_total_without_one_value_a_row_is_refused_with_the_least_that_would_do() -> None:
    with pytest.raises(BudgetError, match="the smallest budget is 2000"):
        Room.of(Budget.parse("1500"), square(1000), 16)
