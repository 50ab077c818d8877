"""Interactions from Parquet files, through pyarrow."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.columns import MISSING_IDS, Columns
from edgerec.data.text import ITEM_NAMES, RATING_NAMES, TIME_NAMES, USER_NAMES, FirstLine
from edgerec.errors import DataError
from edgerec.extras import require
from edgerec.files import storage_failure
from edgerec.tables.texts import text_array

MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Return True for a file with the content of Parquet. Raises StorageError."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == MAGIC
    except (OSError, ValueError) as error:
        storage_failure(path, error, "read")


def read_parquet(path: Path) -> Columns:
    """Read the raw columns of one Parquet file, which are found by name as in text files.

    Ids are integers or text; a timestamp is in whole seconds (or a smaller unit), or of Parquet's time type.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: the file is damaged, a column is missing, or a value malformed; the message gives its row.
        StorageError: the file cannot be read.
    """
    parquet, arrow = require("pyarrow.parquet", "parquet"), require("pyarrow", "parquet")
    try:
        with parquet.ParquetFile(path) as file:
            names = _Names(file.schema_arrow.names, path)
            roles = [names.user, names.item, *(n for n in (names.rating, names.timestamp) if n is not None)]
            table = file.read(columns=roles)
    except arrow.ArrowException as error:
        raise DataError(f"{path} is cut short or damaged ({error}); download or copy it again") from error
    except OSError as error:
        storage_failure(path, error, "read")
    if table.num_rows == 0:
        raise DataError(f"{path} holds no interactions, only columns")
    columns = {name: _values(table.column(name), name, path) for name in roles}
    return Columns(
        _ids(columns[names.user], "user", path),
        _ids(columns[names.item], "item", path),
        None if names.rating is None else _ratings(columns[names.rating], path),
        None if names.timestamp is None else _times(columns[names.timestamp], path),
    )


class _Names:
    """Names of the columns by role."""

    def __init__(self, names: list[str], path: Path) -> None:
        first = FirstLine("", names, is_header=True)

        def found(known: Collection[str]) -> str | None:
            column = first.find(known)
            return None if column is None else names[column]

        user, item = found(USER_NAMES), found(ITEM_NAMES)
        if user is None or item is None:
            raise DataError(
                f"{path} has the columns {', '.join(names)}; expected a user column (user, user_id, uid) and an item "
                "column (item, item_id, movieId), and where known rating and timestamp"
            )
        self.user, self.item = user, item
        self.rating, self.timestamp = found(RATING_NAMES), found(TIME_NAMES)


def _values(column: Any, name: str, path: Path) -> NDArray[Any]:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{path}, row {row + 1}: expected a value in the column {name}, found none")
    values: NDArray[Any] = column.to_numpy()
    return values


def _ids(values: NDArray[Any], role: str, path: Path) -> NDArray[Any]:
    if values.dtype.kind in "iu":
        faults = np.flatnonzero((values < 0) | (values > np.iinfo(np.int64).max))
        ids = values.astype(np.int64)
    elif values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        faults = np.flatnonzero([value == "" or value in MISSING_IDS or "\0" in value for value in values.tolist()])
        ids = text_array(values.tolist())
    else:
        raise DataError(f"{path} has {role} ids of type {values.dtype}; expected integers or text")
    if faults.size:
        row = int(faults[0])
        raise DataError(
            f"{path}, row {row + 1}: expected a {role} id, an integer from 0 up or a text, found {values[row]!r}"
        )
    return ids


def _ratings(values: NDArray[Any], path: Path) -> NDArray[np.float64]:
    if values.dtype.kind not in "iuf":
        raise DataError(f"{path} has ratings of type {values.dtype}; expected numbers")
    faults = np.flatnonzero(~np.isfinite(values))
    if faults.size:
        row = int(faults[0])
        raise DataError(f"{path}, row {row + 1}: expected a finite number as rating, found {values[row]}")
    return values.astype(np.float64)


def _times(values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if values.dtype.kind == "M":
        return values.astype("datetime64[s]").astype(np.int64)
    if values.dtype.kind not in "iu":
        raise DataError(
            f"{path} has timestamps of type {values.dtype}; expected whole seconds since 1970, or a time type"
        )
    most = np.iinfo(np.int64).max
    faults = np.flatnonzero(values > most) if values.dtype.kind == "u" else values[:0]
    if faults.size:
        row = int(faults[0])
        raise DataError(f"{path}, row {row + 1}: expected a timestamp of at most {most}, found {values[row]}")
    return values.astype(np.int64)
