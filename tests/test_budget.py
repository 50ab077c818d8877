"""Budgets are met exactly, or refused with the smallest that could be."""

from __future__ import annotations

import itertools
import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.budget import (
    Budget,
    bundle_overhead,
    merge_sizes,
    parse_bytes,
    project_sizes,
    snap_sizes,
    sparse_positions,
)
from edgerec.errors import BudgetError
from edgerec.tables import SparseTable


@st.composite
def projections(draw: st.DrawFn) -> tuple[np.ndarray, int, int, int]:
    """Weights over hundreds of orders of magnitude, bounds, and a total that they allow."""
    weights = draw(st.lists(st.floats(1e-200, 1e100), min_size=1, max_size=60))
    lo = draw(st.integers(0, 40))
    hi = draw(st.integers(lo, 130))
    total = draw(st.integers(len(weights) * lo, len(weights) * hi))
    return np.array(weights), total, lo, hi


@pytest.mark.slow
@given(projections())
@settings(max_examples=1000, deadline=None)
def test_sizes_sum_to_the_budget_within_bounds_and_in_order(case: tuple[np.ndarray, int, int, int]) -> None:
    weights, total, lo, hi = case
    sizes = project_sizes(weights, total, lo, hi)
    assert sizes.sum() == total
    assert sizes.min() >= lo
    assert sizes.max() <= hi
    order = np.argsort(weights)
    heavier = np.diff(weights[order]) > 0
    assert (np.diff(sizes[order])[heavier] >= 0).all()


def bisected(weights: np.ndarray, total: int, lo: int, hi: int) -> np.ndarray:
    """Sizes before the missing units are given out, by 200 bisections in log space."""
    weight = weights / weights.max()
    low, high = -1.0, np.log(max(hi, 1)) - np.log(weight.min()) + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(np.exp(middle) * weight, lo, hi).sum() > total:
            high = middle
        else:
            low = middle
    return np.clip(np.exp(low) * weight, lo, hi) if total > 0 else np.zeros(weights.size)


@given(projections())
@settings(max_examples=200, deadline=None)
def test_sizes_are_those_of_a_bisection_within_rounding(case: tuple[np.ndarray, int, int, int]) -> None:
    assert np.abs(project_sizes(*case) - bisected(*case)).max() < 1 + 1e-6


def test_sizes_of_many_rows_are_those_of_a_bisection() -> None:
    rng = np.random.default_rng(5)
    for weights in (rng.pareto(1, 3000) + 0.01, np.exp(rng.normal(0, 3, 3000)), rng.integers(1, 9, 3000) ** 4.0):
        for total in (3000, 9001, 50_000, 191_999):
            exact = bisected(weights, total, 1, 64)
            sizes, down = project_sizes(weights, total, 1, 64), np.floor(exact + 1e-9)
            assert (sizes >= down).all()
            assert (sizes <= down + 1).all()
            raised = (exact - down)[sizes > down]
            assert raised.size == 0 or raised.min() > (exact - down)[sizes == down].max(initial=0) - 1e-6


@pytest.mark.slow
@given(projections(), st.integers(1, 16))
@settings(max_examples=300, deadline=None)
def test_snapped_sizes_are_few_and_within_the_budget(case: tuple[np.ndarray, int, int, int], most: int) -> None:
    weights, total, lo, hi = case
    sizes = snap_sizes(weights, total, lo, hi, most)
    assert np.unique(sizes).size <= most
    assert sizes.sum() <= total
    assert sizes.min() >= lo
    assert sizes.max() <= hi


def test_snapping_spends_the_budget() -> None:
    weights = np.random.default_rng(0).pareto(1, 5000) + 0.1
    for total in (10_000, 60_000, 250_000):
        assert snap_sizes(weights, total, 1, 64).sum() >= 0.999 * total


def test_merging_is_the_best_of_all_choices() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        sizes = rng.integers(1, 9, 30)
        distinct = np.unique(sizes)

        def padded(widths: np.ndarray, sizes: np.ndarray = sizes) -> int:
            return int(widths[np.searchsorted(widths, sizes)].sum())

        others = [np.array([*c, distinct[-1]]) for c in itertools.combinations(distinct[:-1], 2)]
        assert padded(merge_sizes(sizes, 3)) == min(map(padded, others))


@pytest.mark.parametrize(
    ("weights", "total", "lo", "hi"),
    [([], 0, 0, 1), ([1, np.nan], 2, 1, 2), ([1, 0], 2, 1, 2), ([1, 1], 5, 1, 2), ([1, 1], 1, 1, 2), ([1], 1, 2, 1)],
)
def test_impossible_projections_are_refused(weights: list[float], total: int, lo: int, hi: int) -> None:
    with pytest.raises(BudgetError):
        project_sizes(weights, total, lo, hi)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("10%", 640),
        ("100%", 6400),
        ("8B/row", 200),
        ("2.5KB", 625),
        ("1KiB", 256),
        ("640", 640),
        ("1GiB", 6400),
    ],
)
def test_four_spellings(text: str, values: int) -> None:
    budget = Budget.parse(text)
    assert budget.values(100, 64) == values
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("512kib", "512KiB"),
        ("1mb", "1MB"),
        ("1Mb", "1000KB"),
        ("8b/row", "8B/row"),
        ("8 B/ROW", "8B/row"),
        (".5%", "0.5%"),
    ],
)
def test_units_may_be_in_any_case(text: str, same: str) -> None:
    assert Budget.parse(text) == Budget.parse(same)


