"""Attributes of items, their titles and categories, from files next to the interactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgerec.data.columns import NAMES, find, named
from edgerec.data.interactions import Interactions
from edgerec.data.readers import Reading
from edgerec.data.sources import Connection, Source, literal, open_source
from edgerec.data.staging import Staged, lock, session
from edgerec.errors import DataError
from edgerec.tables.texts import is_text

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "item": (*NAMES["item"], "id"),
    "title": (*NAMES["title"], "name", "description"),
    "category": NAMES["category"],
}
Texts = dict[Any, str]
"""Texts of items by raw id: int if all of them are integers, else str."""


def read_titles(path: str | Path, reading: Reading | None = None) -> Texts:
    """Read the title of every item, by its raw id (int if all of them are integers, else str).

    Supported are tables with a header that names an item column (item, item_id, movieId, id) and a title or
    name column, RecBole's `.item`, MovieLens' `u.item`, `movies.dat` and `movies.csv`, HetRec's
    `artists.dat`, JSON lines and Parquet.

    Raises:
        MissingExtraError: DuckDB is not installed.
        DataError: no such columns, a malformed line, a damaged file.
        StorageError: the file is missing or cannot be read.
    """
    found = read_attributes(path, reading).get("title")
    if found is None:
        raise DataError(f"{path} has no title column; expected one called title or name")
    return found


def read_attributes(path: str | Path, reading: Reading | None = None, columns: Sequence[str] = ()) -> dict[str, Texts]:
    """Read columns of a table of items, by name: texts as the file has them.

    Args:
        columns: names of the columns; none for the title and the category, as far as the file has them.

    Raises as `read_titles` does, and DataError for a column that is not there.
    """
    with _staged(Path(path), reading or Reading(), columns=columns) as (_, staged):
        numbers = staged.ids("rows", "item")[0].dtype.kind == "i"
        texts = [staged.texts("rows", role, numbers=numbers) for role in staged.roles[1:]]
        return dict(zip(columns or staged.roles[1:], texts, strict=True))


def copy_attributes(
    path: Path, reading: Reading, target: Path, folder: Path, memory: int, items: str | None = None
) -> None:
    """Copy the texts of items to a Parquet file with the columns item, title and category, as far as a file has them.

    Args:
        target: a file inside `folder`.
        folder, memory: as in `session`.
        items: SQL of the ids of the data's items, of which the file must have one; None if it need not.

    Raises as `read_titles` does.
    """
    with _staged(path, reading, folder, memory) as (connection, staged):
        if items is not None and not staged.one(f'SELECT count(*) > 0 FROM rows WHERE "$item" IN ({items})'):
            raise _no_match(path, staged.one('SELECT "$item" FROM rows LIMIT 1'), staged.one(f"{items} LIMIT 1"))
        query = staged.text_query("rows", [role for role in staged.roles if role != "item"])
        connection.execute(f"COPY ({query}) TO {literal(target)} (FORMAT parquet)")


@contextmanager
def _staged(
    path: Path,
    reading: Reading,
    folder: Path | None = None,
    memory: int | None = None,
    columns: Sequence[str] = (),
) -> Iterator[tuple[Connection, Staged]]:
    """Stage a file of items; tell how many of its rows have no text, and how many items have several."""
    with session(folder, memory) as (connection, scratch):
        source = open_source(connection, path, scratch, reading.encoding, reading.tell, [], attributes=True)
        staged = Staged(connection, [source], [_choose(source, columns)])
        lock(connection, folder)
        staged.check("rows", ("item",))
        texts = [f"NULLIF(\"${role}\", '')" for role in staged.roles[1:]]
        what = " or ".join(columns) or "title or category"
        if bare := staged.one(f"SELECT count(*) FROM rows WHERE coalesce({', '.join(texts)}) IS NULL"):
            reading.tell(f"{path}: {bare:,} of the {staged.n:,} rows have an item and no {what}")
        several = " OR ".join(f"min({text}) < max({text})" for text in texts)
        found = staged.rows(
            f'SELECT count(*), min(item) FROM (SELECT "$item" AS item FROM rows GROUP BY item HAVING {several})'
        )
        if (count := found[0][0]) > 0:
            reading.tell(f"{path}: {count:,} items, such as {found[0][1]!r}, have several texts; the last is used")
        yield connection, staged


def has_attributes(path: Path, reading: Reading) -> bool:
    """Return True for a file of items with titles or categories, or without a header. Raises as `read_titles` does."""
    with session() as (connection, scratch):
        quiet = replace(reading, tell=lambda line: None)
        source = open_source(connection, path, scratch, quiet.encoding, quiet.tell, [], attributes=True)
    return source.headerless or any(find(source.columns, _COLUMNS[role]) is not None for role in ("title", "category"))


def with_attributes_of(interactions: Interactions, path: str | Path, reading: Reading) -> Interactions:
    """Add titles and categories of a file that the user gave; tell how many items it has texts of.

    Raises as `read_titles` does, and DataError if these are none.
    """
    attributes = read_attributes(path, reading)
    known = {str(item) for texts in attributes.values() for item in texts}
    items = set(map(str, interactions.item_ids.tolist()))
    if not known & items:
        raise _no_match(path, min(known, default=""), interactions.item_ids[0])
    reading.tell(
        f"{path}: texts of {len(known & items):,} of the {len(items):,} items; {len(known - items):,} other ids of the "
        "file are none of the data's"
    )
    return with_attributes(interactions, attributes)


def _no_match(path: str | Path, found: str, expected: object) -> DataError:
    return DataError(
        f"{path} has titles or categories of none of the items: its ids are such as {found!r}, and those of the data "
        f"such as {str(expected)!r}; give a table with the ids of the data"
    )


def with_attributes(interactions: Interactions, attributes: Mapping[str, Texts]) -> Interactions:
    """Add titles and categories of another file, whose ids may all be integers although the items' are texts."""
    texts = is_text(interactions.item_ids)
    by_role = {
        role: {str(item) if texts else item: text for item, text in known.items()} for role, known in attributes.items()
    }
    if "title" in by_role:
        interactions = interactions.with_titles(by_role["title"])
    return interactions.with_categories(by_role["category"]) if "category" in by_role else interactions


def _choose(source: Source, columns: Sequence[str] = ()) -> dict[str, int]:
    """Return the places of the item and the texts, which have numbers for roles where their columns are given."""
    if columns:
        places = {"item": find(source.columns, _COLUMNS["item"])}
        places |= {str(number): named(source.columns, name) for number, name in enumerate(columns)}
        chosen = {role: place for role, place in places.items() if place is not None}
        if source.headerless or len(chosen) < len(places):
            there = "no header" if source.headerless else f"the columns {', '.join(source.columns)}"
            raise DataError(
                f"{source.path} has {there}; expected an item column (item, item_id, movieId, sku, id) and those of "
                f"the attributes, {', '.join(columns)}"
            )
        return chosen
    if source.headerless:
        return {"item": 0, "title": 1}
    places = {role: find(source.columns, names) for role, names in _COLUMNS.items()}
    chosen = {role: place for role, place in places.items() if place is not None}
    if "item" not in chosen or len(chosen) == 1:
        raise DataError(
            f"{source.path} has the columns {', '.join(source.columns)}; expected an item column (item, item_id, "
            "movieId, sku, id) and a title or a category column (title, name, category, genres)"
        )
    return chosen
