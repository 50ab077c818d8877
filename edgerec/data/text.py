"""Text files of data sets: compression, encoding, the first line, and the numbers of lines."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import secrets
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

from edgerec.data.columns import NAMES, find, named
from edgerec.errors import DataError
from edgerec.files import storage_failure

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
"""First bytes of files, which tell their kind."""
_UNREAD = {b"PK\x03\x04": "a zip archive or an Excel workbook", b"BZh9": "a bzip2 file", b"\xfd7zX": "an xz file"}
"""Kinds of files that are not read, by their first bytes."""
_SEPARATORS = ("::", "\t", "|", ",", ";")
"""Separators in the order of the search; a file with none of them is separated by spaces."""
_PIECE = 1 << 20


def magic(path: Path) -> bytes:
    """Return the first four bytes of a file. Raises StorageError, and DataError if it can be read only once."""
    try:
        if path.is_fifo() or path.is_char_device():
            raise DataError(f"{path} is a pipe or a device, which can be read only once; write it to a file first")
        with path.open("rb") as stream:
            return stream.read(4)
    except (OSError, ValueError) as error:
        storage_failure(path, error, "read")


@dataclass(frozen=True)
class FirstLine:
    """The first line of a file: its separator, its fields, and True for a header of names."""

    separator: str
    fields: list[str]
    is_header: bool


@dataclass
class TextFile:
    """A text file as uncompressed UTF-8.

    Attributes:
        path: the file, for messages.
        plain: the same text, uncompressed in UTF-8: the file itself, or a copy in `scratch`.
        scratch: folder for copies.
        encoding: the encoding that the user gave, or None.
        tell: called with a line of text about each assumption.
        blank: number of blank lines before the first line.
    """

    path: Path
    plain: Path
    scratch: Path
    encoding: str | None
    tell: Callable[[str], None] = field(repr=False)
    blank: int = 0

    @classmethod
    def open(
        cls,
        path: Path,
        scratch: Path,
        encoding: str | None,
        tell: Callable[[str], None],
        decompress: Callable[[Path, Path], None],
    ) -> TextFile:
        """Make the text available: gzip, zstd and UTF-16 are recognized by content, other encodings are converted.

        Args:
            decompress: decompresses zstd, from the first path to the second.

        Raises:
            StorageError: the file is missing or cannot be read.
            DataError: it is cut short or damaged, not in the encoding, or an archive.
        """
        kind = magic(path)
        if kind in _UNREAD:
            raise DataError(f"{path} is {_UNREAD[kind]}; unpack it, or save it as CSV, and give the files")
        text = cls(path, path, scratch, encoding, tell)
        if kind.startswith(GZIP):
            text.plain = text._copy()
            _decompress_gzip(path, text.plain)
        elif kind == ZSTD:
            check_zstd(path)
            text.plain = text._copy()
            decompress(path, text.plain)
        if encoding is None and magic(text.plain).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            encoding = "utf-16"
        if encoding is not None and encoding.lower().replace("_", "-") not in ("utf-8", "utf8", "utf-8-sig"):
            text._convert(encoding)
        return text

    def first_line(self) -> FirstLine:
        """Parse the first line that is not blank. Raises DataError if there is none, or if this is no text."""
        try:
            with self.plain.open(encoding="utf-8-sig") as stream:
                lines = ((number, line.rstrip("\n")) for number, line in enumerate(stream) if line.strip())
                self.blank, line = next(lines, (0, ""))
        except UnicodeDecodeError:
            self.not_utf8()
            return self.first_line()
        except OSError as error:
            storage_failure(self.path, error, "read")
        if not line:
            raise DataError(f"{self.path} is empty: it must hold a header or the first interaction")
        if self.blank:
            self.unify_line_ends()
        if "\0" in line:
            raise DataError(
                f"{self.path} is not a text file, or in another encoding than UTF-8 or Latin-1, which --encoding "
                "gives, such as utf-16-le; CSV, TSV, JSON, Parquet, MovieLens, RecBole and LightGCN files can be read"
            )
        if kind := re.match(r"\s*(\{|\[(?=\s*(\{|$)))", line):
            return FirstLine(kind[1], [], is_header=False)
        separator = next((s for s in _SEPARATORS if s in line), " ")
        return FirstLine(separator, split_line(line, separator), is_header=False)

    def not_utf8(self) -> None:
        """Read the file as Latin-1 from now on, in which every byte is a character, and tell so.

        Raises DataError if the user gave the encoding, or if most characters beyond ASCII are UTF-8: that is damage.
        """
        bad, first, good = 0, 0, 0
        with self.plain.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
            for number, line in enumerate(stream, 1):
                if not line.isascii():
                    surrogates = len(re.findall("[\udc80-\udcff]", line))
                    good += len(re.findall(r"[^\x00-\x7f]", line)) - surrogates
                    bad, first = bad + surrogates, first or (number if surrogates else 0)
        if not bad:  # DuckDB says so of some files with lone carriage returns too
            self.unify_line_ends()
            return
        said = f"{self.path} is not UTF-8: {bad:,} byte{'s' * (bad > 1)}, the first in line {first}"
        if self.encoding is not None:
            raise DataError(f"{said}, so it is not in the encoding {self.encoding}; give another --encoding")
        if good > bad:
            raise DataError(f"{said}, but {good:,} other characters are; fix that line, or give --encoding latin-1")
        self.tell(f"{said}; it is read as Latin-1: give --encoding if it is in another")
        # MovieLens before 2015 is Latin-1.
        self._convert("latin-1")

    def unify_line_ends(self) -> None:
        """End every line with a line feed: DuckDB refuses or miscounts lines where these and carriage returns mix."""
        self._convert("utf-8-sig", "surrogateescape")

    def line_at(self, place: int) -> int:
        """Return the number of the first line with text, from a place in bytes on; 1 for the first of the file."""
        number = 1
        with self.plain.open("rb") as stream:
            left = place
            while left and (piece := stream.read(min(left, _PIECE))):
                number, left = number + piece.count(b"\n"), left - len(piece)
            while (line := stream.readline()) and not line.strip():
                number += 1
        return number

    def line_of(self, record: int, separator: str, *, quotes: bool) -> int:
        """Return the line at which a record begins; blank lines are none, and quoted values may hold line ends."""
        with self.plain.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            start = sum(1 for _ in islice(stream, self.blank))
            if not quotes:
                numbers = (number for number, line in enumerate(stream, 1) if line.strip("\r\n"))
            else:
                reader = csv.reader(stream, delimiter=separator)
                ends = ((fields, reader.line_num) for fields in reader)
                numbers = (before + 1 for (_, before), (fields, _) in pairwise([([], 0), *ends]) if fields)
            return next((start + line for place, line in enumerate(numbers) if place == record), 0)

    def _copy(self) -> Path:
        return self.scratch / f"{secrets.token_hex(8)}.txt"

    def _convert(self, encoding: str, errors: str = "strict") -> None:
        """Convert to UTF-8 with line feeds. Raises DataError for text that is not in the encoding, or no Unicode."""
        target = self._copy()
        try:
            with (
                self.plain.open(encoding=encoding, errors=errors) as source,
                target.open("w", encoding="utf-8", errors=errors) as stream,
            ):
                shutil.copyfileobj(source, stream, _PIECE)
        except UnicodeEncodeError as error:
            raise DataError(f"{self.path}: ids must be valid Unicode text: {error}") from error
        except UnicodeError as error:
            raise DataError(
                f"{self.path} is not in the encoding {encoding} ({error}); give another --encoding"
            ) from error
        except OSError as error:
            storage_failure(self.path, error, "read")
        self.plain = target


def as_header(first: FirstLine, given: list[str]) -> bool:
    """Return True if a first line names columns.

    It does if no field is a number, if it names at least two known columns (others may have numeric names), or if it
    names one that the user gave; not if it names no known column, and the user gave numbers that are none of its names.
    """
    more = {"item": ("id",), "title": ("name",)}
    known = sum(find(first.fields, (*names, *more.get(role, ()))) is not None for role, names in NAMES.items())
    if not known and any(name.isdigit() and named(first.fields, name) is None for name in given):
        return False
    return (
        known >= 2
        or any(not name.isdigit() and named(first.fields, name) is not None for name in given)
        or not any(_is_number(text) for text in first.fields)
    )


def split_line(line: str, separator: str) -> list[str]:
    """Split a line into fields; commas and semicolons may be inside double quotes."""
    if separator == " ":
        return line.split()
    if has_quotes(separator):
        return [text.strip() for text in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    return line.split(separator)


def has_quotes(separator: str) -> bool:
    """Return True if fields between these separators may be quoted; in other files a quote is a character."""
    return separator in (",", ";")


def check_zstd(path: Path) -> None:
    """Check that the frames of a zstd file are complete: DuckDB reads a file that was cut short without an error.

    Only headers are read (RFC 8878, section 3.1.1). Raises DataError.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            while stream.tell() < size:
                _skip_frame(stream.read, lambda count: stream.seek(count, 1))
            complete = stream.tell() == size
    except OSError as error:
        storage_failure(path, error, "read")
    except ValueError:
        complete = False
    if not complete:
        raise DataError(f"{path} is cut short or damaged (its zstd frame is incomplete); download or copy it again")


def _skip_frame(read: Callable[[int], bytes], skip: Callable[[int], int]) -> None:
    """Move behind one frame. Raises ValueError if it ends early."""

    def number(count: int) -> int:
        found = read(count)
        if len(found) < count:
            raise ValueError("cut short")
        return int.from_bytes(found, "little")

    kind = number(4)
    if kind >> 4 == 0x184D2A5:  # a frame to skip
        skip(number(4))
        return
    if kind != int.from_bytes(ZSTD, "little"):
        raise ValueError("no frame")
    descriptor = number(1)
    single = descriptor >> 5 & 1
    skip((0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6])
    last = 0
    while not last:
        header = number(3)
        last = header & 1
        skip(1 if header >> 1 & 3 == 1 else header >> 3)  # a block of one repeated byte stores that byte
    skip(4 * (descriptor >> 2 & 1))


def _decompress_gzip(path: Path, target: Path) -> None:
    """Decompress with Python, which compares checksums; DuckDB does not."""
    try:
        with gzip.open(path) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, _PIECE)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut short or damaged ({error}); download or copy it again") from error
    except OSError as error:
        storage_failure(path, error, "read")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
