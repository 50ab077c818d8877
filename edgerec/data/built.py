"""Built data: a folder of memory-mapped interactions that `edgerec data build` writes, and every command reads.

    FOLDER/
      dataset.json                            format, counts, fingerprint, options, shards; written last
      users.parquet, items.parquet            row, id, count, and titles and categories of items; by popularity
      interactions/indptr.npy                 (n_users + 1,) int64
      interactions/indices.npy                (n,) int32 item rows, of each user by time, then ascending
      interactions/{timestamps,ratings,parts}.npy    (n,) int64, float32, int8, as far as the data have them
      split/{train,validation,test}/          the same of each part of a stored split

A shard is a range of users, whose interactions are consecutive in every array: it is read without the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgerec.data.interactions import COLUMNS, Ids, Interactions, release
from edgerec.data.readers import ReadReport
from edgerec.data.sources import literal
from edgerec.data.staging import session
from edgerec.errors import DataError, reason_of
from edgerec.extras import require
from edgerec.files import read_if_there, storage_failure, sync
from edgerec.json_records import parse_json, record
from edgerec.tables.texts import Texts, text_array

FORMAT, VERSION = "edgerec.dataset", 1
FILE_NAME = "dataset.json"
WORK, PLAN = "build", "plan.json"
"""The folder of an unfinished build, and its file of sources and options."""
SPLIT_PARTS = ("train", "validation", "test")
"""Folders of the parts of a stored split."""
_TYPES: Mapping[str, DTypeLike] = {
    "indptr": np.int64,
    "indices": np.int32,
    "ratings": np.float32,
    "timestamps": np.int64,
    "parts": np.int8,
}


class _Counts(TypedDict):
    users: int
    items: int
    interactions: int


class Dataset(TypedDict):
    """The content of `dataset.json`."""

    version: int
    name: str
    counts: _Counts
    fingerprint: str
    files: list[list[Any]]
    """Path, bytes, and time of change in nanoseconds of each source."""
    options: dict[str, Any]
    report: dict[str, Any]
    columns: list[str]
    shards: list[int]
    """User rows at which shards begin, and the number of users."""
    split: NotRequired[dict[str, Any] | None]


@dataclass(frozen=True)
class BuiltInteractions(Interactions):
    """Interactions whose arrays are mapped from the folder of `edgerec data build`.

    Attributes:
        folder: the folder; '' for a part of a stored split.
        about: content of its `dataset.json`; {} for a part.
    """

    folder: Path = field(default=Path(), repr=False)
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def fingerprint(self) -> str:
        """Return the fingerprint, which was computed when the folder was built."""
        return str(self.about["fingerprint"]) if self.about else super().fingerprint()

    def shards(self) -> Iterator[Interactions]:
        """Yield shards as `Interactions` does; the memory of a shard's file is given back after its use."""
        for shard in super().shards():
            yield shard
            for name in COLUMNS:
                release(getattr(self, name))

    def stored_parts(self, spec: Mapping[str, Any]) -> tuple[Interactions, Interactions, Interactions] | None:
        if not self.about or self.about.get("split") != spec:
            return None
        train, validation, test = (self._part(name) for name in SPLIT_PARTS)
        return train, validation, test

    def _part(self, name: str) -> Interactions:
        arrays = open_arrays(self.folder / "split" / name, [n for n in self.about["columns"] if n != "parts"])
        return BuiltInteractions(
            self.user_ids, self.item_ids, **arrays, titles=self.titles, name=self.name, categories=self.categories
        )


def is_built(folder: Path) -> bool:
    """Return True for a folder of `edgerec data build`, complete or not."""
    return (folder / FILE_NAME).is_file() or (folder / WORK / PLAN).is_file()


def open_built(folder: Path) -> tuple[Interactions, ReadReport]:
    """Open a built folder: ids and titles are read, interactions are mapped.

    Raises:
        MissingExtraError: DuckDB is not installed.
        DataError: the folder is not one of `edgerec data build`, damaged, or of a newer version.
        StorageError: a file cannot be read.
    """
    about = read_about(folder)
    if about is None:
        raise DataError(f"the build in {folder} is unfinished; give its 'edgerec data build' command again")
    user_ids, *_ = read_ids(folder / "users.parquet")
    item_ids, titles, categories = read_ids(folder / "items.parquet")
    arrays = open_arrays(folder / "interactions", about["columns"])
    counts = {"users": len(user_ids), "items": len(item_ids), "interactions": len(arrays["indices"])}
    if counts != about["counts"] or len(arrays["indptr"]) != counts["users"] + 1:
        raise damaged(folder, f"{counts} are not {about['counts']}")
    found = BuiltInteractions(
        user_ids,
        item_ids,
        **arrays,
        titles=titles,
        name=about["name"],
        categories=categories,
        folder=folder,
        about=about,
    )
    try:
        return found, ReadReport(**about["report"])
    except TypeError as error:
        raise damaged(folder, reason_of(error)) from error


