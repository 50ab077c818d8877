"""Readers of interactions, through DuckDB, for the file formats of data sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgerec.data.columns import OPTIONS, choose
from edgerec.data.filters import columns_of, select, typed
from edgerec.data.interactions import Interactions
from edgerec.data.sources import Connection, Source, literal, open_source
from edgerec.data.staging import DATE, NUMBER, Staged, lock, session
from edgerec.errors import DataError

_logger = logging.getLogger(__name__)

_FIRST_TIME = 100_000_000
"""Seconds from 1970 to a day in 1973: smaller than any rating's timestamp, larger than nearly all item numbers."""
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Units of timestamps, and how many of each are a second. A unit's numbers from 1973 on start at a thousand times those
of the coarser unit; they reach the range of the next finer unit in the year 5138."""
_DATES = "ISO dates"
_DATE_SECONDS = (
    f'CASE WHEN regexp_full_match("$time", {literal(DATE)}) '
    "THEN CAST(floor(epoch(TRY_CAST(replace(\"$time\", '/', '-') AS TIMESTAMPTZ))) AS BIGINT) END"
)
_NUMBER_SECONDS = (
    'CASE WHEN regexp_full_match("$time", \'[+-]?[0-9]+\') THEN TRY_CAST("$time" AS BIGINT) '
    f'WHEN regexp_full_match("$time", {literal(NUMBER)}) '
    'THEN TRY_CAST(floor(TRY_CAST("$time" AS DOUBLE)) AS BIGINT) END'
)


@dataclass(frozen=True)
class Reading:
    """Options of reading files.

    Attributes:
        encoding: encoding of text files; None for UTF-8, or Latin-1 if a file is not UTF-8.
        tell: called with a line of text about each assumption on an ambiguous file.
        columns: names of the columns that the user gave, by role: 'user', 'item', 'time', 'rating'.
        where: a condition of SQL on the columns of a row; other rows are dropped.
        min_rating: minimum rating of a row.
    """

    encoding: str | None = None
    tell: Callable[[str], None] = field(default=lambda line: None, compare=False)
    columns: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    min_rating: float | None = None

    def __post_init__(self) -> None:
        """Raise DataError for an encoding that does not exist."""
        try:
            "a".encode(self.encoding or "utf-8").decode(self.encoding or "utf-8")
        except (LookupError, ValueError, TypeError) as error:
            raise DataError(
                f"there is no text encoding {self.encoding!r}; name one of Python's, such as utf-8, latin-1, cp1252 or "
                "utf-16"
            ) from error

    @property
    def filters(self) -> bool:
        """True if rows are dropped."""
        return self.where is not None or self.min_rating is not None


@dataclass(frozen=True)
class ReadReport:
    """Statistics of a reading.

    Attributes:
        rows: number of rows in the files.
        dropped: number of rows that the filters dropped.
        repeats: number of rows that were dropped because a later one has the same user and item.
        times: how timestamps are written: 'ISO dates' or a unit; '' if there are none.
        used: the column of each role.
        ignored: the other columns.
    """

    rows: int = 0
    dropped: int = 0
    repeats: int = 0
    times: str = ""
    used: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def read(
    path: str | Path,
    *,
    name: str = "",
    encoding: str | None = None,
    tell: Callable[[str], None] | None = None,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    min_rating: float | None = None,
) -> Interactions:
    """Read interactions from a file: a table of text, JSON lines or Parquet; needs the 'train' extra.

    Supported are MovieLens `.data`, `.dat` and `.csv`, RecBole `.inter`, tables (tab, comma, semicolon or `::`) with a
    header that names a user and an item column, tables without one in the order user, item, rating, timestamp,
    LightGCN's lines `user item item ...`, JSON objects one a line, and Parquet; text may be compressed by gzip or
    zstd. The content decides, not the file name.

    Timestamps are ISO dates, or numbers since 1970 in seconds, milliseconds, microseconds or nanoseconds, which their
    range distinguishes; they are converted to seconds. Dates without a zone are taken as UTC.

    Args:
        path: the file.
        name: name of the data set.
        encoding: encoding of a text file, by its name in Python; by default UTF-8, or Latin-1 for a file that is not
            UTF-8.
        tell: called with one line of text if the file is not UTF-8, or its timestamps are not in seconds; by default
            they are logged.
        columns: names of the columns by role: 'user', 'item', 'time', 'rating'; common names are known without it.
            'none' reads no such column.
        where: a condition of SQL on the columns of a row, such as "price > 10"; other rows are dropped.
        min_rating: minimum rating of a row; others are dropped.

    Raises:
        MissingExtraError: DuckDB is not installed.
        DataError: the file is empty, damaged, not in its encoding, or has a malformed line; the message gives the line.
        StorageError: the file is missing or cannot be read.
    """
    reading = Reading(encoding, tell or _logger.info, dict(columns or {}), where, min_rating)
    return read_parts([Path(path)], reading, name=name)[0]


def read_parts(
    paths: Sequence[Path], reading: Reading, *, name: str = "", parts: Sequence[int] | None = None
) -> tuple[Interactions, ReadReport]:
    """Read interactions from several files, which may be of several formats. Raises as `read` does.

    Args:
        parts: the part of the published split that each file is: 0 train, 1 validation, 2 test; None without one.
    """
    with session() as (connection, scratch):
        given = list(reading.columns.values())
        sources = [open_source(connection, path, scratch, reading.encoding, reading.tell, given) for path in paths]
        chosen = [_choose(source, reading.columns) for source in sources]
        names = list(dict.fromkeys(column for source in sources for column in source.columns))
        filtered = {} if reading.where is None else columns_of(connection, reading.where, names)
        staged = Staged(connection, sources, chosen, list(dict.fromkeys(filtered.values())))
        lock(connection)
        table = _filtered(connection, staged, reading, filtered)
        staged.check(table, ("user", "item", "rating"))
        times, form = (None, "") if "time" not in staged.roles else _times(staged, table, reading.tell)
        user_ids, user_rows = staged.ids(table, "user")
        item_ids, item_rows = staged.ids(table, "item")
        result = Interactions.from_rows(
            user_ids,
            user_rows,
            item_ids,
            item_rows,
            ratings=staged.column(table, 'CAST("$rating" AS DOUBLE)') if "rating" in staged.roles else None,
            timestamps=times,
            parts=None if parts is None else np.array(parts, np.int8)[staged.files(staged.column(table, '"$row"'))],
            name=name,
        )
        numbers = item_ids.dtype.kind == "i"
        if "title" in staged.roles:
            result = result.with_titles(staged.texts(table, "title", numbers=numbers))
        if "category" in staged.roles:
            result = result.with_categories(staged.texts(table, "category", numbers=numbers))
    used = {role: sources[0].columns[chosen[0][role]] for role in staged.roles}
    spent, count = {*used.values(), *filtered.values()}, len(user_rows)
    ignored = [column for column in names if column not in spent]
    return result, ReadReport(staged.n, staged.n - count, count - len(result), form, used, ignored)


def _choose(source: Source, given: Mapping[str, str]) -> dict[str, int]:
    """Return the places of a source's columns by role. Raises DataError."""
    width = len(source.columns)
    if source.headerless:
        if not 2 <= width <= 4 and not {"user", "item"} <= given.keys():
            raise DataError(
                f"{source.path}, line 1: expected 2 to 4 columns (user, item, rating, timestamp), found {width}; name "
                "the columns in a header line, or give their numbers, counted from 1, with --user-column and "
                "--item-column"
            )
        by_number = {str(place + 1): column for place, column in enumerate(source.columns)}
        given = {role: by_number.get(name, name) for role, name in given.items()}
    return choose(source.columns, given, str(source.path))


