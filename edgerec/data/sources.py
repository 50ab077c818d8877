"""Sources: what each file of a data set offers to DuckDB, columns of text in the order of the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgerec.data.text import PARQUET, FirstLine, TextFile, as_header, has_quotes, magic
from edgerec.errors import DataError, StorageError, reason_of
from edgerec.extras import require

Connection = Any
"""A connection of DuckDB."""

_KEY_LINES = 1000
"""Number of JSON lines whose keys are looked at."""
_FIRST_TIME = 100_000_000
"""Seconds from 1970 to a day in 1973: smaller than any rating's timestamp, larger than nearly all item numbers."""
_HEADERLESS = ("user", "item", "rating", "timestamp")
_MOST_REJECTS = 10_000
_BETWEEN = "'|'"
"""SQL of the separator between the values of a list, which is MovieLens' of genres."""
_BUFFER = 8 << 20
"""Bytes that are parsed at a time, for small limits of memory: DuckDB takes 32 million, twice."""
ATTEMPTS = 3
"""Number of readings of a file: as it is, in another encoding, and with other line ends."""
NOT_UTF8, MIXED_ENDS = "INVALID ENCODING", "INVALID STATE"
"""Kinds of errors, in DuckDB's words, that another reading avoids."""


@dataclass
class Source:
    """A file, and how its columns are selected.

    Attributes:
        path: the file.
        columns: names of its columns.
        relation: SQL of a relation.
        values: SQL of each column's value in it, as text.
        where: SQL of the rows that count, or ''.
        unit: how messages number rows, 'line' or 'row'.
        line_number: SQL of the line, for relations of one line a row; '' if `line_of` finds it.
        line_of: returns the line of a row, counted from 0.
        line_at: returns the line at a place in bytes.
        recover: called with the kind of an error of `run`, before reading is tried again.
        headerless: True if the names of columns were given by their order.
        empty: what a file without rows holds.
        separator: what stands between columns, for messages.
        lists: SQL of the values of each column that holds lists, by its place; an item column of lists is a basket.
    """

    path: Path
    columns: list[str]
    relation: str
    values: list[str]
    where: str = ""
    unit: str = "line"
    line_number: str = ""
    line_of: Callable[[int], int] = lambda row: row + 1
    line_at: Callable[[int], int] = lambda place: 0
    recover: Callable[[str], None] = lambda error: None
    headerless: bool = False
    empty: str = "a header"
    separator: str = ""
    lists: Mapping[int, str] = field(default_factory=dict)


def open_source(
    connection: Connection,
    path: Path,
    scratch: Path,
    encoding: str | None,
    tell: Callable[[str], None],
    given: Sequence[str],
    *,
    attributes: bool = False,
) -> Source:
    """Return the source of a file, whose content decides, not its name.

    Args:
        connection: of DuckDB.
        scratch: folder for copies of files that DuckDB cannot read as they are.
        encoding: encoding of a text file, or None.
        tell: called with a line of text about each assumption.
        given: names of columns that the user gave.
        attributes: True for a table of items, whose rows may end before the last column.

    Raises:
        DataError: the file is empty, damaged or malformed.
        StorageError: it cannot be read.
    """
    if magic(path) == PARQUET:
        return _parquet(connection, path)
    text = TextFile.open(path, scratch, encoding, tell, lambda a, b: _decompress(connection, a, b))
    first = text.first_line()
    if first.separator in ("{", "["):
        return _json(connection, text, array=first.separator == "[")
    first = FirstLine(first.separator, first.fields, as_header(first, list(given)))
    if first.separator == " ":
        return _spaces(connection, text, first) if first.is_header else _adjacency(connection, text)
    return _table(text, first, attributes=attributes)


