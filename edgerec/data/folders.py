"""Data sets as folders: the layouts of downloads, and the layout of the cache."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.attributes import has_attributes, read_attributes, with_attributes
from edgerec.data.interactions import Interactions
from edgerec.data.parsed import read_cached
from edgerec.data.readers import Reading, ReadReport
from edgerec.errors import DataError
from edgerec.files import write_bytes, write_json
from edgerec.tables.texts import is_text

_PUBLISHED = (
    "{}.tsv.gz",
    *(f"{{}}.{ending}" for ending in ("txt", "csv", "tsv", "parquet", "jsonl")),
    *(f"{{}}.{ending}.{packed}" for packed in ("gz", "zst") for ending in ("txt", "csv", "tsv", "jsonl")),
    "*.{}.rating",  # neural collaborative filtering (NCF)
    "*.{}.inter",  # RecBole
)
"""Patterns of the parts of a split, of which the one for validation may be missing; LightGCN and KGAT have .txt."""
PARTS = ("train", "valid", "test")
"""Names of the parts of a published split, by their numbers; valid may be called validation."""
_WHOLE = (
    "interactions.tsv.gz",
    "interactions.tsv",
    "u.data",  # MovieLens 100K
    "ratings.dat",  # MovieLens 1M, 10M
    "ratings.csv",  # MovieLens 20M and later
    "user_artists.dat",  # HetRec's Last.fm
    "*.inter",  # RecBole
)
_MANY = ("*.parquet", "*/*.parquet", "part-*")
"""Patterns of tables in many files, as Spark writes them."""
_TABLES = [f"*.{ending}{packed}" for ending in ("csv", "tsv", "txt", "jsonl") for packed in ("", ".gz", ".zst")]
_ITEMS = ("items.tsv.gz", "items.tsv", "u.item", "movies.dat", "movies.csv", "artists.dat", "*.item")


def find_interactions(folder: Path, tell: Callable[[str], None] = lambda line: None) -> dict[Path, int | None]:
    """Return the files of a folder's interactions, of the first known layout, each with its part of a published split.

    The parts are 0 for train, 1 for validation and 2 for test; None without a split. {} if there is no layout.

    Args:
        tell: called with one line of text if a table in many files leaves tables of the folder out.
    """
    for pattern in _WHOLE[:2]:
        if len(found := sorted(folder.glob(pattern))) == 1:
            return {found[0]: None}
    for pattern in _PUBLISHED:
        parts = {name: sorted(folder.glob(pattern.format(name))) for name in PARTS}
        parts["valid"] += sorted(folder.glob(pattern.format("validation")))
        if len(parts["train"]) == len(parts["test"]) == 1 and len(parts["valid"]) <= 1:
            return {parts[name][0]: number for number, name in enumerate(PARTS) if parts[name]}
    for pattern in _WHOLE[2:]:
        if len(found := sorted(folder.glob(pattern))) == 1:
            return {found[0]: None}
    for pattern in _MANY:
        if found := sorted(path for path in folder.glob(pattern) if path.is_file()):
            tables = {path for one in (*_MANY, *_TABLES) for path in folder.glob(one) if path.is_file()}
            if left := sorted(tables - {*found, *find_items(folder)}):
                names = ", ".join(str(path.relative_to(folder)) for path in left)
                tell(f"{folder}: {pattern} is read, and not {names}; give a pattern of files to choose others")
            return dict.fromkeys(found)
    return {}


def find_items(folder: Path) -> list[Path]:
    """Return the files of a folder that may be tables of its items."""
    return [path for pattern in _ITEMS for path in sorted(folder.glob(pattern))]


def read_folder(folder: Path, reading: Reading | None = None, *, name: str = "") -> Interactions:
    """Read a folder; train and test parts are merged, and titles and categories are added if there are any.

    Raises:
        MissingExtraError: DuckDB is not installed.
        DataError: the folder has none of the layouts, or a file in it is malformed.
        StorageError: a file in it cannot be read.
    """
    return read_folder_reported(folder, reading or Reading(), name=name)[0]


def read_folder_reported(folder: Path, reading: Reading, *, name: str = "") -> tuple[Interactions, ReadReport]:
    """Read a folder as `read_folder` does; return what was read too."""
    files = find_interactions(folder, reading.tell)
    if not files:
        known = (*_WHOLE, *(" + ".join(pattern.format(part) for part in ("train", "test")) for pattern in _PUBLISHED))
        raise DataError(
            f"{folder} holds no interactions that can be read; expected one of: {'; '.join((*known, *_MANY))}"
        )
    parts = [part for part in files.values() if part is not None]
    interactions, report = read_cached(list(files), reading, name=name, parts=parts or None)
    items = next((path for path in find_items(folder) if has_attributes(path, reading)), None)
    if items is not None:
        interactions = with_attributes(interactions, read_attributes(items, reading))
    return interactions, report


def write_folder(folder: Path, interactions: Interactions, source: Mapping[str, Any]) -> None:
    """Write a folder that `read_folder` reads: interactions, items.tsv.gz with titles and categories, source.json.

    Interactions are in interactions.tsv.gz, or in a file for each part of the published split. They are written last,
    training data at the very end, so that an interrupted write leaves no folder that counts as complete.

    Raises StorageError if the file system refuses.
    """
    write_json(folder / "source.json", dict(source))
    texts = {"title": interactions.titles, "category": interactions.categories}
    known = {name: column for name, column in texts.items() if column is not None}
    if known:
        write_bytes(folder / "items.tsv.gz", _table({"item": interactions.item_ids, **known}))
    columns = {
        "user": interactions.user_ids[interactions.user_rows()],
        "item": interactions.item_ids[interactions.indices],
    }
    if interactions.ratings is not None:
        columns["rating"] = _shortest(interactions.ratings)
    if interactions.timestamps is not None:
        columns["timestamp"] = interactions.timestamps
    if interactions.parts is None:
        write_bytes(folder / "interactions.tsv.gz", _table(columns))
        return
    for number in sorted(set(interactions.parts.tolist()), reverse=True):
        chosen = interactions.parts == number
        part = {name: column[chosen] for name, column in columns.items()}
        write_bytes(folder / f"{PARTS[number]}.tsv.gz", _table(part))


def _shortest(ratings: NDArray[np.float32]) -> NDArray[Any]:
    whole = ratings.astype(np.int64)
    return whole if (whole == ratings).all() else ratings


def _table(columns: Mapping[str, NDArray[Any]]) -> bytes:
    listed = (column if is_text(column) else column.astype(np.str_) for column in columns.values())
    rows = zip(*(column.tolist() for column in listed), strict=True)
    text = "\n".join(["\t".join(columns), *map("\t".join, rows), ""])
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)
