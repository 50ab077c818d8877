"""Sizes keep a budget exactly, whatever is asked of them, in both forms of a budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.budget import MOST_WIDTHS, Budget, SizeBudget
from edgerec.data import Interactions
from edgerec.errors import BudgetError
from edgerec.methods.rules import plan_by_weight
from edgerec.methods.stream.policy import size_budget, values_of
from edgerec.methods.stream.scall import SHAPES, power_law


def square(n: int) -> Interactions:
    return Interactions.from_pairs(np.arange(n), np.arange(n))


@st.composite
def budgets(draw: st.DrawFn) -> SizeBudget:
    n_users, n_items, d = draw(st.integers(1, 300)), draw(st.integers(1, 300)), draw(st.integers(1, 64))
    return SizeBudget(n_users, n_items, draw(st.integers(n_users + n_items, (n_users + n_items) * d)), d)


shapes = st.floats(*SHAPES)


@settings(deadline=None)
@given(budgets(), st.floats(0, 1), shapes, shapes)
def test_a_plan_spends_the_budget_exactly(budget: SizeBudget, share: float, users: float, items: float) -> None:
    plan = plan_by_weight(budget, power_law(budget.n_users, users), power_law(budget.n_items, items), share)
    assert values_of(plan) == budget.total
    for sizes in (plan.users, plan.items):
        assert sizes is not None
        assert sizes.min() >= 1
        assert sizes.max() <= budget.d
        assert (np.diff(sizes) <= 0).all()  # weights descend


@settings(deadline=None, max_examples=25)
@given(budgets(), st.floats(0, 1), shapes, shapes)
def test_a_bundle_in_bytes_has_few_sizes_within_the_budget(
    budget: SizeBudget, share: float, users: float, items: float
) -> None:
    budget = SizeBudget(budget.n_users, budget.n_items, budget.total, budget.d, MOST_WIDTHS, MOST_WIDTHS)
    plan = plan_by_weight(budget, power_law(budget.n_users, users), power_law(budget.n_items, items), share)
    assert values_of(plan) <= budget.total
    for sizes in (plan.users, plan.items):
        assert sizes is not None
        assert np.unique(sizes).size <= MOST_WIDTHS


@pytest.mark.parametrize("budget", ["25%", "4B/row"])
def test_a_mean_size_stays_while_rows_come(budget: str) -> None:
    budgets = [size_budget(Budget.parse(budget), square(n), 16, bytes_per_value=1.0) for n in (100, 1000)]
    assert budgets[0].mean == pytest.approx(budgets[1].mean, rel=0.01)
    assert budgets[1].total == pytest.approx(10 * budgets[0].total, rel=0.01)


@pytest.mark.parametrize("budget", ["4000", "64KiB"])
def test_a_total_stays_while_rows_come(budget: str) -> None:
    budgets = [size_budget(Budget.parse(budget), square(n), 64) for n in (400, 800)]
    assert budgets[0].total >= budgets[1].total  # ids of a bundle take their part
    assert budgets[0].total < budgets[1].total * 1.2
    assert budgets[1].mean < budgets[0].mean * 0.51


def test_a_total_without_one_value_a_row_is_refused_with_the_least_that_would_do() -> None:
    with pytest.raises(BudgetError, match="the smallest budget is 2000"):
        size_budget(Budget.parse("1500"), square(1000), 16)