def literal(text: str | Path) -> str:
    """Return a text as a literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def damaged(path: Path, error: BaseException) -> DataError:
    """Return the error of a file that DuckDB cannot read. Raises StorageError if the disk is full."""
    said = reason_of(error).splitlines()[0]
    if said.startswith("Out of Memory"):
        return DataError(
            f"{path} needs more memory than is free ({said}); close other programs, read fewer files, or give 'edgerec "
            "data build' a larger --memory"
        )
    if "No space left" in said or "max_temp_directory_size" in said:
        raise StorageError(f"cannot read {path}: {said}; free space on the disk of temporary files") from error
    return DataError(f"{path} is cut short or damaged ({said}); download or copy it again")


def _parquet(connection: Connection, path: Path) -> Source:
    relation = f"read_parquet({_file(path)})"
    try:
        found = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    except _error() as error:
        raise damaged(path, error) from error
    columns = [name for name, *_ in found]
    # A double that is a whole number is written without a fraction, as pandas stores ids with missing values.
    values = [_text(quoted(name), kind) for name, kind, *_ in found]
    lists = {place: f"{quoted(name)}::VARCHAR[]" for place, (name, kind, *_) in enumerate(found) if kind.endswith("]")}
    if lists:  # a basket takes several rows, so that rows are numbered before
        relation = f'(SELECT row_number() OVER () AS "$row_of_file", * FROM {relation})'
        return Source(path, columns, relation, values, unit="row", line_number='"$row_of_file"', lists=lists)
    return Source(path, columns, relation, values, unit="row")


def _text(name: str, kind: str) -> str:
    if kind.endswith("]"):
        return f"array_to_string({name}::VARCHAR[], {_BETWEEN})"
    text = f"{name}::VARCHAR"
    if kind.startswith(("DOUBLE", "FLOAT", "DECIMAL")):
        return f"CASE WHEN {name} = floor({name}) AND abs({name}) < 1e15 THEN {name}::BIGINT::VARCHAR ELSE {text} END"
    return text


def _table(text: TextFile, first: FirstLine, *, attributes: bool) -> Source:
    separator, width = first.separator, len(first.fields)
    quote = '"' if has_quotes(separator) else ""
    names = [f"c{place}" for place in range(width)]
    kinds = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    # A table of items may leave the last fields out; two threads cannot tell such a line from a quoted one.
    ragged = ", null_padding=true, parallel=false" if attributes else ""

    def relation() -> str:
        return (
            f"read_csv({_file(text.plain)}, auto_detect=false, header=false, skip={text.blank + first.is_header}, "
            f"delim={literal(separator)}, quote='{quote}', escape='{quote}', columns={{{kinds}}}, "
            f"compression='none', buffer_size={_BUFFER}, store_rejects=true, rejects_limit={_MOST_REJECTS}{ragged})"
        )

    def line_of(row: int) -> int:
        return text.line_of(row + first.is_header, separator, quotes=bool(quote))

    def recover(error: str) -> None:
        _other_reading(text, error)
        source.relation = relation()

    source = Source(
        text.path,
        first.fields if first.is_header else _names(width),
        relation(),
        names,
        line_of=line_of,
        line_at=text.line_at,
        recover=recover,
        headerless=not first.is_header,
        separator=separator,
    )
    return source


def _names(width: int) -> list[str]:
    """Return the names of the columns of a table without a header: by their order if there are 2 to 4, else numbers."""
    return list(_HEADERLESS[:width]) if width <= len(_HEADERLESS) else [str(place + 1) for place in range(width)]


def _json(connection: Connection, text: TextFile, *, array: bool) -> Source:
    """Read objects, one a line or in an array."""
    unit, lines = ("row", _elements(connection, text)) if array else ("line", _lines(connection, text))
    is_object = "CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END"
    bad = f"trim(line) <> '' AND NOT {is_object}"
    reason = "expected a JSON object, found {!r}".format
    _refuse(connection, lines, bad, text.path, lambda line: reason(line.strip()[:60]), unit)
    where = "trim(line) <> ''"
    some = f"(SELECT line FROM {lines} WHERE {where} LIMIT {_KEY_LINES})"
    keys = connection.execute(f"SELECT DISTINCT unnest(json_keys(line)) FROM {some}").fetchall()
    columns = sorted(key for (key,) in keys)
    found = [_JSONValue('$."' + key.replace('"', '\\"') + '"') for key in columns]
    tests = ", ".join(f"coalesce(bool_or({one.is_list}), false)" for one in found)
    _, *held = connection.execute(f"SELECT count(*), {tests} FROM {lines} WHERE contains(line, '[')").fetchone()
    return Source(
        text.path,
        columns,
        lines,
        [one.text for one in found],
        where=where,
        unit=unit,
        line_number="rowid + 1",
        lists={place: one.values for place, one in enumerate(found) if held[place]},
    )


class _JSONValue:
    """SQL of the value at a path of `line`.

    Attributes:
        is_list: whether it is a list.
        text: its text, with the values of a list between separators.
        values: list of its values, of itself if it is none.
    """

    def __init__(self, path: str) -> None:
        value = f"json_extract_string(line, {literal(path)})"
        listed = f"json_extract_string(line, {literal(path + '[*]')})"
        self.is_list = f"starts_with({value}, '[') AND json_type(line, {literal(path)}) = 'ARRAY'"
        self.text = f"CASE WHEN {self.is_list} THEN array_to_string({listed}, {_BETWEEN}) ELSE {value} END"
        self.values = f"CASE WHEN {self.is_list} THEN {listed} ELSE [{value}] END"


def _elements(connection: Connection, text: TextFile) -> str:
    """Return a table of the elements of a JSON array."""
    table = quoted(f"lines of {text.plain}")
    array = f"read_json_objects({_file(text.plain)}, format='array', compression='none')"
    run(connection, f"CREATE TABLE {table} AS SELECT json::VARCHAR AS line FROM {array}", text.path, text.line_at)
    return table


def _spaces(connection: Connection, text: TextFile, first: FirstLine) -> Source:
    lines, width = _lines(connection, text), len(first.fields)
    fields = r"string_split_regex(trim(line), '\s+')"

    def reason(line: str) -> str:
        found = len(line.split())
        return f"expected {width} columns separated by ' ', found {found or 'a blank line'}"

    where = f"rowid > {text.blank} AND trim(line) <> ''"
    _refuse(connection, lines, f"{where} AND len({fields}) <> {width}", text.path, reason)
    values = [f"{fields}[{place + 1}]" for place in range(width)]
    return Source(text.path, first.fields, lines, values, where=where, line_number="rowid + 1")


def _adjacency(connection: Connection, text: TextFile) -> Source:
    """Read LightGCN's lines `user item item ...`; a user may have no item."""
    lines = _lines(connection, text)

    def reason(line: str) -> str:
        plain = re.compile(r"0|[1-9][0-9]*")
        found = next((repr(one) for one in line.split() if not plain.fullmatch(one)), "a blank line")
        return f"expected 'user item item ...', integers from 0 up, found {found}"

    pattern = r"\s*(0|[1-9][0-9]*)(\s+(0|[1-9][0-9]*))*\s*"
    # Blank lines at the end do not count.
    last = f"(SELECT max(rowid) FROM {lines} WHERE trim(line) <> '')"
    bad = f"rowid <= {last} AND NOT coalesce(regexp_full_match(line, {literal(pattern)}), false)"
    _refuse(connection, lines, bad, text.path, reason)
    fields = r"string_split_regex(trim(line), '\s+')"
    rated = f"len({fields}) = 4 AND (len({fields}[4]) > 18 OR TRY_CAST({fields}[4] AS BIGINT) >= {_FIRST_TIME})"
    if connection.execute(f"SELECT bool_and({rated}) FROM {lines} WHERE trim(line) <> ''").fetchone()[0]:
        raise DataError(
            f"{text.path} looks like 'user item rating timestamp' between spaces, and would be read as 'user item item "
            "...'; separate the columns by tabs or commas"
        )
    relation = (
        f"(SELECT rowid AS number, {fields}[1] AS c0, unnest({fields}[2:]) AS c1 FROM {lines} WHERE trim(line) <> '')"
    )

    return Source(text.path, ["user", "item"], relation, ["c0", "c1"], line_number="number + 1", empty="users")


