"""Build of data that are larger than memory: sources in, a folder of `edgerec.data.built` out, through DuckDB.

Each stage writes a folder of FOLDER/build, which takes its name when it is complete; a build that was killed continues
after the last complete stage. What no later stage reads is removed as soon as a stage is complete.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.data.attributes import copy_attributes, has_attributes
from edgerec.data.built import (
    FILE_NAME,
    FORMAT,
    PLAN,
    SPLIT_PARTS,
    VERSION,
    WORK,
    ArrayWriter,
    BuiltInteractions,
    open_arrays,
    open_built,
    read_about,
    read_ids,
)
from edgerec.data.folders import find_interactions, find_items
from edgerec.data.interactions import COLUMNS, Interactions, user_ranges
from edgerec.data.named import find_files, name_of
from edgerec.data.readers import RATING, Reading, ReadReport, staged_rows
from edgerec.data.sources import Connection, literal
from edgerec.data.split import SplitSpec, assigned, check_parts
from edgerec.data.staging import Staged, is_plain, session
from edgerec.errors import DataError, OutputError, StorageError, reason_of
from edgerec.extras import require
from edgerec.files import filling, read_if_there, storage_failure, sync_folder, write_json
from edgerec.json_records import parse_json

_PLAN_FORMAT = "edgerec.build"
SMALLEST_MEMORY = 256 << 20
_OWN_MEMORY = 192 << 20
"""Bytes of the limit that are left to Python, NumPy and a shard."""
_DUCKDB_SHARE = 0.75
"""Share of the rest that DuckDB may manage: its allocator and its readers need more than it counts."""
Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, its number from 1, and the number of stages."""


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


def build_data(
    sources: Sequence[str], folder: Path, options: BuildOptions, progress: Progress | None = None
) -> Interactions:
    """Build a folder of interactions from files, within a limit of memory; continue a build that was interrupted.

    Ids are in the order of popularity, equal ones in the order of the ids. Of a repeated pair the latest is used. The
    interactions of a user are in the order of time. A complete build of the same sources and options is returned.

    Args:
        sources: files, patterns of files, or one folder of a published data set.
        folder: new or empty folder, or one of an unfinished build of the same sources and options.

    Raises:
        MissingExtraError: DuckDB is not installed.
        OutputError: the folder holds other files, or another build.
        InUseError: another process builds into the folder.
        DataError: malformed data, nothing is left by the filters, or DuckDB needs more memory.
        StorageError: a file cannot be read, the disk is full.
    """
    found = [file for source in sources for file in find_files(source)]
    files, items = _files(found)
    plan = {"format": _PLAN_FORMAT, "version": VERSION, "files": _identities(files), "options": options.to_dict()}
    _check_place(folder, plan)
    with filling(folder):
        if not (folder / FILE_NAME).exists():
            try:
                build = _Build(name_of(found), files, items, folder, plan, options)
                build.run(progress or (lambda name, number, count: None))
            except OSError as error:
                storage_failure(folder, error, "write")
        shutil.rmtree(folder / WORK, ignore_errors=True)
    return open_built(folder)[0]


def _files(found: Sequence[Path]) -> tuple[dict[Path, int | None], Path | None]:
    """Return the files of sources, each with its part of a published split, and a file of items. Raises DataError."""
    folders = [file for file in found if file.is_dir()]
    if not folders:
        return dict.fromkeys(found), None
    if len(found) > 1:
        raise DataError(f"{folders[0]} is a folder among other sources; give one folder alone, or files")
    files = find_interactions(folders[0])
    if not files:
        raise DataError(f"{folders[0]} holds no interactions that can be read; give its files, or a pattern of them")
    items = next((path for path in find_items(folders[0]) if has_attributes(path, Reading())), None)
    return files, items


def _identities(files: Sequence[Path] | dict[Path, int | None]) -> list[list[Any]]:
    try:
        found = [(path.resolve(), path.stat()) for path in files]
    except OSError as error:
        storage_failure(next(iter(files)), error, "read")
    return [[str(path), about.st_size, about.st_mtime_ns] for path, about in found]


def _check_place(folder: Path, plan: dict[str, Any]) -> None:
    """Raise OutputError if a folder holds anything but this build."""
    try:
        entries = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        begun = [path.name for path in (folder / WORK).iterdir()] if WORK in entries else []
    except OSError as error:
        storage_failure(folder, error, "read")
    if not folder.is_dir() and folder.exists():
        raise OutputError(f"{folder} is a file; choose another --out")
    about = read_about(folder) if FILE_NAME in entries else None
    stored = _read_plan(folder) if about is None else {**plan, "files": about["files"], "options": about["options"]}
    if stored == plan or not entries or (entries == [WORK] and all(name.endswith(".part") for name in begun)):
        return
    if stored is None:
        raise OutputError(
            f"{folder} holds {entries[0]}, which 'edgerec data build' did not write; choose another --out, or an empty "
            "folder"
        )
    raise OutputError(
        f"{folder} holds {'an unfinished' if about is None else 'a'} build of other sources or options; choose another "
        "--out, or delete it"
    )