def _filtered(connection: Connection, staged: Staged, reading: Reading, columns: Mapping[str, str]) -> str:
    """Return the table of the rows that the filters leave. Raises DataError if there are none."""
    table, path = "rows", staged.sources[0].path
    if reading.where is not None:
        kinds = typed(connection, table, list(columns.values()))
        values = {name: kinds[column] for name, column in columns.items()}
        table = select(connection, table, reading.where, values)
    if reading.min_rating is not None:
        if "rating" not in staged.roles:
            raise DataError(f"{path} has no rating column for --min-rating; name it with {OPTIONS['rating']}")
        staged.check(table, ("rating",))
        least = f'CAST("$rating" AS DOUBLE) >= {float(reading.min_rating)!r}'
        connection.execute(f"CREATE TABLE rated AS SELECT * FROM {table} WHERE {least}")
        table = "rated"
    if not staged.one(f"SELECT count(*) FROM {table}"):
        raise DataError(f"0 interactions of {path} are left by --where and --min-rating; relax them")
    return table


def _times(staged: Staged, table: str, tell: Callable[[str], None]) -> tuple[NDArray[np.int64], str]:
    """Return (n,) timestamps in seconds, and how they were written. Raises DataError for a value that is no time."""
    match = 'count(*) FILTER (regexp_full_match("$time", {}))'
    dates = staged.one(f"SELECT {match.format(literal(DATE))} > {match.format(literal(NUMBER))} FROM {table}")
    seconds = _DATE_SECONDS if dates else _NUMBER_SECONDS
    expected = "an ISO date, as most others are," if dates else "seconds since 1970, or an ISO date,"
    staged.refuse(
        table,
        {"time": f"{seconds} IS NULL"},
        lambda role, found: f"expected {expected} as timestamp, found {found}; {OPTIONS['time']} none reads no times",
    )
    values, rows = staged.column(table, seconds), staged.column(table, '"$row"')
    files, forms = staged.files(rows), dict[str, None]()
    for number, source in enumerate(staged.sources):
        own = np.flatnonzero(files == number)
        form = _DATES
        if not dates:
            values[own], form = _to_seconds(values[own], rows[own], staged)
        forms[form] = None
        if form == _DATES:
            tell(f"{source.path}: the timestamps are taken as {form}, in UTC if they name no zone")
        elif form != "seconds":
            tell(f"{source.path}: the timestamps are taken as {form} since 1970, and stored in seconds")
    return values, ", ".join(forms)


def _to_seconds(values: NDArray[np.int64], rows: NDArray[np.int64], staged: Staged) -> tuple[NDArray[np.int64], str]:
    """Return timestamps since 1970 in seconds, rounded down, and the unit that they had.

    The unit follows from the range of the values, which are assumed to be later than 1973; smaller values are ignored.

    Raises DataError if values have several units.
    """
    sizes = np.abs(values.astype(np.float64))
    unit = np.zeros(values.size, np.int8)
    for number, per_second in enumerate(_UNITS.values()):
        unit[sizes >= _FIRST_TIME * float(per_second)] = number
    telling = np.flatnonzero(sizes >= _FIRST_TIME)
    if not telling.size:
        return values, "seconds"
    units, first = tuple(_UNITS), unit[telling[0]]
    if (differing := telling[unit[telling] != first]).size:
        row = int(differing[0])
        raise DataError(
            f"{staged.place(int(rows[row]))}: expected one unit for all timestamps, found {units[unit[row]]} "
            f"({values[row]}) after {units[first]} ({values[telling[0]]})"
        )
    return values // _UNITS[units[first]], units[first]