def read_about(folder: Path) -> Dataset | None:
    """Return the content of `dataset.json`, or None if there is none. Raises DataError, StorageError."""
    content = read_if_there(folder / FILE_NAME)
    if content is None:
        return None
    try:
        fields = parse_json(content)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise DataError(f"{folder / FILE_NAME} was not written by 'edgerec data build'")
        if type(version := fields.get("version")) is int and version > VERSION:
            raise DataError(f"{folder} was built by a newer EdgeRec; upgrade: pip install -U 'edgerec[all]'")
        return record(Dataset, fields)
    except ValueError as error:
        raise damaged(folder, reason_of(error)) from error


def open_arrays(folder: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Map `indptr` and some columns of interactions from files. Raises DataError, StorageError."""
    found: dict[str, NDArray[Any]] = {}
    for name in ("indptr", *columns):
        path = folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            storage_failure(path, error, "read")
        except ValueError:
            try:  # an empty array cannot be mapped
                array = np.load(path, allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise damaged(path, reason_of(error)) from error
        if array.dtype != _TYPES.get(name) or array.ndim != 1:
            raise damaged(path, f"{array.dtype} {array.shape}")
        found[name] = array
    pointers = found["indptr"]
    if not len(pointers) or any(len(found[name]) != pointers[-1] for name in columns):
        raise damaged(folder, "its arrays differ in length")
    return found


class ArrayWriter:
    """Writes the columns of interactions shard by shard, for arrays that are larger than memory.

    Args:
        folder: folder for a file `NAME.npy` of each array.
        columns: names of the columns, without `indptr`.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._streams = {name: (folder / f"{name}.npy").open("wb") for name in ("indptr", *columns)}
        self._lengths = dict.fromkeys(self._streams, 0)
        for name, stream in self._streams.items():
            _write_header(stream, name, 0)
        self._end = 0
        self._append("indptr", np.zeros(1, np.int64))

    def append(self, counts: NDArray[np.integer[Any]], columns: Mapping[str, NDArray[Any]]) -> None:
        """Write the next users: (k,) numbers of interactions, and (n,) values of each column."""
        ends = self._end + np.cumsum(counts, dtype=np.int64)
        if len(ends):
            self._end = int(ends[-1])
        self._append("indptr", ends)
        for name, values in columns.items():
            self._append(name, values)

    def close(self) -> None:
        """Write the lengths, and flush the files to the disk."""
        for name, stream in self._streams.items():
            stream.seek(0)
            _write_header(stream, name, self._lengths[name])
            sync(stream)
            stream.close()

    def _append(self, name: str, values: NDArray[Any]) -> None:
        self._streams[name].write(np.ascontiguousarray(values, _TYPES[name]).data)
        self._lengths[name] += len(values)


def _write_header(stream: IO[bytes], name: str, length: int) -> None:
    # NumPy leaves room for lengths of up to 21 digits.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(_TYPES[name])), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(stream, header)


def read_ids(path: Path) -> tuple[Ids, Texts | None, Texts | None]:
    """Read ids, titles and categories in the order of rows. Raises DataError."""
    with session() as (connection, _):
        try:
            relation = f"FROM read_parquet({literal(path)})"
            names = [name for name, *_ in connection.execute(f"DESCRIBE SELECT * {relation}").fetchall()]
            values = ", ".join(name for name in ("id", "title", "category") if name in names)
            found = connection.execute(f"SELECT {values} {relation} ORDER BY row").fetchnumpy()
        except require("duckdb", "train").Error as error:
            raise damaged(path, reason_of(error).splitlines()[0]) from error
    ids = np.asarray(found["id"])
    texts = [text_array(found[name].tolist()) if name in names else None for name in ("title", "category")]
    return (ids if ids.dtype.kind == "i" else text_array(ids.tolist())), texts[0], texts[1]


def damaged(place: Path, reason: str) -> DataError:
    """Return the error of a built folder, or a file in it, that is damaged."""
    return DataError(f"{place} is damaged ({reason}); build it again with 'edgerec data build' in another folder")
