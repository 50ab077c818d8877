"""Parquet files: the same interactions as from text, and the row of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.data import Interactions, read
from edgerec.errors import DataError, StorageError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path: Path, **columns: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.parquet",
        movieId=[7, 5, 7],
        note=["", "", ""],
        userId=[1, 2, 1],
        rating=[1.0, 2.0, 3.0],
        ts=[3, 2, 9],
    )
    expected = Interactions.from_pairs([1, 2, 1], [7, 5, 7], ratings=[1, 2, 3], timestamps=[3, 2, 9])
    assert read(path).fingerprint() == expected.fingerprint()


def test_text_ids_and_times_of_parquets_own_type(tmp_path: Path) -> None:
    times = np.array(["2020-01-01T00:00:01", "1970-01-01T00:01:00"], "datetime64[us]")
    path = write(tmp_path / "d.parquet", user=["a", "b"], item=["x", "ÿ"], timestamp=times)
    found = read(path)
    assert found.item_ids.tolist() == ["x", "ÿ"]
    assert found.timestamps is not None
    assert found.timestamps.tolist() == [1577836801, 60]


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    assert len(read(write(tmp_path / "d.csv", user=[1], item=[2]))) == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [1, -1], "item": [1, 1]}, "row 2: .*user id.*-1"),
        ({"user": ["a", ""], "item": [1, 1]}, "row 2: .*user id"),
        ({"user": [1, None], "item": [1, 1]}, "row 2: .*column user"),
        ({"user": [1, 1], "item": [1, 2], "rating": [1.0, float("nan")]}, "row 2: .*rating.*nan"),
        ({"user": [1], "item": [2], "rating": ["good"]}, "ratings of type"),
        ({"user": [1], "item": [2], "timestamp": ["now"]}, "timestamps of type"),
        ({"user": [0.5], "item": [2]}, "user ids of type"),
        ({"name": [1], "colour": [2]}, "name, colour; expected a user column"),
    ],
)
def test_malformed_content_is_named(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=rf"d\.parquet.*{message}"):
        read(write(tmp_path / "d.parquet", **columns))


def test_empty_and_damaged_files_are_named(tmp_path: Path) -> None:
    empty = {name: pyarrow.array([], pyarrow.int64()) for name in ("user", "item")}
    with pytest.raises(DataError, match="no interactions"):
        read(write(tmp_path / "empty.parquet", **empty))
    path = write(tmp_path / "d.parquet", user=[1], item=[2])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"d\.parquet is cut short"):
        read(path)
    with pytest.raises(StorageError):
        read(tmp_path / "absent.parquet")
