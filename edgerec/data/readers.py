"""Readers of interactions, for the file formats of data sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from edgerec.data.columns import (
    Columns,
    Layout,
    UnitsError,
    batches,
    concatenate,
    parse_adjacency,
    parse_table,
    to_seconds,
)
from edgerec.data.interactions import Interactions
from edgerec.data.parquet import is_parquet, read_parquet
from edgerec.data.text import (
    ITEM_NAMES,
    RATING_NAMES,
    TIME_NAMES,
    USER_NAMES,
    FirstLine,
    Reading,
    parse,
    read_first_line,
)
from edgerec.errors import DataError

_logger = logging.getLogger(__name__)


def read(
    path: str | Path, *, name: str = "", encoding: str | None = None, tell: Callable[[str], None] | None = None
) -> Interactions:
    """Read interactions from a text file, plain or gzip, or from Parquet (extra 'parquet').

    Supported are MovieLens `.data`, `.dat` and `.csv`, RecBole `.inter`, tables (tab, comma, semicolon or
    `::`) with a header that names a user and an item column, tables without one in the order user, item,
    rating, timestamp, and LightGCN's lines `user item item ...`. The content decides, not the file name.

    Timestamps since 1970 may be in seconds, milliseconds, microseconds or nanoseconds, which their range distinguishes;
    they are converted to seconds.

    Args:
        path: the file.
        name: name of the data set.
        encoding: encoding of a text file, by its name in Python; by default UTF-8, or Latin-1 for a file that is not
            UTF-8.
        tell: called with one line of text if the file is not UTF-8, or its timestamps are not in seconds; by default
            they are logged.

    Raises:
        DataError: the file is empty, damaged, not in its encoding, or has a malformed line; the message gives the line.
        StorageError: the file is missing or cannot be read.
    """
    return read_parts([Path(path)], Reading(encoding, tell or _logger.info), name=name)


def read_parts(paths: Sequence[Path], reading: Reading, *, name: str = "") -> Interactions:
    """Read interactions from several files, such as train and test. Raises as `read` does."""
    columns = concatenate([read_columns(path, reading) for path in paths])
    return Interactions.from_pairs(
        columns.users, columns.items, ratings=columns.ratings, timestamps=columns.timestamps, name=name
    )


def read_columns(path: Path, reading: Reading) -> Columns:
    """Read the raw columns of one file, in its order, with repeated pairs and timestamps in seconds.

    Raises as `read` does.
    """
    if is_parquet(path):
        columns, where, first_row = read_parquet(path), "row", 1
    else:
        columns, first_row = _read_text(path, reading)
        where = "line"
    if columns.timestamps is None:
        return columns
    try:
        seconds, unit = to_seconds(columns.timestamps)
    except UnitsError as error:
        raise DataError(
            f"{path}, {where} {first_row + error.row}: expected one unit for all timestamps, found {error}"
        ) from error
    if unit != "seconds":
        reading.tell(f"{path}: the timestamps are taken as {unit} since 1970, and stored in seconds")
    return replace(columns, timestamps=seconds)


def _read_text(path: Path, reading: Reading) -> tuple[Columns, int]:
    """Return the columns of a text file, and the number of its first line of values."""
    numbers = [1]

    def parser(stream: TextIO) -> Columns:
        first = read_first_line(stream, path)
        number = numbers[0] = 2 if first.is_header else 1
        if not first.is_header:
            stream.seek(0)
        if first.separator == " " and not first.is_header:
            parts = [parse_adjacency(lines, path, start) for start, lines in batches(stream, number)]
        else:
            layout = _layout(first, path)
            parts = [parse_table(lines, layout, path, start) for start, lines in batches(stream, number)]
        if not sum(len(part.users) for part in parts):
            raise DataError(f"{path} holds no interactions, only {'a header' if first.is_header else 'users'}")
        return concatenate(parts)

    return parse(path, parser, reading), numbers[0]


def _layout(first: FirstLine, path: Path) -> Layout:
    width = len(first.fields)
    if first.is_header:
        user, item = first.find(USER_NAMES), first.find(ITEM_NAMES)
        if user is None or item is None:
            raise DataError(
                f"{path} has the columns {', '.join(first.fields)}; expected a header with a user column "
                "(user, user_id, uid) and an item column (item, item_id, movieId), and where known rating "
                "and timestamp"
            )
        return Layout(first.separator, width, user, item, first.find(RATING_NAMES), first.find(TIME_NAMES))
    if not 2 <= width <= 4:
        raise DataError(
            f"{path}, line 1: expected 2 to 4 columns (user, item, rating, timestamp) separated by "
            f"{first.separator!r}, found {width}; name the columns in a header line"
        )
    return Layout(first.separator, width, 0, 1, 2 if width > 2 else None, 3 if width > 3 else None)