def _read_plan(folder: Path) -> dict[str, Any] | None:
    content = read_if_there(folder / WORK / PLAN)
    try:
        plan = None if content is None else parse_json(content)
    except ValueError:
        return None
    return plan if isinstance(plan, dict) and plan.get("format") == _PLAN_FORMAT else None


class _Build:
    """The stages of a build, in the folder `build` of its result."""

    def __init__(
        self,
        name: str,
        files: dict[Path, int | None],
        items: Path | None,
        folder: Path,
        plan: dict[str, Any],
        options: BuildOptions,
    ) -> None:
        self._name, self._files = name, files
        self._items, self._options = options.attributes or items, options
        self._folder, self._work, self._plan = folder, folder / WORK, plan
        self._memory = int((options.memory - _OWN_MEMORY) * _DUCKDB_SHARE)
        cored = options.min_user > 1 or options.min_item > 1
        self._pairs = self._work / ("core" if cored else "pairs") / "pairs.parquet"
        stages: list[tuple[str, Callable[[Path], None], list[Path]]] = [
            ("read", self._read, []),
            ("pairs", self._pair, [self._work / "read" / "rows.parquet"]),
            *([("core", self._core, [self._work / "pairs" / "pairs.parquet"])] if cored else []),
            ("rank", self._rank, []),
            ("sort", self._sort, [self._pairs]),
            ("interactions", self._shards, [self._work / "sort" / "sorted.parquet"]),
            *([] if options.split is None else [("split", self._split, [])]),
        ]
        self._stages = stages

    def run(self, progress: Progress) -> None:
        """Run the stages that are not complete, then install their results. Raises as `build_data` does."""
        self._work.mkdir(exist_ok=True)
        complete = {name for name, *_ in self._stages}
        for path in self._work.iterdir():  # a killed stage's files
            if path.is_dir() and path.name not in complete:
                shutil.rmtree(path)
        write_json(self._work / PLAN, self._plan)
        for number, (name, stage, spent) in enumerate(self._stages, 1):
            if not (self._work / name).exists() and not (self._folder / name).exists():
                progress(name, number, len(self._stages))
                part = self._work / f"{name}.part"
                part.mkdir()
                try:
                    with _named_errors(self._folder):
                        stage(part)
                    sync_folder(part)
                except BaseException:
                    shutil.rmtree(part, ignore_errors=True)
                    raise
                part.rename(self._work / name)
            for path in spent:
                path.unlink(missing_ok=True)
        self._install()

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
            copy_attributes(
                self._items, replace(reading, columns={}), out / "attributes.parquet", self._work, self._memory
            )
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
        whole = self._opened(self._work / "interactions")
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

    def _opened(self, folder: Path) -> Interactions:
        """Return the interactions of a folder, with rows as ids."""
        columns = [name for name in COLUMNS if (folder / f"{name}.npy").exists()]
        arrays = open_arrays(folder, columns)
        n_items = len(read_ids(self._place("items.parquet"))[0])
        return BuiltInteractions(np.arange(len(arrays["indptr"]) - 1), np.arange(n_items), **arrays, name=self._name)

    def _place(self, name: str) -> Path:
        return self._folder / name if (self._folder / name).exists() else self._work / "rank" / name

    def _install(self) -> None:
        """Move the results into the folder, `dataset.json` last."""
        report = json.loads((self._work / "pairs" / "report.json").read_bytes())
        for source in ("rank/users.parquet", "rank/items.parquet", "interactions", "split"):
            path = self._work / source
            if path.exists():
                path.rename(self._folder / path.name)
        sync_folder(self._folder)
        arrays = self._opened(self._folder / "interactions")
        ids = [read_ids(self._folder / f"{side}.parquet")[0] for side in ("users", "items")]
        whole = replace(arrays, user_ids=ids[0], item_ids=ids[1])
        write_json(
            self._folder / FILE_NAME,
            {
                "format": FORMAT,
                "version": VERSION,
                "name": whole.name,
                "counts": {"users": whole.n_users, "items": whole.n_items, "interactions": len(whole)},
                "fingerprint": whole.fingerprint(),
                **{name: self._plan[name] for name in ("files", "options")},
                "report": asdict(ReadReport(**report)),
                "columns": [name for name in COLUMNS if getattr(whole, name) is not None],
                "shards": [0, *(end for _, end in user_ranges(whole.indptr))],
                "split": self._plan["options"]["split"],
            },
        )


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    """Turn errors of DuckDB into those of EdgeRec."""
    try:
        yield
    except require("duckdb", "train").Error as error:
        said = reason_of(error).splitlines()[0]
        if "No space left" in said or "max_temp_directory_size" in said:
            storage_failure(folder, OSError(errno.ENOSPC, said), "write")
        if said.startswith("Out of Memory"):
            raise DataError(f"the build needs more memory ({said}); give the same command a larger --memory") from error
        raise StorageError(f"the build in {folder} failed ({said}); give the same command again") from error


def _relation(path: Path) -> str:
    return f"read_parquet({literal(path)})"


def _copy(connection: Connection, query: str, path: Path) -> None:
    connection.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet)")


def _copy_texts(connection: Connection, table: str, roles: Sequence[str], path: Path) -> None:
    if roles:
        _copy(connection, Staged.text_query(table, roles), path)
