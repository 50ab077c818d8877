"""Data sets as folders: the layouts of downloads, and the layout of the cache."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import Interactions
from edgerec.data.readers import read_parts
from edgerec.data.text import Reading
from edgerec.data.titles import has_titles, read_titles
from edgerec.errors import DataError
from edgerec.files import write_bytes, write_json
from edgerec.tables.texts import is_text

_INTERACTIONS = (
    ("interactions.tsv.gz",),
    ("interactions.tsv",),
    ("train.tsv.gz", "test.tsv.gz"),
    ("train.txt", "test.txt"),  # LightGCN
    ("u.data",),  # MovieLens 100K
    ("ratings.dat",),  # MovieLens 1M, 10M
    ("ratings.csv",),  # MovieLens 20M and later
    ("user_artists.dat",),  # HetRec's Last.fm
    ("*.train.rating", "*.test.rating"),  # neural collaborative filtering (NCF)
    ("*.inter",),  # RecBole
)
_TITLES = ("items.tsv.gz", "items.tsv", "u.item", "movies.dat", "movies.csv", "artists.dat", "*.item")


def find_interactions(folder: Path) -> list[Path]:
    """Return the files of a folder's interactions, all parts of the first known layout; [] if there is none."""
    for layout in _INTERACTIONS:
        parts = [sorted(folder.glob(pattern)) for pattern in layout]
        if all(len(found) == 1 for found in parts):
            return [found[0] for found in parts]
    return []


def read_folder(folder: Path, reading: Reading | None = None, *, name: str = "") -> Interactions:
    """Read a folder; train and test parts are merged, and titles are added if there are any.

    Raises:
        DataError: the folder has none of the layouts, or a file in it is malformed.
        StorageError: a file in it cannot be read.
    """
    parts = find_interactions(folder)
    if not parts:
        known = "; ".join(" + ".join(layout) for layout in _INTERACTIONS)
        raise DataError(f"{folder} holds no interactions that can be read; expected one of: {known}")
    reading = reading or Reading()
    interactions = read_parts(parts, reading, name=name)
    found = (path for pattern in _TITLES for path in sorted(folder.glob(pattern)))
    titles = next((path for path in found if has_titles(path, reading)), None)
    return interactions if titles is None else with_titles_of(interactions, read_titles(titles, reading))


def with_titles_of(interactions: Interactions, titles: Mapping[Any, str]) -> Interactions:
    """Add titles from another file, whose ids may all be integers although the items' are texts."""
    texts = is_text(interactions.item_ids)
    return interactions.with_titles({str(key) if texts else key: title for key, title in titles.items()})


def write_folder(folder: Path, interactions: Interactions, source: Mapping[str, Any]) -> None:
    """Write a folder that `read_folder` reads: interactions.tsv.gz, items.tsv.gz with titles, source.json.

    The interactions are written last, so that an interrupted write leaves no folder that counts as complete.

    Raises StorageError if the file system refuses.
    """
    write_json(folder / "source.json", dict(source))
    if interactions.titles is not None:
        columns = {"item": interactions.item_ids, "title": interactions.titles}
        write_bytes(folder / "items.tsv.gz", _table(columns))
    columns = {
        "user": interactions.user_ids[interactions.user_rows()],
        "item": interactions.item_ids[interactions.indices],
    }
    if interactions.ratings is not None:
        columns["rating"] = _shortest(interactions.ratings)
    if interactions.timestamps is not None:
        columns["timestamp"] = interactions.timestamps
    write_bytes(folder / "interactions.tsv.gz", _table(columns))


def _shortest(ratings: NDArray[np.float32]) -> NDArray[Any]:
    whole = ratings.astype(np.int64)
    return whole if (whole == ratings).all() else ratings


def _table(columns: Mapping[str, NDArray[Any]]) -> bytes:
    listed = (column if is_text(column) else column.astype(np.str_) for column in columns.values())
    rows = zip(*(column.tolist() for column in listed), strict=True)
    text = "\n".join(["\t".join(columns), *map("\t".join, rows), ""])
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)