@pytest.mark.parametrize(
    ("text", "suggested"),
    [
        ("0.1", "did you mean 10%?"),
        (".025", "did you mean 2.5%?"),
        ("2M", "did you mean '2MiB' or '2000000'?"),
        ("0.5k", "did you mean '0.5KiB' or '500'?"),
        ("2.5", "a parameter count is a whole number: give '10%'"),
    ],
)
def test_a_budget_without_its_unit_gets_a_suggestion(text: str, suggested: str) -> None:
    with pytest.raises(BudgetError, match=re.escape(suggested)):
        Budget.parse(text)


def test_a_parameter_count_that_looks_like_a_percentage_gets_a_suggestion() -> None:
    with pytest.raises(BudgetError, match=re.escape("a budget of 10 parameters (did you mean 10%?) leaves 10 values")):
        Budget.parse("10").values(943, 64)
    with pytest.raises(BudgetError, match="a budget of 500 leaves 500 values"):
        Budget.parse("500").values(943, 64)


@pytest.mark.parametrize(
    "text", ["", "ten", "-3", "0", "0%", "101%", "5 bananas", "1e3", "8B/col", "nan", "10%%", "9" * 400]
)
def test_malformed_budgets_are_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="budget"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["1%", "1KiB", "0.5B/row", "42"])
def test_a_budget_too_small_names_the_smallest_that_does(text: str) -> None:
    n_rows, d = 1000, 64
    with pytest.raises(BudgetError, match="the smallest budget is") as caught:
        Budget.parse(text).values(n_rows, d, overhead=500)
    smallest = str(caught.value).rpartition(" is ")[2]
    assert Budget.parse(smallest).values(n_rows, d, overhead=500) >= n_rows


def test_bytes_are_bytes_of_the_whole_bundle() -> None:
    assert Budget.parse("10KB").values(10, 10_000, overhead=2000) == 2000
    assert Budget.parse("10KB").values(10, 10_000, overhead=2000, bytes_per_value=1) == 8000


def test_positions_are_paid_for_in_bytes_alone() -> None:
    """100 rows of 64: CSR takes a byte a value and 4 a row, a bitmask 8 a row."""
    positions = sparse_positions([60, 40], 64)
    assert [(p.per_value, p.fixed) for p in positions] == [(1, 408), (0, 800)]
    bought = {
        text: Budget.parse(text).values(100, 64, positions=positions)
        for text in ("25%", "1600", "10B/row", "20B/row", "1008B", "1808B")
    }
    assert bought == {"25%": 1600, "1600": 1600, "10B/row": 118, "20B/row": 318, "1008B": 120, "1808B": 280}
    assert Budget.parse("1000B").values(100, 64, bytes_per_value=1, positions=positions) == 296
    assert Budget.parse("2000B").values(100, 64, bytes_per_value=1, positions=positions) == 1200


@pytest.mark.parametrize(("d", "per_value"), [(1, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4)])
def test_columns_take_the_narrowest_type(d: int, per_value: int) -> None:
    csr, bitmask = sparse_positions([3], d)
    assert csr.per_value == per_value == SparseTable([1.0], [d - 1], [0, 1], d).columns.itemsize
    assert csr.fixed == SparseTable([], [], [0] * 4, d).nbytes
    assert bitmask.fixed == 3 * np.packbits(np.zeros(d, bool)).size


@given(st.integers(1, 500), st.integers(1, 700), st.sampled_from([1, 4]), st.sampled_from(["B", "B/row"]))
def test_the_smallest_budget_for_sparse_tables_is_named(n_rows: int, d: int, of_value: int, unit: str) -> None:
    buys = partial(Budget.values, n_rows=n_rows, d=d, bytes_per_value=of_value, positions=sparse_positions([n_rows], d))
    with pytest.raises(BudgetError, match="the smallest budget is") as caught:
        buys(Budget.parse(f"1{unit}"))
    smallest = Budget.parse(str(caught.value).rpartition(" is ")[2])
    assert buys(smallest) >= n_rows
    with pytest.raises(BudgetError):
        buys(Budget(smallest.kind, smallest.amount - (1 if unit == "B" else 0.002)))


def test_overhead_counts_ids_in_their_narrowest_type() -> None:
    fixed = bundle_overhead(np.arange(1), np.arange(1)) - 2
    assert bundle_overhead(np.arange(300), np.arange(200)) == fixed + 600 + 200
    text, weights, popular = 4 + 12, 8, 4
    assert bundle_overhead(np.array(["a", "bé"]), None) == fixed + text + weights + popular
    assert bundle_overhead(np.array(["a", "bé"]), None, "int4") == fixed + text + weights / 4 + popular


def test_sizes_in_bytes_are_read() -> None:
    assert [parse_bytes(text) for text in ("200KiB", "4096", "1.5MB", "7 B")] == [204800, 4096, 1500000, 7]
    assert [parse_bytes(text) for text in ("128M", "1 G", "0.5K")] == [128 << 20, 1 << 30, 512]
    assert [parse_bytes(text) for text in ("200kib", "2m", "1mb", ".5k", "7b")] == [204800, 2 << 20, 10**6, 512, 7]
    for text in ("", "10%", "-1", "0", "many", "9" * 400, f"{'9' * 400}GiB"):
        with pytest.raises(BudgetError):
            parse_bytes(text)
