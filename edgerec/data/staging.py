"""Staging: the rows of several files as one table of text in DuckDB, checked and fetched."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.ids import MISSING_IDS
from edgerec.data.sources import ATTEMPTS, Connection, Source, literal, others, quoted, run
from edgerec.errors import DataError
from edgerec.extras import require
from edgerec.tables.texts import text_array

WHOLE_FLOATS = r"(0|-?[1-9][0-9]*)(\.0+)?"
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
DATE = r"[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}([ T].*)?"
"""Patterns of texts: whole numbers without leading zeros, as 7 or 7.0, numbers, ISO dates with or without a time."""
_PLAIN = r"0|[1-9][0-9]*"
_SPACES = " \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_SPACES += "\u2028\u2029\u202f\u205f\u3000"
"""Characters that str.strip() removes."""


_THREAD_BYTES = 256 << 20
"""Memory that a thread of DuckDB needs at least."""


@contextmanager
def session(folder: Path | None = None, memory: int | None = None) -> Iterator[tuple[Connection, Path]]:
    """Open a DuckDB that loads no extensions, and a folder for temporary files, which is removed.

    Args:
        folder: folder for these files; by default the system's. With it, tables are in a file there, and in memory
            without it.
        memory: most bytes that DuckDB uses; by default its own limit, most of the machine's.

    Raises MissingExtraError.
    """
    duckdb = require("duckdb", "train")
    with tempfile.TemporaryDirectory(prefix="edgerec-read-", dir=folder) as scratch:
        settings: dict[str, Any] = {
            "temp_directory": str(Path(scratch) / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        }
        if memory is not None:
            threads = max(1, min(os.cpu_count() or 1, memory // _THREAD_BYTES))
            settings |= {"memory_limit": f"{memory >> 10}KiB", "threads": threads}
        tables = ":memory:" if folder is None else str(Path(scratch) / "tables.duckdb")
        connection = duckdb.connect(tables, config=settings)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            with ThreadPoolExecutor(1) as worker:
                yield _Interruptible(connection, worker), Path(scratch)
        finally:
            connection.close()


class _Interruptible:
    """A connection whose statements end at once on Ctrl-C, which DuckDB itself notices after minutes."""

    def __init__(self, connection: Connection, worker: ThreadPoolExecutor) -> None:
        self._connection, self._worker = connection, worker

    def execute(self, *statement: Any) -> Any:
        """Run a statement as DuckDB's connections do."""
        running = self._worker.submit(self._connection.execute, *statement)
        try:
            return running.result()
        except KeyboardInterrupt:
            self._connection.interrupt()
            wait([running])
            raise


def lock(connection: Connection, folder: Path | None = None) -> None:
    """Take files, except those of `folder`, the network and extensions from a connection for good; tables stay."""
    if folder is not None:
        connection.execute(f"SET allowed_directories = [{literal(folder)}]")
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")


