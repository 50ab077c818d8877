"""What the agent sees is of one length; its action sizes rows that nobody has seen before."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.budget import Budget
from edgerec.data import Stream
from edgerec.methods.stream.policy import SegmentContext, size_budget, values_of
from edgerec.methods.stream.scall import SizeAction, length, observed, pooled, power_law
from tests.methods.stream.conftest import STAR, D, Follow


def segment_context(stream: Stream, number: int, budget: str = "25%") -> SegmentContext:
    segment = stream.segment(number)
    return SegmentContext(segment, size_budget(Budget.parse(budget), segment.known, D), None)


@pytest.mark.parametrize("groups", [4, 256])
def test_the_state_is_of_one_length_whatever_the_rows(rise_and_fall: Stream, follow: Follow, groups: int) -> None:
    seen, rows = [], set()
    for now, plan in follow("popularity", until=3):
        seen.append(observed(now, 1.0, plan, groups=groups, counts="segment"))
        rows.add((now.budget.n_users, now.budget.n_items))
    assert len(rows) == 4
    assert {state.shape for state in seen} == {(length(D, groups),)}
    assert all(np.isfinite(state).all() for state in seen)
    assert all((state[: 2 * groups] >= 0).all() and (state[: 2 * groups] <= 1 + 1e-6).all() for state in seen)


def test_pooled_frequencies_are_means_of_equal_parts() -> None:
    assert pooled(np.array([1, 9, 5, 7]), 2) == pytest.approx([(1 + 0.75) / 2, (0.5 + 0) / 2])
    assert pooled(np.array([1, 9, 5, 7]), 8) == pytest.approx([1, 1, 0.75, 0.75, 0.5, 0.5, 0, 0])
    assert pooled(np.array([3, 3, 3]), 5) == pytest.approx(np.zeros(5))


def test_the_power_law_is_what_sorted_samples_come_to() -> None:
    rng = np.random.default_rng(0)
    for shape in (0.5, 3.0):
        drawn = np.sort(rng.power(shape, (1000, 1000)), axis=1)[:, ::-1].mean(0)
        assert power_law(1000, shape) == pytest.approx(drawn, abs=0.012)


def test_an_action_in_the_middle_is_in_the_middle_of_the_logarithms() -> None:
    assert SizeAction.of(np.array([0.2, 0, 1])) == SizeAction(0.2, 0.1, 30.0)
    assert SizeAction.of(np.full(3, 0.5)).users == pytest.approx(np.sqrt(0.1 * 30))
    assert SizeAction.of(np.full(3, 0.5), log=False).users == pytest.approx(15.05)


@pytest.mark.parametrize("budget", ["25%", "600"])
def test_rows_never_seen_are_sized_by_their_rank(rise_and_fall: Stream, budget: str) -> None:
    action = SizeAction(0.6, 0.4, 0.4)
    for number in range(1, len(rise_and_fall)):
        now = segment_context(rise_and_fall, number, budget)
        plan = action.plan(now)
        assert values_of(plan) == now.budget.total
        sides = ((plan.users, now.segment.train.user_counts(), now.segment.new_users),)
        sides += ((plan.items, now.segment.train.item_counts(), now.segment.new_items),)
        for sizes, counts, new in sides:
            assert sizes is not None
            assert new.size > 0
            order = np.lexsort((-sizes, -counts))
            assert (np.diff(sizes[order]) <= 0).all()  # the more frequent, the larger; known or not
            away = np.flatnonzero(counts == 0)
            assert away.size > 0
            busiest = counts[new].max()
            assert sizes[new].max() >= sizes[away].max()
            if busiest == counts.max():
                assert sizes[new].max() > 1


@pytest.mark.parametrize("budget", ["25%", "450"])
def test_a_star_grows_and_shrinks_within_the_budget(rise_and_fall: Stream, budget: str) -> None:
    """Section 4.5's acceptance: one action, and the frequencies of each segment."""
    sizes = []
    for number in range(len(rise_and_fall)):
        now = segment_context(rise_and_fall, number, budget)
        plan = SizeAction(0.6, 1.0, 0.5).plan(now)
        assert values_of(plan) == now.budget.total
        assert plan.items is not None
        sizes.append(int(plan.items[np.searchsorted(now.segment.known.item_ids, STAR)]))
    assert min(sizes[2:7]) > max(sizes[:2] + sizes[7:])


def test_scenes_rank_by_the_segment_or_by_all(rise_and_fall: Stream) -> None:
    last = segment_context(rise_and_fall, len(rise_and_fall) - 1)
    star = int(np.searchsorted(last.segment.known.item_ids, STAR))
    now, ever = (last.ranked(by)[1].tolist().index(star) for by in ("segment", "all"))
    assert ever < now  # it was popular once
