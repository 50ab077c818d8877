"""Text files of data sets: compression, encoding and the first line."""

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
"""Separators in the order of the search; a file with none of them is separated by spaces."""

USER_NAMES = frozenset({"user", "users", "userid", "uid", "reviewerid"})
ITEM_NAMES = frozenset(
    {"item", "items", "itemid", "iid", "movie", "movieid", "artist", "artistid", "song", "songid", "track"}
    | {"trackid", "book", "bookid", "product", "productid", "business", "businessid", "venueid", "asin"}
)
RATING_NAMES = frozenset({"rating", "ratings", "weight", "score", "stars", "overall"})
TIME_NAMES = frozenset({"timestamp", "time", "ts", "unixreviewtime"})
TITLE_NAMES = frozenset({"title", "name", "movietitle", "itemtitle", "itemname", "artistname", "moviename"})
_ROLES = (USER_NAMES, ITEM_NAMES | {"id"}, RATING_NAMES, TIME_NAMES, TITLE_NAMES)


@dataclass(frozen=True)
class FirstLine:
    """The first line of a file: its separator, its fields, and True for a header of names."""

    separator: str
    fields: list[str]
    is_header: bool

    def find(self, names: Collection[str]) -> int | None:
        """Return the first column with one of these names, ignoring case, underscores and RecBole's type."""
        simple = (re.sub(r"[^a-z0-9]", "", field.partition(":")[0].lower()) for field in self.fields)
        return next((column for column, name in enumerate(simple) if name in names), None)


@dataclass(frozen=True)
class Reading:
    """Options of reading files.

    Attributes:
        encoding: encoding of text files; None for UTF-8, or Latin-1 if a file is not UTF-8.
        tell: called with a line of text about each assumption on an ambiguous file.
    """

    encoding: str | None = None
    tell: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        """Raise DataError for an encoding that does not exist."""
        try:
            "a".encode(self.encoding or "utf-8").decode(self.encoding or "utf-8")
        except (LookupError, ValueError, TypeError) as error:
            raise DataError(
                f"there is no text encoding {self.encoding!r}; name one of Python's, such as utf-8, latin-1, cp1252 or "
                "utf-16"
            ) from error


def parse(path: Path, parser: Callable[[TextIO], T], reading: Reading) -> T:
    """Run `parser` over the text of a file, plain or gzip (recognised by its content).

    A file that is not UTF-8 is read as Latin-1, in which every byte is a character, and reported. If most characters
    beyond ASCII are UTF-8, it is refused as damaged UTF-8.

    Raises:
        StorageError: the file is missing or cannot be read.
        DataError: its gzip is truncated or damaged, or it is not in the encoding; the message gives the line.
    """
    try:
        try:
            return _parse(path, parser, reading.encoding or "utf-8-sig")
        except UnicodeError as error:
            if reading.encoding is not None:
                raise DataError(
                    f"{path} is not in the encoding {reading.encoding} ({error}); give another --encoding"
                ) from error
            said = _not_utf8(path)
            reading.tell(f"{said}; it is read as Latin-1: give --encoding if it is in another")
            # MovieLens before 2015 is Latin-1.
            return _parse(path, parser, "latin-1")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut short or damaged ({error}); download or copy it again") from error
    except OSError as error:
        storage_failure(path, error, "read")


def _not_utf8(path: Path) -> str:
    """Describe the bytes of a file that are not UTF-8. Raises DataError if most characters beyond ASCII are UTF-8."""

    def count(stream: TextIO) -> tuple[int, int, int]:
        bad, first, good = 0, 0, 0
        for number, line in enumerate(stream, 1):
            if not line.isascii():
                surrogates = len(re.findall("[\udc80-\udcff]", line))
                good += len(re.findall(r"[^\x00-\x7f]", line)) - surrogates
                bad, first = bad + surrogates, first or (number if surrogates else 0)
        return bad, first, good

    bad, first, good = _parse(path, count, "utf-8-sig", "surrogateescape")
    said = f"{path} is not UTF-8: {bad:,} byte{'s' * (bad > 1)}, the first in line {first}"
    if good > bad:
        raise DataError(f"{said}, but {good:,} other characters are; fix that line, or give --encoding latin-1")
    return said


def _parse(path: Path, parser: Callable[[TextIO], T], encoding: str, errors: str = "strict") -> T:
    with path.open("rb") as stream:
        zipped = stream.read(2) == _GZIP_MAGIC
    if zipped:
        with gzip.open(path, "rt", encoding=encoding, errors=errors) as text:
            return parser(text)
    with path.open(encoding=encoding, errors=errors) as text:
        return parser(text)


def read_first_line(stream: TextIO, path: Path) -> FirstLine:
    """Parse the first line. Raises DataError if it is blank.

    It is a header if no field is a number, or if it names at least two known columns: others may have numeric names.
    """
    line = stream.readline().rstrip("\n")
    if not line.strip():
        raise DataError(f"{path} is empty, or its first line is: it must hold a header or the first interaction")
    if "\0" in line:
        raise DataError(
            f"{path} is not a text file, or in another encoding than UTF-8 or Latin-1, which --encoding gives; "
            "MovieLens, RecBole, LightGCN, TSV and CSV files can be read"
        )
    separator = next((s for s in _SEPARATORS if s in line), " ")
    fields = split_line(line, separator)
    known = sum(FirstLine("", fields, True).find(names) is not None for names in _ROLES)
    return FirstLine(separator, fields, known >= 2 or not any(_is_number(field) for field in fields))


def split_line(line: str, separator: str) -> list[str]:
    """Split a line into fields; commas and semicolons may be inside double quotes."""
    line = line.rstrip("\n")
    if separator == " ":
        return line.split()
    if '"' in line and separator in ",;":
        try:
            return next(csv.reader([line], delimiter=separator))
        except csv.Error:
            return [line]  # malformed: the caller refuses it by its number of columns
    return line.split(separator)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