class Staged:
    """The rows of files, in their order.

    The table `rows` has `$row`, which counts them from 0, `$line`, the line if it is known, a column `$ROLE` of each
    role, and other columns by their names; all of these are text, '' where there is none.

    Attributes:
        sources: the files.
        roles: roles that all files have a column for.
        n: number of rows.
    """

    def __init__(
        self,
        connection: Connection,
        sources: Sequence[Source],
        chosen: Sequence[Mapping[str, int]],
        more: Sequence[str] = (),
    ) -> None:
        """Read the files.

        Args:
            chosen: places of the columns of each file, by role.
            more: names of other columns to read, from the files that have them.

        Raises DataError for malformed lines, and for a file without rows.
        """
        self._connection, self.sources = connection, sources
        self.roles = [role for role in chosen[0] if all(role in places for places in chosen)]
        self._starts: list[int] = []
        columns = ", ".join(f"{quoted(name)} VARCHAR" for name in (*(f"${role}" for role in self.roles), *more))
        connection.execute(f'CREATE TABLE staged ("$line" BIGINT, {columns})')
        self.n = 0
        for source, places in zip(sources, chosen, strict=True):
            self._starts.append(self.n)
            values = [source.columns.index(name) if name in source.columns else None for name in more]
            baskets = source.lists.get(places["item"])
            self._read(source, [*(places[role] for role in self.roles), *values], baskets)
            found = self.one("SELECT count(*) FROM staged")
            if found == self.n:
                raise DataError(f"{source.path} holds no interactions, only {source.empty}")
            self.n = found
        selected = self._values()
        if self.one("SELECT count(*) = max(rowid) + 1 FROM staged"):
            connection.execute(f'CREATE VIEW rows AS SELECT rowid AS "$row", {selected} FROM staged')
        else:  # DuckDB's numbers have gaps after a file was read twice
            connection.execute(
                f'CREATE TABLE rows AS SELECT row_number() OVER () - 1 AS "$row", {selected} FROM staged; '
                "DROP TABLE staged"
            )

    def _values(self) -> str:
        """Return SQL of the columns, with ids of which all are whole numbers, such as 7.0, without fractions."""
        whole = []
        for column in [quoted(f"${role}") for role in ("user", "item") if role in self.roles]:
            test = f"regexp_full_match(NULLIF({column}, ''), {literal(WHOLE_FLOATS)})"
            if self.one(f"SELECT bool_or(contains({column}, '.')) AND bool_and({test}) FROM staged"):
                whole.append(f"regexp_replace({column}, '[.]0+$', '') AS {column}")
        return f"* REPLACE ({', '.join(whole)})" if whole else "*"

    def _read(self, source: Source, places: Sequence[int | None], baskets: str | None) -> None:
        """Read a file; each value of `baskets`, SQL of lists of items, is a row."""
        used = [source.columns[place] for place in places if place is not None]
        if twice := next((name for name in used if source.columns.count(name) > 1), None):
            raise DataError(f"{source.path} has several columns called {twice}; give each a name of its own")
        for _ in range(ATTEMPTS):
            values = ["NULL" if place is None else _clean(source.values[place]) for place in places]
            line, relation = source.line_number or "NULL", source.relation
            if source.where:
                relation += f" WHERE {source.where}"
            if baskets is not None:
                values[self.roles.index("item")] = _clean(quoted("$item"))
                relation = f'(SELECT {line} AS "$line", unnest({baskets}) AS "$item", * FROM {relation})'
                line = quoted("$line")
            self._connection.execute("BEGIN")
            statement = f"INSERT INTO staged SELECT {line}, {', '.join(values)} FROM {relation}"
            error = run(self._connection, statement, source.path, source.line_at, source.separator)
            self._connection.execute("COMMIT" if error is None else "ROLLBACK")
            if error is None:
                return
            source.recover(error)
        raise DataError(f"{source.path} cannot be read as a table ({error}); check its quotes and line ends")

    def one(self, query: str) -> Any:
        """Return the single value of a query."""
        return self._connection.execute(query).fetchone()[0]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        found: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
        return found

    def column(self, table: str, value: str) -> NDArray[Any]:
        """Return the (n,) values of an expression of SQL, in the order of the rows."""
        found = self._connection.execute(f'SELECT {value} AS value FROM {table} ORDER BY "$row"').fetchnumpy()["value"]
        return np.asarray(found)

    def by_file(self, values: Iterable[int]) -> str:
        """Return SQL of a number of each file, for the rows of the file."""
        starts = reversed(list(zip(self._starts, values, strict=True)))
        return "CASE " + " ".join(f'WHEN "$row" >= {start} THEN {value}' for start, value in starts) + " END"

    def place(self, row: int) -> str:
        """Return the file and the line of a row, for messages."""
        number = bisect_right(self._starts, row) - 1
        source = self.sources[number]
        line = self.one(f'SELECT "$line" FROM rows WHERE "$row" = {row}')
        return f"{source.path}, {source.unit} {line or source.line_of(row - self._starts[number])}"

    def refuse(self, table: str, faults: Mapping[str, str], reason: Callable[[str, str], str]) -> None:
        """Raise DataError for the first row of a table for which a condition holds.

        Args:
            faults: conditions of SQL by the role whose value is wrong.
            reason: returns the fault of a role's value, as it is shown.
        """
        found = []
        for role, fault in faults.items():
            query = f'SELECT count(*), min("$row"), arg_min("${role}", "$row") FROM {table} WHERE {fault}'
            count, row, value = self._connection.execute(query).fetchone()
            if count:
                found.append((row, count, role, value))
        if found:
            row, _, role, value = min(found)
            count = sum(count for _, count, *_ in found)
            raise DataError(f"{self.place(row)}: {reason(role, repr(value))}{others(count)}")

    def check(self, table: str, roles: Sequence[str]) -> None:
        """Raise DataError for the first row with a value that no id or rating can have."""
        faults = {role: FAULTS[role].format(quoted(f"${role}")) for role in roles if role in self.roles}
        self.refuse(table, faults, lambda role, found: REASONS[role].format(found=found))

    def ids(self, table: str, role: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the sorted ids of a role, int64 if all are plain integers, and the (n,) places of the rows' ids."""
        column = quoted(f"${role}")
        if self.one(f"SELECT bool_and({is_plain(column)}) FROM {table}"):
            ids, rows = np.unique(self.column(table, f"CAST({column} AS BIGINT)"), return_inverse=True)
            return ids, rows.astype(np.int64)
        # Texts are compared by bytes of UTF-8, which is the order of NumPy and Python.
        self._connection.execute(
            f"CREATE OR REPLACE TABLE ids AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS place "
            f"FROM (SELECT DISTINCT {column} AS id FROM {table})"
        )
        texts = [text for (text,) in self._connection.execute("SELECT id FROM ids ORDER BY place").fetchall()]
        return text_array(texts), self.column(f"{table} JOIN ids ON {column} = ids.id", "place")

    @staticmethod
    def text_query(table: str, roles: Sequence[str]) -> str:
        """Return the query of the last texts of roles of each item, NULL where there is none."""
        texts = (f'arg_max("${role}", "$row") FILTER ("${role}" <> \'\') AS {role}' for role in roles)
        return f'SELECT "$item" AS item, {", ".join(texts)} FROM {table} GROUP BY item'

    def texts(self, table: str, role: str, *, numbers: bool) -> dict[Any, str]:
        """Return the last text of a role of each item, by raw id; items without one are left out."""
        item = 'CAST("$item" AS BIGINT)' if numbers else '"$item"'
        query = f'SELECT {item}, arg_max("${role}", "$row") FROM {table} WHERE "${role}" <> \'\' GROUP BY ALL'
        return dict(self._connection.execute(query).fetchall())


FAULTS = {
    **dict.fromkeys(
        ("user", "item"),
        f"{{0}} IN ({', '.join(map(literal, ['', *sorted(MISSING_IDS)]))}) OR contains({{0}}, chr(0)) "
        "OR CASE WHEN starts_with({0}, '-') THEN regexp_full_match({0}, '-[0-9]+') ELSE false END",
    ),
    "rating": f"NOT (regexp_full_match({{0}}, {literal(NUMBER)}) AND "
    "coalesce(isfinite(TRY_CAST({0} AS DOUBLE)), false))",
}
"""Conditions of SQL for values that are refused, by role."""
REASONS = {
    "user": "expected a user id, an integer from 0 up or a text, found {found}",
    "item": "expected an item id, an integer from 0 up or a text, found {found}",
    "rating": "expected a finite number as rating, found {found}; --rating-column none reads no ratings",
}


def is_plain(value: str) -> str:
    """Return SQL that is true for a text that is a plain integer, as ids of which all are such are read."""
    return f"(regexp_full_match({value}, {literal(_PLAIN)}) AND TRY_CAST({value} AS BIGINT) IS NOT NULL)"


def _clean(value: str) -> str:
    """Return SQL of a text without spaces around it, '' if there is none."""
    # Trimming by a set of characters takes 20 times as long as finding that there is nothing to trim.
    bare = f"regexp_full_match({value}, '[!-~]([ -~]*[!-~])?')"
    return f"coalesce(CASE WHEN {bare} THEN {value} ELSE trim({value}, {literal(_SPACES)}) END, '')"
