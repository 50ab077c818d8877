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
_ROLES = (USER_NAMES, ITEM_NAMES | {"id"}, RATING_NAMES, TIME_NAMES, TITLE_NAMES)


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


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        encoding: of text files; None for UTF-8, or Latin-1 where a file is not UTF-8.
        tell: called with a line of text where something was taken in one of several ways.
    """

    encoding: str | None = None
    tell: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        """Raises DataError for an encoding that does not exist."""
        try:
            "a".encode(self.encoding or "utf-8").decode(self.encoding or "utf-8")
        except (LookupError, ValueError, TypeError) as error:
            raise DataError(
                f"there is no text encoding {self.encoding!r}; name one of Python's, such as utf-8, latin-1, cp1252 or "
                "utf-16"
            ) from error


def parse(path: Path, parser: Callable[[TextIO], T], reading: Reading) -> T:
    """Run `parser` over the text of a file, plain or gzip (told by its content).

    A file that is not UTF-8 is read as Latin-1, in which every byte is a character, and that is told; unless most of
    what is not ASCII in it is UTF-8: then it is UTF-8 with damage.

    Raises:
        StorageError: the file is not there or cannot be read.
        DataError: its gzip is cut short or damaged, or it is not in the encoding; the message gives the line.
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
    """How much of a file is not UTF-8, and where first. Raises DataError where most of what is not ASCII is."""

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
        raise DataError(f"{said}, but {good:,} other characters are; mend that line, or give --encoding latin-1")
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
    """Understand the first line. Raises DataError if it is blank.

    It is a header if it has no number among its fields, or names at least two columns that are known: others may be
    called by numbers.
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
