"""Readers of item titles, from the files next to the interactions."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from edgerec.data.columns import batches, is_id, to_ids
from edgerec.data.text import ITEM_NAMES, TITLE_NAMES, FirstLine, Reading, parse, read_first_line, split_line
from edgerec.errors import DataError


def read_titles(path: str | Path, reading: Reading | None = None) -> dict[Any, str]:
    """Read the title of every item, by its raw id (int if all of them are integers, else str).

    Supported are tables with a header that names an item column (item, item_id, movieId, id) and a title or
    name column, RecBole's `.item`, MovieLens' `u.item`, `movies.dat` and `movies.csv`, HetRec's
    `artists.dat`; plain or gzip.

    Raises:
        DataError: no such columns, a malformed line, a damaged file.
        StorageError: the file is missing or cannot be read.
    """
    path = Path(path)

    def parser(stream: TextIO) -> dict[Any, str]:
        first = read_first_line(stream, path)
        if not first.is_header:
            stream.seek(0)
        pairs = _pairs(stream, first, path)
        return dict(zip(to_ids([item for item, _ in pairs]).tolist(), [title for _, title in pairs], strict=True))

    return parse(path, parser, reading or Reading())


def has_titles(path: Path, reading: Reading) -> bool:
    """Return True for a file of items with a title column or without a header. Raises as `read_titles` does."""
    first = parse(path, lambda stream: read_first_line(stream, path), replace(reading, tell=lambda line: None))
    return not first.is_header or first.find(TITLE_NAMES) is not None


def _pairs(stream: TextIO, first: FirstLine, path: Path) -> list[tuple[str, str]]:
    item, title = _columns(first, path)
    pairs = []
    numbered = batches(stream, 2 if first.is_header else 1)
    for number, line in itertools.chain.from_iterable(enumerate(lines, start) for start, lines in numbered):
        fields = split_line(line, first.separator)
        if len(fields) <= max(item, title) or not is_id(fields[item]):
            raise DataError(
                f"{path}, line {number}: expected an item id in column {item + 1} and a title in column "
                f"{title + 1} separated by {first.separator!r}, found {line.strip()[:60]!r}"
            )
        pairs.append((fields[item], fields[title].strip()))
    return pairs


def _columns(first: FirstLine, path: Path) -> tuple[int, int]:
    if not first.is_header:
        return 0, 1
    item, title = first.find(ITEM_NAMES), first.find(TITLE_NAMES)
    if item is None:
        item = first.find({"id"})
    if item is None or title is None:
        raise DataError(
            f"{path} has the columns {', '.join(first.fields)}; expected an item column (item, item_id, "
            "movieId, id) and a title column (title, name)"
        )
    return item, title