def _lines(connection: Connection, text: TextFile) -> str:
    """Return a table of the lines of a file, in their order: `line` is NULL for an empty one."""
    table = quoted(f"lines of {text.plain}")
    for _ in range(ATTEMPTS):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
        relation = _line_relation(text.plain)
        error = run(connection, f"CREATE TABLE {table} AS SELECT line FROM {relation}", text.path, text.line_at)
        if error is None:
            return table
        _other_reading(text, error)
    raise DataError(f"{text.path} is not a text file of lines ({error})")


def _other_reading(text: TextFile, error: str) -> None:
    """Change how a file is read after an error of `run`. Raises DataError."""
    if error == NOT_UTF8:
        text.not_utf8()
    else:
        text.unify_line_ends()


def _line_relation(path: Path, options: str = "compression='none'") -> str:
    return (
        f"read_csv({_file(path)}, auto_detect=false, header=false, delim='\x01', quote='', escape='', "
        f"columns={{'line': 'VARCHAR'}}, {options}, buffer_size={_BUFFER}, store_rejects=true, "
        f"rejects_limit={_MOST_REJECTS})"
    )


def run(
    connection: Connection, statement: str, path: Path, line_at: Callable[[int], int], separator: str = ""
) -> str | None:
    """Run a statement that reads a text file; return the kind of an error that another reading may avoid, or None.

    Args:
        line_at: returns the line at a place in bytes.
        separator: what stands between columns, for messages.

    Raises DataError for malformed lines, with the first of them and the number of the others.
    """
    for table in ("reject_errors", "reject_scans"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    try:
        connection.execute(statement)
    except _error() as error:
        if "invalid state" in reason_of(error):
            return MIXED_ENDS
        raise damaged(path, error) from error
    if not connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchone()[0]:
        return None
    rejected = connection.execute(
        "SELECT error_type, error_message, line_byte_position FROM reject_errors ORDER BY line_byte_position"
    ).fetchall()
    kinds = {kind for kind, *_ in rejected}
    for kind in (NOT_UTF8, MIXED_ENDS):
        if kind in kinds:
            return kind
    if rejected:
        kind, message, place = rejected[0]
        # DuckDB counts places from 1, and its lines leave blank ones out.
        count = len({place for *_, place in rejected})  # a line has an error for each column that is missing
        raise DataError(f"{path}, line {line_at(place - 1)}: {_fault(kind, message, separator)}{others(count)}")
    return None


def others(count: int) -> str:
    """Return what a message says about further malformed lines than the one it names."""
    if count <= 2:
        return "" if count <= 1 else "; another line is malformed too"
    return f"; {count - 1:,}{' or more' if count >= _MOST_REJECTS else ''} other lines are malformed too"


def _fault(kind: str, message: str, separator: str) -> str:
    numbers = re.findall(r"\d+", message)
    if kind in ("MISSING COLUMNS", "TOO MANY COLUMNS") and len(numbers) >= 2:
        return f"expected {numbers[0]} columns separated by {separator!r}, found {numbers[1]}"
    if "line size" in message.lower() and len(numbers) >= 2:
        return f"expected a line of at most {int(numbers[0]):,} bytes, found {int(numbers[1]):,}; a quote may be open"
    if kind == "UNQUOTED VALUE":
        return "expected a value in quotes to end with a quote and a separator"
    return message.splitlines()[0]


def _refuse(
    connection: Connection, lines: str, bad: str, path: Path, reason: Callable[[str], str], unit: str = "line"
) -> None:
    found = connection.execute(f"SELECT rowid, coalesce(line, '') FROM {lines} WHERE {bad} ORDER BY rowid").fetchmany(2)
    if found:
        count = connection.execute(f"SELECT count(*) FROM {lines} WHERE {bad}").fetchone()[0]
        raise DataError(f"{path}, {unit} {found[0][0] + 1}: {reason(found[0][1])}{others(count)}")


def _decompress(connection: Connection, path: Path, target: Path) -> None:
    """Decompress the lines of a zstd file, which Python cannot. Raises DataError for text that is not UTF-8."""
    options = "FORMAT csv, HEADER false, QUOTE '', DELIMITER '\x01'"
    for strict in (True, False):  # DuckDB takes mixed line ends if it is not strict
        relation = _line_relation(path, f"compression='zstd', strict_mode={strict}")
        copy = f"COPY (SELECT line FROM {relation}) TO {literal(target)} ({options})"
        error = run(connection, copy, path, lambda place: 0)
        if error is None:
            return
    raise DataError(f"{path} is compressed by zstd, and its text is not UTF-8; decompress it first (zstd -d)")


def _file(path: Path) -> str:
    """Return the literal of a file, whose name may look like a pattern of names."""
    return literal(re.sub(r"([*?\[])", r"[\1]", str(path)))


def _error() -> type[Exception]:
    error: type[Exception] = require("duckdb", "train").Error
    return error
