"""What reading a file must do, whoever implements it: a file's bytes, and the interactions or the refusal they give.

A new implementation is held to this by an entry in READERS.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.data import Interactions, load_data, read
from edgerec.errors import DataError

Read = Callable[..., Interactions]

READERS: dict[str, Read] = {
    "read": read,
    "load_data": lambda path, encoding=None, tell=None: load_data(path, encoding=encoding, progress=tell),
}

HOUR = 1_500_003_600
HEAD = "user,item,timestamp\n"


@dataclass(frozen=True)
class Case:
    """A file, and what is to come of it.

    Attributes:
        content: the file's bytes; text is UTF-8.
        rows: (user, item) and what else there is; None where the file is refused.
        line: that a refusal names; 0 where it names none.
        says: words of the refusal, or of the one line that is told.
        encoding: that is asked for.
    """

    content: str | bytes
    rows: list[tuple[Any, ...]] | None = None
    line: int = 0
    says: tuple[str, ...] = ()
    encoding: str | None = None
    raw: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", self.content.encode() if isinstance(self.content, str) else self.content)


def times(*values: object) -> str:
    return HEAD + "".join(f"1,{item},{value}\n" for item, value in enumerate(values))


LATIN = "user,item\nBjörn,1\nJosé,2\n".encode("latin-1")
MOSTLY_UTF8 = "user,item\nBjörn,1\nJosé,2\nZoë,3\n".encode() + b"\xff,4\n"

CASES = {
    # Units of time, which the range tells.
    "seconds": Case(times(HOUR, 0), [(1, 0, HOUR), (1, 1, 0)]),
    "small numbers are seconds": Case(times(7, 9), [(1, 0, 7), (1, 1, 9)]),
    "milliseconds": Case(times(HOUR * 1000, HOUR * 1000 + 1999), [(1, 0, HOUR), (1, 1, HOUR + 1)], says=("milli",)),
    "milliseconds as floats": Case(times(f"{HOUR}000.0"), [(1, 0, HOUR)], says=("taken as milliseconds",)),
    "microseconds": Case(times(HOUR * 10**6), [(1, 0, HOUR)], says=("taken as microseconds",)),
    "nanoseconds": Case(times(HOUR * 10**9), [(1, 0, HOUR)], says=("taken as nanoseconds",)),
    "an unknown time among milliseconds": Case(times(0, HOUR * 1000), [(1, 0, 0), (1, 1, HOUR)], says=("milli",)),
    "before 1970": Case(times(-HOUR * 1000), [(1, 0, -HOUR)], says=("milli",)),
    "two units": Case(times(HOUR, HOUR, HOUR * 1000), line=4, says=("one unit", "milliseconds", "seconds")),
    "two units without a header": Case(f"1\t2\t3\t{HOUR}\n1\t3\t3\t{HOUR}000\n", line=2, says=("one unit",)),
    # Headers.
    "a header with a number for a name": Case("user,item,2\n1,2,3\n", [(1, 2)]),
    "a header of numbers beside known names": Case("0\tuser_id\titem_id\n9\t1\t2\n", [(1, 2)]),
    "text ids and a rating are no header": Case("a,b,2\n", [("a", "b", 2.0)]),
    # Ids.
    **{
        f"{text} is no id": Case(f"user,item\n1,2\n{text},3\n", line=3, says=("user id", repr(text)))
        for text in ("nan", "NaN", "NAN", "<NA>", "NaT", "null", "NULL", "None")
    },
    "nan is no item": Case("user,item\n1,2\n1, nan \n", line=3, says=("item id", "'nan'")),
    "Nan is a name": Case("user,item\nNan,nancy\n", [("Nan", "nancy")]),
    "NUL in an id": Case("user,item\na,1\na\0,2\n", line=3, says=("user id", r"'a\x00'")),
    "NUL inside an id": Case("user,item\na,1\nb\0c,2\n", line=3, says=("user id",)),
    "an id of 400 digits": Case(f"user,item\n{'9' * 400},1\n", [("9" * 400, 1)]),
    "an id of 5000 digits": Case(f"user,item\n{'9' * 5000},1\n", [("9" * 5000, 1)]),
    "5000 digits in LightGCN's lines": Case(f"1 2\n{'9' * 5000} 2\n", [("1", "2"), ("9" * 5000, "2")]),
    # Numbers.
    "a rating in Python's own way": Case("user,item,rating\n1,2,1_0\n", line=2, says=("rating", "'1_0'")),
    "a time in Python's own way": Case(times("1_0"), line=2, says=("timestamp", "'1_0'")),
    "a time of 400 digits": Case(times("9" * 400), line=2, says=("timestamp",)),
    "a time of 5000 digits": Case(times("9" * 5000), line=2, says=("timestamp",)),
    "a time that overflows": Case(times("1e400"), line=2, says=("timestamp",)),
    "a rating that overflows": Case("user,item,rating\n1,2,1e400\n", line=2, says=("rating",)),
    # Encodings.
    "UTF-8": Case("user,item\nBjörn,1\n", [("Björn", 1)]),
    "Latin-1": Case(LATIN, [("Björn", 1), ("José", 2)], says=("2 bytes, the first in line 2", "--encoding")),
    "Latin-1 that is asked for": Case(LATIN, [("Björn", 1), ("José", 2)], encoding="latin-1"),
    "UTF-8 that is asked for": Case(LATIN, says=("not in the encoding utf-8", "--encoding"), encoding="utf-8"),
    "one bad byte in UTF-8": Case(MOSTLY_UTF8, says=("1 byte, the first in line 5", "--encoding latin-1")),
    "UTF-16": Case("user,item\nBjörn,1\n".encode("utf-16"), [("Björn", 1)], encoding="utf-16"),
    "UTF-16 that is not asked for": Case("user,item\nBjörn,1\n".encode("utf-16"), says=("--encoding",)),
    "no such encoding": Case("user,item\n1,2\n", says=("no text encoding 'latin1x'",), encoding="latin1x"),
    "an encoding of bytes": Case("user,item\n1,2\n", says=("no text encoding 'base64'",), encoding="base64"),
    "an encoding with NUL": Case("user,item\n1,2\n", says=("no text encoding",), encoding="a\0"),
    "half a character": Case("user,item\n\\ud800,2\n", says=("valid Unicode",), encoding="unicode_escape"),
}


def rows(interactions: Interactions) -> list[tuple[object, ...]]:
    ids = (interactions.user_ids[interactions.user_rows()], interactions.item_ids[interactions.indices])
    values = (column for column in (interactions.ratings, interactions.timestamps) if column is not None)
    return list(zip(*(column.tolist() for column in (*ids, *values)), strict=True))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", CASES)
def test_a_file_gives_its_interactions_or_the_line_that_is_wrong(
    name: str, reader: str, packed: bool, tmp_path: Path
) -> None:
    case, told = CASES[name], list[str]()
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(case.raw) if packed else case.raw)
    if case.rows is not None:
        got = READERS[reader](path, encoding=case.encoding, tell=told.append)
        assert rows(got) == case.rows
        assert len(told) == bool(case.says)
        assert all(word in told[0] for word in case.says)
        assert all(str(path) in line for line in told)
        return
    with pytest.raises(DataError) as caught:
        READERS[reader](path, encoding=case.encoding, tell=told.append)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{path}, line {case.line}: " if case.line else "")
    assert all(word in said for word in case.says), said


PARQUET: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]] | None, str]] = {
    "milliseconds": ({"timestamp": [HOUR * 1000, 0]}, [(1, 5, HOUR), (2, 6, 0)], "taken as milliseconds"),
    "unsigned seconds": ({"timestamp": np.array([HOUR, 0], np.uint64)}, [(1, 5, HOUR), (2, 6, 0)], ""),
    "unsigned and too large": ({"timestamp": np.array([0, 2**64 - 1], np.uint64)}, None, "row 2: expected a timestamp"),
    "two units": ({"timestamp": [HOUR, HOUR * 1000]}, None, "row 2: expected one unit"),
    "nan as an id": ({"user": ["a", "nan"]}, None, "row 2: expected a user id"),
    "NUL in an id": ({"user": ["a", "a\0"]}, None, "row 2: expected a user id"),
    "NUL in an item": ({"item": ["a\0", "b"]}, None, "row 1: expected a item id"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", PARQUET)
def test_parquet_gives_its_interactions_or_the_row_that_is_wrong(name: str, reader: str, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns, expected, says = PARQUET[name]
    path, told = tmp_path / "file.parquet", list[str]()
    parquet.write_table(arrow.table({"user": [1, 2], "item": [5, 6], **columns}), path)
    if expected is not None:
        assert rows(READERS[reader](path, tell=told.append)) == expected
        assert [says in line for line in told] == [True] * bool(says)
        return
    with pytest.raises(DataError) as caught:
        READERS[reader](path)
    assert str(caught.value).startswith(f"{path}, {says}")


PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "nan as text": ({"users": ["a", "nan"]}, "stands for a missing value"),
    "nan as text of NumPy": ({"users": np.array(["a", "nan"])}, "stands for a missing value"),
    "NUL": ({"items": ["a\0", "a"]}, "NUL"),
    "NUL, as pandas keeps text": ({"items": np.array(["a\0", "a"], object)}, "NUL"),
    "half a character": ({"users": ["\ud800", "a"]}, "valid Unicode"),
    "an unsigned time": ({"timestamps": np.array([1, 2**64 - 1], np.uint64)}, "63 bits"),
    "a time that is too large": ({"timestamps": [1, 10**400]}, "must be numbers"),
    "a time that is missing": ({"timestamps": np.array(["2020-01-01", "NaT"], "M8[s]")}, "2 of 2 is missing"),
    "a rating that is too large": ({"ratings": [1, 10**400]}, "must be numbers"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_from_python_are_refused_for_the_same_reasons(name: str) -> None:
    given, says = PAIRS[name]
    with pytest.raises(DataError, match=says):
        Interactions.from_pairs(**{"users": [1, 2], "items": [5, 6], **given})
