"""Stages of a build of data that are larger than memory, through DuckDB: rows, pairs, ids, arrays and splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.data.attributes import copy_attributes
from edgerec.data.built import SPLIT_PARTS, ArrayWriter, BuiltInteractions, open_arrays, read_ids
from edgerec.data.interactions import COLUMNS, Interactions, user_ranges
from edgerec.data.readers import RATING, Reading, staged_rows
from edgerec.data.sources import Connection, literal
from edgerec.data.split import SplitSpec, assigned, check_parts
from edgerec.data.staging import Staged, is_plain, session
from edgerec.errors import DataError
from edgerec.files import write_json

SMALLEST_MEMORY = 256 << 20
_OWN_MEMORY = 192 << 20
"""Bytes of the limit that are left to Python, NumPy and a shard."""
_DUCKDB_SHARE = 0.75
"""Share of the rest that DuckDB may manage: its allocator and its readers need more than it counts."""


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        reading: how the sources are read, and which rows are dropped.
        min_user, min_item: minimum numbers of interactions of a user and of an item (k-core).
        attributes: file of items with titles or categories, which replace those of the sources.
        split: split whose parts are stored, or None.
        memory: most bytes of memory.

    Raises DataError for less memory than the smallest possible.
    """

    reading: Reading
    min_user: int = 1
    min_item: int = 1
    attributes: Path | None = None
    split: SplitSpec | None = None
    memory: int = 1 << 30

    def __post_init__(self) -> None:
        if self.memory < SMALLEST_MEMORY:
            raise DataError(f"a build needs at least {SMALLEST_MEMORY >> 20} MiB of memory, got {self.memory:,} bytes")

    def to_dict(self) -> dict[str, Any]:
        """Return everything that decides the result, as JSON."""
        return {
            "encoding": self.reading.encoding,
            "columns": dict(self.reading.columns),
            "where": self.reading.where,
            "min_rating": self.reading.min_rating,
            "min_user": self.min_user,
            "min_item": self.min_item,
            "item_attributes": None if self.attributes is None else str(self.attributes),
            "split": None if self.split is None else self.split.to_dict(),
        }


