"""Tables: exact bytes, the same rows by every way in, files without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgerec.errors import StorageError, TableError
from edgerec.tables import DenseTable, PrefixTable, SparseTable, Table, load_table, save_table

matrices = npst.arrays(
    np.float32, npst.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(-4, 4, width=32)
)


def prefix_of(matrix: np.ndarray, seed: int) -> tuple[PrefixTable, np.ndarray]:
    sizes = np.random.default_rng(seed).integers(1, matrix.shape[1] + 1, len(matrix))
    return PrefixTable.from_dense(matrix, sizes), np.where(np.arange(matrix.shape[1]) < sizes[:, None], matrix, 0)


@given(matrices, st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_rows_dense_and_files_agree(tmp_path_factory: pytest.TempPathFactory, matrix: np.ndarray, seed: int) -> None:
    prefix, cut = prefix_of(matrix, seed)
    mask = np.random.default_rng(seed).random(matrix.shape) < 0.4
    cases: list[tuple[Table, np.ndarray]] = [
        (DenseTable(matrix), matrix),
        (prefix, cut),
        (SparseTable.from_dense(matrix, mask), np.where(mask, matrix, 0)),
    ]
    rows = np.random.default_rng(seed).integers(0, len(matrix), 7)
    for table, expected in cases:
        assert np.array_equal(table.dense(), expected)
        assert np.array_equal(table.rows(rows), expected[rows])
        assert table.n_values == table.sizes().sum()
        assert table.nbytes == sum(array.nbytes for array in table.arrays().values())
        path = tmp_path_factory.mktemp("table") / "t.npz"
        save_table(table, path)
        again = load_table(path)
        assert type(again) is type(table)
        assert np.array_equal(again.dense(), expected)
        assert again.d == table.d


def test_a_table_at_a_tenth_is_a_file_of_a_tenth(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    save_table(DenseTable(matrix), tmp_path / "dense.npz")
    save_table(PrefixTable.from_dense(matrix, np.full(2000, 6)), tmp_path / "prefix.npz")
    dense, prefix = ((tmp_path / name).stat().st_size for name in ("dense.npz", "prefix.npz"))
    assert prefix / dense < 0.105


def test_tables_cannot_be_written_to() -> None:
    table = DenseTable(np.ones((2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        table.values[0, 0] = 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: DenseTable([[1.0, np.nan]]),
        lambda: DenseTable(np.zeros((0, 3))),
        lambda: DenseTable([1.0]),
        lambda: DenseTable([["a", "b"]]),
        lambda: DenseTable([[1j]]),
        lambda: DenseTable([[1e300]]),
        lambda: PrefixTable([1.0, 2.0], [3], 2),
        lambda: PrefixTable([1.0, 2.0], [0, 2], 2),
        lambda: PrefixTable([1.0, 2.0], [1], 2),
        lambda: PrefixTable.from_dense(np.ones((2, 2)), [1]),
        lambda: SparseTable([1.0], [2], [0, 1], 2),
        lambda: SparseTable([1.0, 2.0], [1, 0], [0, 2], 2),
        lambda: SparseTable([1.0, 2.0], [0, 0], [0, 2], 2),
        lambda: SparseTable([1.0], [0], [0, 2], 2),
        lambda: SparseTable([1.0], [0], [0, 1, 0], 2),
        lambda: SparseTable.from_dense(np.ones((2, 2)), np.ones((2, 3))),
        lambda: DenseTable(np.ones((2, 2))).rows([2]),
        lambda: PrefixTable([1.0], [1], 1).rows([-1]),
    ],
)
def test_parts_that_do_not_fit_are_refused(make: Any) -> None:
    with pytest.raises(TableError):
        make()


def test_wide_tables_keep_their_sizes() -> None:
    assert PrefixTable(np.zeros(70_000), [70_000], 70_000).sizes().tolist() == [70_000]
    assert SparseTable([1.0], [70_000], [0, 1], 80_000).columns.tolist() == [70_000]


def test_sparse_rows_may_be_empty() -> None:
    table = SparseTable.from_dense(np.array([[0, 0], [1, 0], [0, 0]], np.float32))
    assert table.sizes().tolist() == [0, 1, 0]
    assert table.rows([0, 1, 2]).tolist() == [[0, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"\x00" * 100])
def test_damaged_files_are_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(damage)
    with pytest.raises(TableError, match=r"t\.npz"):
        load_table(path)


def test_cut_files_and_files_without_a_kind_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    save_table(DenseTable(np.ones((50, 50))), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(TableError, match=r"t\.npz"):
        load_table(path)
    np.savez(path, values=np.ones((2, 2)))
    with pytest.raises(TableError, match=r"t\.npz"):
        load_table(path)
    with pytest.raises(StorageError, match=r"absent\.npz"):
        load_table(tmp_path / "absent.npz")
