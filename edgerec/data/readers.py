"""Readers of interactions, through DuckDB, for the file formats of data sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgerec.data.columns import NAMES, OPTIONS, choose
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
_WHOLE_SECONDS = 'TRY_CAST("$time" AS BIGINT)'
_NUMBER_SECONDS = (
    'CASE WHEN regexp_full_match("$time", \'[+-]?[0-9]+\') THEN TRY_CAST("$time" AS BIGINT) '
    f'WHEN regexp_full_match("$time", {literal(NUMBER)}) '
    'THEN TRY_CAST(floor(TRY_CAST("$time" AS DOUBLE)) AS BIGINT) END'
)
RATING = 'CAST("$rating" AS DOUBLE)'
"""SQL of the rating."""


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
        used: the column of each role, with 'or' between those of several files.
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
    LightGCN's lines `user item item ...`, JSON objects one a line or in an array, and Parquet; text may be
    compressed by gzip or zstd. The content decides, not the file name.

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


@dataclass(frozen=True)
class StagedRows:
    """The rows of files that the filters leave, checked, in a table of DuckDB.

    Attributes:
        connection: of DuckDB.
        staged: all rows, with their files.
        table: name of the table of these rows, with the columns of `Staged`.
        seconds: SQL of the timestamp in seconds, or None.
        parts: SQL of the part of the published split, or None.
        report: what was read; repeats are not known yet.
    """

    connection: Connection
    staged: Staged
    table: str
    seconds: str | None
    parts: str | None
    report: ReadReport


@contextmanager
def staged_rows(
    paths: Sequence[Path],
    reading: Reading,
    *,
    parts: Sequence[int] | None = None,
    folder: Path | None = None,
    memory: int | None = None,
) -> Iterator[StagedRows]:
    """Read the rows of several files, which may be of several formats. Raises as `read` does.

    Args:
        parts: the part of the published split that each file is: 0 train, 1 validation, 2 test; None without one.
        folder, memory: as in `session`; afterwards DuckDB can write files of `folder` alone.
    """
    with session(folder, memory) as (connection, scratch):
        given = list(reading.columns.values())
        sources = [open_source(connection, path, scratch, reading.encoding, reading.tell, given) for path in paths]
        chosen = [_choose(source, reading.columns) for source in sources]
        names = list(dict.fromkeys(column for source in sources for column in source.columns))
        filtered = {} if reading.where is None else columns_of(connection, reading.where, names)
        staged = Staged(connection, sources, chosen, list(dict.fromkeys(filtered.values())))
        lock(connection, folder)
        by_source = list(zip(sources, chosen, strict=True))
        ids = {source.columns[places[role]] for source, places in by_source for role in ("user", "item")}
        table = _filtered(connection, staged, reading, filtered, ids)
        staged.check(table, ("user", "item", "rating"))
        seconds, form = (None, "") if "time" not in staged.roles else _times(staged, table, reading.tell)
        used, ignored = _columns_used(by_source, staged.roles, filtered.values(), reading.tell)
        dropped = staged.n - staged.one(f"SELECT count(*) FROM {table}")
        report = ReadReport(staged.n, dropped, 0, form, used, ignored)
        yield StagedRows(connection, staged, table, seconds, None if parts is None else staged.by_file(parts), report)


def read_parts(
    paths: Sequence[Path], reading: Reading, *, name: str = "", parts: Sequence[int] | None = None
) -> tuple[Interactions, ReadReport]:
    """Read interactions from several files; the arguments and errors are those of `staged_rows`."""
    with staged_rows(paths, reading, parts=parts) as rows:
        staged, table = rows.staged, rows.table
        user_ids, user_rows = staged.ids(table, "user")
        item_ids, item_rows = staged.ids(table, "item")
        result = Interactions.from_rows(
            user_ids,
            user_rows,
            item_ids,
            item_rows,
            ratings=staged.column(table, RATING) if "rating" in staged.roles else None,
            timestamps=None if rows.seconds is None else staged.column(table, rows.seconds),
            parts=None if rows.parts is None else staged.column(table, rows.parts).astype(np.int8),
            name=name,
        )
        numbers = item_ids.dtype.kind == "i"
        if "title" in staged.roles:
            result = result.with_titles(staged.texts(table, "title", numbers=numbers))
        if "category" in staged.roles:
            result = result.with_categories(staged.texts(table, "category", numbers=numbers))
    return result, replace(rows.report, repeats=len(user_rows) - len(result))


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


def _columns_used(
    chosen: Sequence[tuple[Source, Mapping[str, int]]],
    roles: Sequence[str],
    filtered: Collection[str],
    tell: Callable[[str], None],
) -> tuple[dict[str, str], list[str]]:
    """Return the columns of each role, and the other columns; tell which roles are left out as a file has none."""
    for role in NAMES:
        path = next((source.path for source, places in chosen if role not in places), None)
        if role not in roles and path is not None and any(role in places for _, places in chosen):
            option = f"; name one with {OPTIONS[role]}" if role in OPTIONS else ""
            tell(f"{path} has no {role} column, so those of the other files are not read{option}")
    by_role = {role: [source.columns[places[role]] for source, places in chosen] for role in roles}
    used = {role: " or ".join(dict.fromkeys(columns)) for role, columns in by_role.items()}
    ignored: dict[str, None] = {}
    for source, places in chosen:
        spent = {*(source.columns[places[role]] for role in roles), *filtered}
        ignored |= dict.fromkeys(column for column in source.columns if column not in spent)
    return used, list(ignored)


def _filtered(
    connection: Connection, staged: Staged, reading: Reading, columns: Mapping[str, str], ids: Collection[str]
) -> str:
    """Return the table of the rows that the filters leave. Raises DataError if there are none."""
    table, path = "rows", staged.sources[0].path
    if reading.where is not None:
        kinds = typed(connection, table, list(columns.values()), ids)
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


def _times(staged: Staged, table: str, tell: Callable[[str], None]) -> tuple[str, str]:
    """Return SQL of the timestamps in seconds, rounded down, and how they were written.

    The unit of numbers follows from their range, for each file; they are assumed to be later than 1973, and smaller
    ones are ignored.

    Raises DataError for a value that is no time, and if the values of a file have several units.
    """
    dates, seconds = False, _WHOLE_SECONDS
    if not staged.one(f'SELECT bool_and({_WHOLE_SECONDS}::VARCHAR IS NOT DISTINCT FROM "$time") FROM {table}'):
        match = 'count(*) FILTER (regexp_full_match("$time", {}))'
        ((n_dates, n_numbers),) = staged.rows(
            f"SELECT {match.format(literal(DATE))}, {match.format(literal(NUMBER))} FROM {table}"
        )
        dates = n_dates > n_numbers
        seconds = _DATE_SECONDS if dates else _NUMBER_SECONDS
        expected = "an ISO date" if dates else "seconds since 1970" if n_dates else "seconds since 1970, or an ISO date"
        expected += ", as most others are," if n_dates else ","
        staged.refuse(
            table,
            {"time": f"{seconds} IS NULL"},
            lambda role, found: (
                f"expected {expected} as timestamp, found {found}; {OPTIONS['time']} none reads no times"
            ),
        )
    forms = [_DATES] * len(staged.sources) if dates else _units(staged, table, seconds)
    for form in dict.fromkeys(forms):
        paths = [source.path for source, found in zip(staged.sources, forms, strict=True) if found == form]
        files = f"{paths[0]} and {len(paths) - 1:,} more" if paths[1:] else str(paths[0])
        if form == _DATES:
            tell(f"{files}: the timestamps are taken as {form}, in UTC if they name no zone")
        elif form != "seconds":
            tell(f"{files}: the timestamps are taken as {form} since 1970, and stored in seconds")
    if not dates and set(forms) != {"seconds"}:
        unit = staged.by_file([_UNITS[form] for form in forms])
        seconds = f"({seconds}) // ({unit}) - (({seconds}) % ({unit}) < 0)::BIGINT"  # // rounds towards zero
    return seconds, ", ".join(dict.fromkeys(forms))


def _units(staged: Staged, table: str, value: str) -> list[str]:
    """Return the unit of the numbers of each file. Raises DataError if the numbers of a file have several."""
    units = list(_UNITS)
    # As doubles, because the smallest integer has no absolute value.
    later = " + ".join(f"(size >= {_FIRST_TIME * per_second})::INT" for per_second in _UNITS.values())
    found = staged.rows(
        f"""SELECT file, later, min("$row") AS first, arg_min(value, "$row") FROM (
            SELECT *, {later} AS later FROM (
                SELECT "$row", {value} AS value, abs(({value})::DOUBLE) AS size,
                    {staged.by_file(range(len(staged.sources)))} AS file FROM {table}))
        WHERE later > 0 GROUP BY file, later ORDER BY file, first"""
    )
    forms, firsts = ["seconds"] * len(staged.sources), dict[int, int]()
    for file, later_units, row, number in found:
        unit = units[later_units - 1]
        if file in firsts:
            raise DataError(
                f"{staged.place(row)}: expected one unit for all timestamps, found {unit} ({number}) after "
                f"{forms[file]} ({firsts[file]})"
            )
        forms[file], firsts[file] = unit, number
    return forms
