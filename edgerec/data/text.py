"""Text files of data sets: opened whatever their compression and encoding, their first line understood."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from edgerec.errors import DataError
from edgerec.files import storage_failure

T = TypeVar("T")

_GZIP_MAGIC = b"\x1f\x8b"
_SEPARATORS = ("::", "\t", "|", ",", ";")
"""In the order in which they are looked for; a file with none of them separates by spaces."""

USER_NAMES = frozenset({"user", "users", "userid", "uid", "reviewerid"})
ITEM_NAMES = frozenset(
    {"item", "items", "itemid", "iid", "movie", "movieid", "artist", "artistid", "song", "songid", "track"}
    | {"trackid", "book", "bookid", "product", "productid", "business", "businessid", "venueid", "asin"}
)
RATING_NAMES = frozenset({"rating", "ratings", "weight", "score", "stars", "overall"})
TIME_NAMES = frozenset({"timestamp", "time", "ts", "unixreviewtime"})
TITLE_NAMES = frozenset({"title", "name", "movietitle", "itemtitle", "itemname", "artistname", "moviename"})


@dataclass(frozen=True)
class FirstLine:
    """What the first line of a file tells: its separator, its fields, whether they are names or values."""

    separator: str
    fields: list[str]
    is_header: bool

    def find(self, names: Collection[str]) -> int | None:
        """The first column whose name is one of `names`, whatever its case, underscores and RecBole type."""
        simple = (re.sub(r"[^a-z0-9]", "", field.partition(":")[0].lower()) for field in self.fields)
        return next((column for column, name in enumerate(simple) if name in names), None)


def parse(path: Path, parser: Callable[[TextIO], T]) -> T:
    """Run `parser` over the text of a file, plain or gzip (told by its content), UTF-8 or else Latin-1.

    Raises:
        StorageError: the file is not there or cannot be read.
        DataError: its gzip is cut short or damaged.
    """
    try:
        try:
            return _parse(path, parser, "utf-8-sig")
        except UnicodeDecodeError:
            # MovieLens before 2015 is Latin-1, in which every byte is a character.
            return _parse(path, parser, "latin-1")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut short or damaged ({error}); download or copy it again") from error
    except OSError as error:
        storage_failure(path, error, "read")


def _parse(path: Path, parser: Callable[[TextIO], T], encoding: str) -> T:
    with path.open("rb") as stream:
        zipped = stream.read(2) == _GZIP_MAGIC
    if zipped:
        with gzip.open(path, "rt", encoding=encoding) as text:
            return parser(text)
    with path.open(encoding=encoding) as text:
        return parser(text)


def read_first_line(stream: TextIO, path: Path) -> FirstLine:
    """Understand the first line: a header has no number among its fields. Raises DataError if it is blank."""
    line = stream.readline().rstrip("\n")
    if not line.strip():
        raise DataError(f"{path} is empty, or its first line is: it must hold a header or the first interaction")
    if "\0" in line:
        raise DataError(f"{path} is not a text file; MovieLens, RecBole, LightGCN, TSV and CSV files can be read")
    separator = next((s for s in _SEPARATORS if s in line), " ")
    fields = split_line(line, separator)
    return FirstLine(separator, fields, not any(_is_number(field) for field in fields))


def split_line(line: str, separator: str) -> list[str]:
    """The fields of one line; commas and semicolons may stand inside double quotes."""
    line = line.rstrip("\n")
    if separator == " ":
        return line.split()
    if '"' in line and separator in ",;":
        try:
            return next(csv.reader([line], delimiter=separator))
        except csv.Error:
            return [line]  # no such record: the number of its columns tells
    return line.split(separator)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