class Stages:
    """The stages of a build, each of which writes a folder of `work` from those of earlier ones.

    Attributes:
        all: name, function of the folder to write, and the files that are not needed after it, of each stage.
    """

    def __init__(self, files: dict[Path, int | None], items: Path | None, work: Path, options: BuildOptions) -> None:
        """Prepare the stages.

        Args:
            files: the sources, each with its part of a published split or None.
            items: file of titles and categories, or None.
            work: folder of the stages.
        """
        self._files, self._items, self._work, self._options = files, options.attributes or items, work, options
        self._memory = int((options.memory - _OWN_MEMORY) * _DUCKDB_SHARE)
        cored = options.min_user > 1 or options.min_item > 1
        self._pairs = work / ("core" if cored else "pairs") / "pairs.parquet"
        self.all: list[tuple[str, Callable[[Path], None], list[Path]]] = [
            ("read", self._read, []),
            ("pairs", self._pair, [work / "read" / "rows.parquet"]),
            *([("core", self._core, [work / "pairs" / "pairs.parquet"])] if cored else []),
            ("rank", self._rank, []),
            ("sort", self._sort, [self._pairs]),
            ("interactions", self._shards, [work / "sort" / "sorted.parquet"]),
            *([] if options.split is None else [("split", self._split, [])]),
        ]

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        with session(self._work, self._memory) as (connection, _):
            yield connection

    def _read(self, out: Path) -> None:
        """Write the rows that the filters leave as rows.parquet, and the texts of items as texts.parquet."""
        parts = [part for part in self._files.values() if part is not None]
        reading, memory = self._options.reading, self._memory
        with staged_rows(list(self._files), reading, parts=parts or None, folder=self._work, memory=memory) as rows:
            values = {
                "user": '"$user"',
                "item": '"$item"',
                "time": rows.seconds,
                "rating": f"CAST({RATING} AS FLOAT)" if "rating" in rows.staged.roles else None,
                "part": None if rows.parts is None else f"CAST({rows.parts} AS TINYINT)",
                "number": '"$row"',
            }
            listed = ", ".join(f"{value} AS {name}" for name, value in values.items() if value is not None)
            _copy(rows.connection, f"SELECT {listed} FROM {rows.table}", out / "rows.parquet")
            texts = [role for role in ("title", "category") if role in rows.staged.roles]
            _copy_texts(rows.connection, rows.table, texts, out / "texts.parquet")
            report = rows.report
        if self._items is not None:
            # A published folder's own table may be of other items.
            items = f"SELECT item FROM {_relation(out / 'rows.parquet')}" if self._options.attributes else None
            target = out / "attributes.parquet"
            copy_attributes(self._items, replace(reading, columns={}), target, self._work, self._memory, items)
        write_json(out / "report.json", asdict(report))

    def _pair(self, out: Path) -> None:
        """Write each pair of a user and an item once, with numbers instead of ids, and the ids of the numbers."""
        rows = _relation(self._work / "read" / "rows.parquet")
        with self._session() as connection:
            connection.execute("SET preserve_insertion_order = false")
            names = [name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()]
            for side in ("user", "item"):
                connection.execute(
                    f"CREATE TABLE {side}s AS SELECT id, CAST(row_number() OVER () - 1 AS INTEGER) AS code "
                    f"FROM (SELECT DISTINCT {side} AS id FROM {rows})"
                )
                plain = connection.execute(f"SELECT bool_and({is_plain('id')}) FROM {side}s").fetchone()[0]
                value = "CAST(id AS BIGINT) AS id" if plain else "id"
                _copy(connection, f"SELECT {value}, code FROM {side}s", out / f"{side}s.parquet")
            # The latest row of a pair: the time, and the place in the files at equal times, in one number.
            key = "number" if "time" not in names else "time::HUGEINT * 1099511627776 + number"
            latest = "".join(f", arg_max({name}, key) AS {name}" for name in ("time", "rating") if name in names)
            part = ", min(part) AS part" if "part" in names else ""
            columns = ", ".join(name for name in ("time", "rating", "part") if name in names)
            connection.execute(
                f"CREATE TABLE coded AS SELECT users.code AS user, items.code AS item, {key} AS key"
                f"{', ' + columns if columns else ''} FROM {rows} AS rows "
                "JOIN users ON rows.user = users.id JOIN items ON rows.item = items.id"
            )
            _copy(connection, f"SELECT user, item{latest}{part} FROM coded GROUP BY user, item", out / "pairs.parquet")
            count = connection.execute(f"SELECT count(*) FROM {_relation(out / 'pairs.parquet')}").fetchone()[0]
        report = json.loads((self._work / "read" / "report.json").read_bytes())
        write_json(out / "report.json", {**report, "repeats": report["rows"] - report["dropped"] - count})

    def _core(self, out: Path) -> None:
        """Drop users and items below the minimum counts until none remains."""
        least = {"user": self._options.min_user, "item": self._options.min_item}
        with self._session() as connection:
            connection.execute("SET preserve_insertion_order = false")
            alive = _relation(self._work / "pairs" / "pairs.parquet")
            count = connection.execute(f"SELECT count(*) FROM {alive}").fetchone()[0]
            for number in range(1, count + 2):
                frequent = " ".join(
                    f"SEMI JOIN (SELECT {side} FROM {alive} GROUP BY {side} HAVING count(*) >= {minimum}) "
                    f"USING ({side})"
                    for side, minimum in least.items()
                )
                connection.execute(f"CREATE TABLE alive{number} AS SELECT * FROM {alive} {frequent}")
                if number > 1:
                    connection.execute(f"DROP TABLE {alive}")
                alive = f"alive{number}"
                before, count = count, connection.execute(f"SELECT count(*) FROM {alive}").fetchone()[0]
                if count in (0, before):
                    break
            if not count:
                raise DataError(
                    f"0 interactions after filtering with min_user={least['user']}, min_item={least['item']}; "
                    "lower the minimum counts"
                )
            _copy(connection, f"SELECT * FROM {alive}", out / "pairs.parquet")

    def _rank(self, out: Path) -> None:
        """Write the ids by popularity, with titles and categories, and the rows of the numbers of `_pair`."""
        with self._session() as connection:
            for side in ("user", "item"):
                connection.execute(
                    f"CREATE TABLE {side}s AS SELECT CAST(row_number() OVER (ORDER BY count DESC, id) - 1 AS INTEGER) "
                    f"AS row, id, count, code FROM (SELECT {side} AS code, count(*) AS count "
                    f"FROM {_relation(self._pairs)} GROUP BY {side}) "
                    f"JOIN {_relation(self._work / 'pairs' / f'{side}s.parquet')} USING (code)"
                )
                _copy(connection, f"SELECT code, row FROM {side}s ORDER BY code", out / f"{side}_rows.parquet")
            _copy(connection, "SELECT row, id, count FROM users ORDER BY row", out / "users.parquet")
            texts, joins = self._texts(connection)
            _copy(connection, f"SELECT row, id, count{texts} FROM items {joins} ORDER BY row", out / "items.parquet")

    def _texts(self, connection: Connection) -> tuple[str, str]:
        """Return SQL of the texts of `items`, those of the file of items first, and of the joins they need."""
        texts, joins = dict[str, str](), []
        for name in ("texts", "attributes"):
            path = self._work / "read" / f"{name}.parquet"
            if not path.exists():
                continue
            roles = [role for role, *_ in connection.execute(f"DESCRIBE SELECT * FROM {_relation(path)}").fetchall()]
            texts |= {role: f"coalesce({name}.{role}, '')" for role in roles if role != "item"}
            joins.append(f"LEFT JOIN {_relation(path)} AS {name} ON CAST(items.id AS VARCHAR) = {name}.item")
        return "".join(f", {value} AS {role}" for role, value in texts.items()), " ".join(joins)

    def _sort(self, out: Path) -> None:
        """Write the pairs in rows, by user, time and item."""
        with self._session() as connection:
            names = [
                name
                for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {_relation(self._pairs)}").fetchall()
                if name not in ("user", "item")
            ]
            listed = "".join(f", {name}" for name in names)
            time = "time, " if "time" in names else ""
            rows = {side: _relation(self._work / "rank" / f"{side}_rows.parquet") for side in ("user", "item")}
            _copy(
                connection,
                f"SELECT users.row AS user, items.row AS item{listed} FROM {_relation(self._pairs)} AS pairs "
                f"JOIN {rows['user']} AS users ON pairs.user = users.code "
                f"JOIN {rows['item']} AS items ON pairs.item = items.code ORDER BY users.row, {time}items.row",
                out / "sorted.parquet",
            )

    def _shards(self, out: Path) -> None:
        """Write the arrays, shard by shard."""
        relation = _relation(self._work / "sort" / "sorted.parquet")
        with self._session() as connection:
            counts = connection.execute(
                f"SELECT count FROM {_relation(self._work / 'rank' / 'users.parquet')} ORDER BY row"
            ).fetchnumpy()["count"]
            names = {"item": "indices", "time": "timestamps", "rating": "ratings", "part": "parts"}
            found = [name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
            columns = {name: column for name, column in names.items() if name in found}
            writer = ArrayWriter(out, list(columns.values()))
            for first, end in user_ranges(np.concatenate([[0], np.cumsum(counts)])):
                shard = connection.execute(
                    f"SELECT {', '.join(columns)} FROM {relation} WHERE user BETWEEN {first} AND {end - 1}"
                ).fetchnumpy()
                writer.append(counts[first:end], {column: shard[name] for name, column in columns.items()})
            writer.close()

    def _split(self, out: Path) -> None:
        """Write the parts of the split, shard by shard."""
        spec = self._options.split
        if spec is None:
            return
        whole = open_unnamed(self._work / "interactions", self._work / "rank" / "items.parquet")
        columns = [name for name in COLUMNS if name != "parts" and getattr(whole, name) is not None]
        writers = [ArrayWriter(out / name, columns) for name in SPLIT_PARTS]
        lengths = [0, 0, 0]
        for shard, numbers in assigned(whole, spec):
            for number, writer in enumerate(writers):
                part = shard.select(numbers == number)
                lengths[number] += len(part)
                writer.append(part.user_counts(), {name: getattr(part, name) for name in columns})
        for writer in writers:
            writer.close()
        check_parts(spec, lengths[0], lengths[2])


def open_unnamed(folder: Path, items: Path) -> Interactions:
    """Map the arrays of a folder, with rows as ids.

    Args:
        items: the file of items, whose ids are counted.
    """
    columns = [name for name in COLUMNS if (folder / f"{name}.npy").exists()]
    arrays = open_arrays(folder, columns)
    return BuiltInteractions(np.arange(len(arrays["indptr"]) - 1), np.arange(len(read_ids(items)[0])), **arrays)


def _relation(path: Path) -> str:
    return f"read_parquet({literal(path)})"


def _copy(connection: Connection, query: str, path: Path) -> None:
    connection.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet)")


def _copy_texts(connection: Connection, table: str, roles: Sequence[str], path: Path) -> None:
    if roles:
        _copy(connection, Staged.text_query(table, roles), path)
