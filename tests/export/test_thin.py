"""Thin tables: every figure is that of the dense rows, and what is pruned is what changes scores least."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.models.encoder import LinearEncoder
from edgerec.tables import SparseTable
from edgerec_export import ExportRequest, Source
from edgerec_export.allocate import item_importance, pruned
from edgerec_export.choose import choose
from edgerec_export.layouts import EllPlan
from edgerec_export.onnx import slots
from edgerec_export.pack import packed_in_memory
from edgerec_export.thin import (
    counts_of_rows,
    is_thin,
    largest_of_rows,
    lengths_of_rows,
    of_largest,
    slots_of_rows,
    squares_of_columns,
)

N = 1100


@pytest.fixture(scope="module")
def table() -> SparseTable:
    """An item's own value, up to 40 others, a row without any, and a zero that is stored."""
    rng = np.random.default_rng(0)
    matrix = np.where(rng.random((N, N)) < rng.random((N, 1)) / 30, rng.standard_normal((N, N)) / 5, 0)
    np.fill_diagonal(matrix, 1 + rng.random(N))
    matrix[7] = 0
    found = SparseTable.from_dense(matrix)
    values = found.values.copy()
    values[3] = 0
    return SparseTable(values, found.columns, found.pointers, N)


def source_of(table: SparseTable) -> Source:
    rng = np.random.default_rng(1)
    weights = (0.5 + rng.random(N)).astype(np.float32)
    return Source(table, np.arange(N), encoder=LinearEncoder(weights), item_counts=rng.integers(1, 90, N))


def test_figures_of_rows_are_those_of_dense_ones(table: SparseTable) -> None:
    dense = table.dense()
    assert is_thin(table)
    assert np.array_equal(largest_of_rows(table), np.abs(dense).max(1))
    assert np.array_equal(counts_of_rows(table), np.count_nonzero(dense, axis=1))
    assert np.allclose(lengths_of_rows(table), np.linalg.norm(dense, axis=1))
    weights = np.random.default_rng(2).random(N)
    assert np.allclose(squares_of_columns(table, weights), (weights[:, None] * np.square(dense)).sum(0))


@pytest.mark.parametrize("width", [1, 45, 60])
def test_slots_are_those_of_dense_rows(table: SparseTable, width: int) -> None:
    rows = np.flatnonzero(counts_of_rows(table) <= width)[::-1]
    values, columns = slots_of_rows(table, rows, width)
    expected = slots(table.dense()[rows], width)
    assert np.array_equal(values, expected.values)
    assert np.array_equal(columns, expected.columns)


def test_the_largest_effects_are_stored_and_one_of_each_row(table: SparseTable) -> None:
    effects = np.random.default_rng(3).random(table.n_values)
    few = of_largest(table, effects, 2 * N)
    assert few.n_values == 2 * N
    rows = table.sizes() > 0
    assert (few.sizes()[rows] >= 1).all()
    assert of_largest(table, effects, 0).n_values == rows.sum()


def test_an_items_own_value_stays_and_weak_neighbours_go(table: SparseTable) -> None:
    source = source_of(table)
    smaller = pruned(source, N + 500).items
    assert isinstance(smaller, SparseTable)
    assert smaller.n_values == N + 500
    own = np.diag(table.dense())
    assert np.array_equal(np.diag(smaller.dense()), own)
    values = table.dense() / np.where(own == 0, 1, own)[:, None]
    others = ~np.eye(N, dtype=bool)
    gone = (table.dense() != 0) & (smaller.dense() == 0) & others
    assert np.abs(values[gone]).mean() < 0.5 * np.abs(values[(smaller.dense() != 0) & others]).mean()


def test_the_importance_of_columns_is_the_diagonal_of_the_second_moment(table: SparseTable) -> None:
    source = source_of(table)
    found, dense = item_importance(source), table.dense().astype(np.float64)
    assert isinstance(source.encoder, LinearEncoder)
    shares = source.item_counts * np.square(source.encoder.weights)
    assert np.allclose(found.gram, ((shares / shares.sum())[:, None] * np.square(dense)).sum(0), rtol=1e-5)
    errors = np.random.default_rng(4).standard_normal((5, N))
    expected = (found.shares[:5, None] * np.square(errors) * found.gram).sum()
    assert found.score_error(np.arange(5), errors) == pytest.approx(expected)
    assert np.allclose(found.by_value(slice(0, 5)), found.shares[:5, None] * found.gram)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_reference_scores_stored_values_as_dense_rows(table: SparseTable, precision: str) -> None:
    draft = choose(source_of(table), ExportRequest(precision=precision, similar=True)).draft
    packed = packed_in_memory(draft)
    assert isinstance(packed.tables["i"].plan, EllPlan)
    reference, places = packed.reference(), np.arange(0, N, 3)
    history = np.array([[3, 8, -1], [700, 2, 9]])
    dense = packed.tables["i"].rows(np.arange(N)).astype(np.float64)
    vectors = reference.encoded(history)
    expected = vectors @ dense[places].T
    scores = reference.scores(history, places)
    assert np.allclose(scores, expected, atol=1e-5 if precision == "fp32" else 0.02 * np.abs(expected).max())
    assert (np.abs(scores - expected) <= reference.slack(history, places) + 1e-6).all()
