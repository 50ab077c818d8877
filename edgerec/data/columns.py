"""Parsing of text columns into arrays: fast over many lines, with the number of the first malformed one."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from edgerec.data.text import split_line
from edgerec.errors import DataError
from edgerec.tables.texts import is_text, join_texts, text_array

_LINES_AT_ONCE = 1 << 18
"""Number of lines parsed at once, which limits the memory of the text fields to about 0.3 GB."""

_FIRST_TIME = 100_000_000
"""Seconds from 1970 to a day in 1973: smaller than any rating's timestamp, larger than nearly all item numbers."""

_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Units of timestamps, and how many of each are a second. A unit's numbers from 1973 on start at a thousand times those
of the coarser unit; they reach the range of the next finer unit in the year 5138."""

MISSING_IDS = frozenset({"nan", "NaN", "NAN", "<NA>", "NaT", "null", "NULL", "None"})
"""Texts that programs write for a missing value, which are no ids."""
_MISSING = re.compile(r"\n(?:" + "|".join(sorted(MISSING_IDS)) + r")\n")


class UnitsError(ValueError):
    """Timestamps of several units, with the row of the first that differs from those before."""

    def __init__(self, row: int, found: str) -> None:
        super().__init__(found)
        self.row = row


@dataclass(frozen=True)
class Layout:
    """Columns of a text file: `separator`, `width` fields a line, and the column of each role."""

    separator: str
    width: int
    user: int = 0
    item: int = 1
    rating: int | None = None
    timestamp: int | None = None


@dataclass(frozen=True)
class Columns:
    """Parallel columns (n,) of raw interactions; ids are int64, or str if one of them is no plain integer."""

    users: NDArray[Any]
    items: NDArray[Any]
    ratings: NDArray[np.float64] | None = None
    timestamps: NDArray[np.int64] | None = None


def batches(stream: TextIO, first_number: int) -> Iterator[tuple[int, list[str]]]:
    """Yield groups of lines with the number of the first; skip blank lines at the end of the file."""
    number, blank = first_number, list[str]()
    while fresh := list(itertools.islice(stream, _LINES_AT_ONCE)):
        lines, blank = blank + fresh, []
        while lines and not lines[-1].strip():
            blank.append(lines.pop())
        if lines:
            yield number, lines
        number += len(lines)


def parse_table(lines: list[str], layout: Layout, path: Path, first_number: int) -> Columns:
    """Parse lines of `layout`. Raises DataError with the number of the first malformed line."""
    try:
        return _parse_table(lines, layout)
    except (ValueError, OverflowError):
        for number, line in enumerate(lines, first_number):
            if reason := _table_fault(line, layout):
                raise DataError(f"{path}, line {number}: {reason}") from None
        raise


def _parse_table(lines: list[str], layout: Layout) -> Columns:
    separator, width = layout.separator, layout.width
    text = "".join(lines)
    if separator == " " or (separator in ",;" and '"' in text):
        rows = [split_line(line, separator) for line in lines]
        if any(len(row) != width for row in rows):
            raise ValueError("width")
        fields = list(itertools.chain.from_iterable(rows))
    else:
        if any(line.count(separator) != width - 1 for line in lines):
            raise ValueError("width")
        fields = text.rstrip("\n").replace("\n", separator).split(separator)
    rating, timestamp = layout.rating, layout.timestamp
    return Columns(
        to_ids(fields[layout.user :: width]),
        to_ids(fields[layout.item :: width]),
        None if rating is None else _to_ratings(fields[rating::width]),
        None if timestamp is None else _to_timestamps(fields[timestamp::width]),
    )


def parse_adjacency(lines: list[str], path: Path, first_number: int) -> Columns:
    """Parse LightGCN's lines `user item item ...`; a user may have no item.

    Raises DataError with the number of the first malformed line.
    """
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows, first_number):
        if not row or not _is_plain(_join(row)):
            found = next((repr(field) for field in row if not _is_plain(_join([field]))), "a blank line")
            raise DataError(f"{path}, line {number}: expected 'user item item ...', integers from 0 up, found {found}")
    if all(len(row) == 4 and (len(row[3]) > 18 or int(row[3]) >= _FIRST_TIME) for row in rows):
        raise DataError(
            f"{path} looks like 'user item rating timestamp' between spaces, and would be read as 'user item item ...';"
            " separate the columns by tabs or commas"
        )
    lengths = np.array([len(row) for row in rows])
    values = to_ids(list(itertools.chain.from_iterable(rows)))
    starts = np.cumsum(lengths) - lengths
    return Columns(np.repeat(values[starts], lengths - 1), np.delete(values, starts))


def concatenate(parts: Sequence[Columns]) -> Columns:
    """Concatenate columns; ids become text if they are text in any part."""
    ratings = [part.ratings for part in parts if part.ratings is not None]
    timestamps = [part.timestamps for part in parts if part.timestamps is not None]
    return Columns(
        _join_ids([part.users for part in parts]),
        _join_ids([part.items for part in parts]),
        np.concatenate(ratings) if len(ratings) == len(parts) else None,
        np.concatenate(timestamps) if len(timestamps) == len(parts) else None,
    )


def _join_ids(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return join_texts(parts) if any(map(is_text, parts)) else np.concatenate(parts)


def to_ids(fields: list[str]) -> NDArray[Any]:
    """Return (n,) int64 if every field is a plain integer, else str. Raises ValueError for one that `is_id` refuses.

    An integer with leading zeros, such as an ISBN, stays text: as a number it could not be written back.
    """
    joined = _join(fields)
    if not _is_plain(joined):
        fields = [field.strip() for field in fields]
        joined = _join(fields)
    if "\n\n" in joined or "\0" in joined or re.search(r"\n-\d+\n", joined) or _MISSING.search(joined):
        raise ValueError("id")
    if _is_plain(joined) and not re.search(r"\d{20}", joined):
        with contextlib.suppress(OverflowError):
            return np.array(list(map(int, fields)), dtype=np.int64)
    return text_array(fields)


def is_id(field: str) -> bool:
    """Return True for a valid id: no negative integer, no empty or missing value, without NUL."""
    text = field.strip()
    return bool(text) and text not in MISSING_IDS and "\0" not in text and not re.fullmatch(r"-\d+", text)


def _join(fields: list[str]) -> str:
    # One text instead of a loop over fields: its searches run in C, ten times as fast.
    return "\n".join(["", *fields, ""])


def _is_plain(joined: str) -> bool:
    digits = joined.replace("\n", "")
    return digits.isascii() and digits.isdigit() and not re.search(r"\n0\d", joined)


def to_seconds(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """Return timestamps since 1970 in seconds, rounded down, and the unit that they had.

    The unit follows from the range of the values, which are assumed to be later than 1973; smaller values are ignored.

    Raises UnitsError if values have several units.
    """
    sizes = np.abs(values.astype(np.float64))
    unit = np.zeros(values.size, np.int8)
    for number, per_second in enumerate(_UNITS.values()):
        unit[sizes >= _FIRST_TIME * float(per_second)] = number
    telling = np.flatnonzero(sizes >= _FIRST_TIME)
    if not telling.size:
        return values, "seconds"
    units, first = tuple(_UNITS), unit[telling[0]]
    if (others := telling[unit[telling] != first]).size:
        row = int(others[0])
        raise UnitsError(row, f"{units[unit[row]]} ({values[row]}) after {units[first]} ({values[telling[0]]})")
    return values // _UNITS[units[first]], units[first]


def _to_ratings(fields: list[str]) -> NDArray[np.float64]:
    if any("_" in field for field in fields):  # Python's own way to write numbers
        raise ValueError("rating")
    values = np.array(list(map(float, fields)), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("rating")
    return values


def _to_timestamps(fields: list[str]) -> NDArray[np.int64]:
    return np.array(list(map(_to_time, fields)), dtype=np.int64)


def _to_time(field: str) -> int:
    if "_" in field:
        raise ValueError("timestamp")
    try:
        return int(field)
    except ValueError:
        value = float(field)  # RecBole writes its timestamps as floats
        if not value.is_integer():
            raise ValueError("timestamp") from None
        return int(value)


def _table_fault(line: str, layout: Layout) -> str:
    """Return the fault of a line, with the expected and the found value; '' if there is none."""
    fields = split_line(line, layout.separator)
    if len(fields) != layout.width:
        found = f"{len(fields)}" if line.strip() else "a blank line"
        return f"expected {layout.width} columns separated by {layout.separator!r}, found {found}"
    for role, column in (("user", layout.user), ("item", layout.item)):
        if not is_id(fields[column]):
            return f"expected a {role} id, an integer from 0 up or a text, found {fields[column].strip()!r}"
    if layout.rating is not None and not _is_finite(fields[layout.rating]):
        return f"expected a finite number as rating, found {fields[layout.rating]!r}"
    if layout.timestamp is not None and not _is_time(fields[layout.timestamp]):
        return f"expected whole seconds since 1970 as timestamp, found {fields[layout.timestamp]!r}"
    return ""


def _is_finite(field: str) -> bool:
    try:
        return "_" not in field and math.isfinite(float(field))
    except ValueError:
        return False


def _is_time(field: str) -> bool:
    try:
        return abs(_to_time(field)) < 1 << 63
    except (ValueError, OverflowError):
        return False
