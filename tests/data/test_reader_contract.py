"""What reading a file must do, whatever its format: a file's bytes, and the interactions or the refusal they give.

A new format is held to this by an entry in FORMATS, a new way in by one in READERS.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerec.data import Interactions, load_data, read
from edgerec.errors import DataError, StorageError

Read = Callable[..., Interactions]
Table = Mapping[str, Sequence[Any]]

READERS: dict[str, Read] = {
    "read": read,
    "load_data": lambda path, encoding=None, tell=None: load_data(path, encoding=encoding, progress=tell),
}


def separated(separator: str) -> Callable[[Table, Path], None]:
    def write(table: Table, path: Path) -> None:
        lines = [table, *zip(*table.values(), strict=True)]
        text = "\n".join(separator.join("" if value is None else str(value) for value in line) for line in lines)
        path.write_text(text + "\n")

    return write


def json_lines(table: Table, path: Path) -> None:
    rows = (dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def parquet(table: Table, path: Path) -> None:
    rows = list(zip(*table.values(), strict=True))
    kinds = []
    for values in table.values():
        kind = {type(value) for value in values if value is not None}
        kinds.append({int: "BIGINT", float: "DOUBLE"}.get(kind.pop(), "VARCHAR") if len(kind) == 1 else "VARCHAR")
    columns = ", ".join(f'"{name}" {kind}' for name, kind in zip(table, kinds, strict=True))
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE made ({columns})")
        connection.executemany(f"INSERT INTO made VALUES ({', '.join('?' * len(table))})", rows)
        connection.execute(f"COPY made TO '{path}' (FORMAT parquet)")


FORMATS: dict[str, tuple[Callable[[Table, Path], None], int]] = {
    "csv": (separated(","), 2),
    "tsv": (separated("\t"), 2),
    "dat": (separated("::"), 2),
    "semicolons": (separated(";"), 2),
    "bars": (separated("|"), 2),
    "jsonl": (json_lines, 1),
    "parquet": (parquet, 1),
}
"""How a table is written, and the number of its first row."""


def zstd(content: bytes) -> bytes:
    """A frame of blocks that are not compressed, which any reader of zstd takes."""
    blocks = [content[start : start + (1 << 17)] for start in range(0, len(content), 1 << 17)] or [b""]
    heads = [(len(block) << 3 | (block is blocks[-1])).to_bytes(3, "little") for block in blocks]
    body = b"".join(head + block for head, block in zip(heads, blocks, strict=True))
    return b"\x28\xb5\x2f\xfd\xa0" + len(content).to_bytes(4, "little") + body


PACKED: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "zstd": zstd}

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
    "dates": Case(
        times("2017-07-14", "2017-07-14T04:40:00.7"), [(1, 0, 1499990400), (1, 1, 1500007200)], says=("ISO",)
    ),
    "dates with zones": Case(
        times("2017-07-14 04:40:00Z", "2017-07-14T04:40:00+02:00"),
        [(1, 0, 1500007200), (1, 1, HOUR - 3600)],
        says=("ISO",),
    ),
    "dates with slashes": Case(
        times("2017/07/14", "2017/7/4 1:02"), [(1, 0, 1499990400), (1, 1, 1499130120)], says=("ISO",)
    ),
    "no date of the calendar": Case(times("2017-07-14", "2017-02-30"), line=3, says=("an ISO date", "'2017-02-30'")),
    "a number among dates": Case(times("2017-07-14", "2017-07-15", HOUR), line=4, says=("an ISO date", str(HOUR))),
    "a date among numbers": Case(
        times(HOUR, HOUR, "2017-07-14"), line=4, says=("seconds", "'2017-07-14'", "--time-column none")
    ),
    "a date of no certain order": Case(times("01/02/2017"), line=2, says=("ISO date", "'01/02/2017'")),
    "fractions of seconds": Case(times(f"{HOUR}.75", "0.5", "-0.5"), [(1, 0, HOUR), (1, 1, 0), (1, 2, -1)]),
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
    "5000 digits in LightGCN's lines": Case(f"1 2\n{'9' * 5000} 2\n", [("1", 2), ("9" * 5000, 2)]),
    # Numbers.
    "a rating in Python's own way": Case("user,item,rating\n1,2,1_0\n", line=2, says=("rating", "'1_0'")),
    "a time in Python's own way": Case(times("1_0"), line=2, says=("timestamp", "'1_0'")),
    "a time of 400 digits": Case(times("9" * 400), line=2, says=("timestamp",)),
    "a time of 5000 digits": Case(times("9" * 5000), line=2, says=("timestamp",)),
    "a time that overflows": Case(times("1e400"), line=2, says=("timestamp",)),
    "a rating that overflows": Case("user,item,rating\n1,2,1e400\n", line=2, says=("rating",)),
    "a missing rating": Case("user,item,rating\n1,2,\n", line=2, says=("finite number as rating, found ''",)),
    "an infinite rating": Case("user,item,rating\n1,2,inf\n", line=2, says=("finite number as rating, found 'inf'",)),
    "several malformed values": Case(
        "user,item,rating\n1,2,3\n1,3,x\n1,,y\n", line=3, says=("'x'", "2 other lines are")
    ),
    # Lines and quotes.
    "blank lines are no lines of data": Case("user,item\n1,2\n\n\n2,x\n\n", [(1, "2"), (2, "x")]),
    "a line after blank ones": Case("user,item\n1,2\n\n\n-2,3\n", line=5, says=("'-2'",)),
    "a width after blank ones": Case(
        "user,item\n1,2\n\n\n2\n", line=5, says=("expected 2 columns separated by ',', found 1",)
    ),
    "too many columns": Case("1::10::5::1\n1::2::3::4::5\n", line=2, says=("4 columns separated by '::', found 5",)),
    "several malformed lines": Case("1\t10\n1\n2\n3\n", line=2, says=("found 1; 2 other lines are malformed too",)),
    "line ends of Windows": Case("user,item\r\n1,2\r\n2,3\r\n", [(1, 2), (2, 3)]),
    "line ends of old Macs": Case("user,item\r1,2\r2,3\r", [(1, 2), (2, 3)]),
    "mixed line ends": Case("user,item\r\n1,2\n2,3\r\n\n3,4", [(1, 2), (2, 3), (3, 4)]),
    "a fault among mixed line ends": Case("user,item\r\n1,2\n2,-3\r\n", line=3, says=("'-3'",)),
    "no last line end": Case("user\titem\n1\t2\n2\t3", [(1, 2), (2, 3)]),
    "a byte order mark": Case("\ufeffuser,item\n1,2\n", [(1, 2)]),
    "a byte order mark and a fault": Case("\ufeffuser,item\n1,2\n3\n", line=3, says=("found 1",)),
    "quotes": Case('"user","item"\n"a, b","c ""d"""\n', [("a, b", 'c "d"')]),
    "a line end in quotes": Case('user,item\n"a\nb",1\nc,2\n', [("a\nb", 1), ("c", 2)]),
    "a fault after a line end in quotes": Case('user,item\n"a\nb",1\n"c\n\nd",2\n,3\n', line=7, says=("user id",)),
    "a quote that never ends": Case('user,item\n1,2\n1,"2\n', line=3, says=("in quotes",)),
    "text after a quote": Case('user,item\n1,2\n1,"2"3\n', line=3, says=("in quotes",)),
    "a quote within a text": Case('user,item\n1,a "b" c\n', [(1, 'a "b" c')]),
    "quotes between tabs are characters": Case('user\titem\n"a\tb"\n', [('"a', 'b"')]),
    "spaces around values": Case("user, item, rating\n 1 , 2 , 3\n\u3000x, 2,3\n", [("1", 2, 3.0), ("x", 2, 3.0)]),
    "leading zeros": Case("user,item\n00731,5\n731,6\n", [("00731", 5), ("731", 6)]),
    # JSON lines.
    "JSON": Case(
        '{"user": "a", "item": 5, "x": {"y": [1]}}\n\n{"item": 6, "user": 7, "tags": []}\n', [("7", 6), ("a", 5)]
    ),
    "JSON with a null": Case(
        '{"user": 1, "item": 5}\n{"user": null, "item": 5}\n', line=2, says=("user id", "found ''")
    ),
    "JSON without a key": Case('{"user": 1, "item": 5}\n\n{"item": 5}\n', line=3, says=("user id",)),
    "JSON cut short": Case(
        '{"user": 1, "item": 5}\n{"user": 1,\n', line=2, says=("a JSON object, found '{\"user\": 1,'",)
    ),
    "JSON but no object": Case('{"user": 1, "item": 5}\n[1, 5]\n', line=2, says=("a JSON object, found '[1, 5]'",)),
    # LightGCN's lines.
    "LightGCN": Case("0 5 3\n1 3 \n2\n7 5\n", [(0, 3), (0, 5), (1, 3), (7, 5)]),
    "a word in LightGCN's lines": Case(
        "0 1 2\n1 2 x\n", line=2, says=("'user item item ...', integers from 0 up, found 'x'",)
    ),
    "a negative number there": Case("0 1 -2\n", line=1, says=("integers from 0 up, found '-2'",)),
    "a blank line there": Case("0 1\n\n1 2\n", line=2, says=("found a blank line",)),
    "ratings between spaces": Case("1 10 5 978300760\n1 11 4 978300761\n", says=("tabs or commas",)),
    "a header and spaces": Case(
        "user item rating\n1  2 3\n\n1 3\n", line=4, says=("expected 3 columns separated by ' ', found 2",)
    ),
    # Files without interactions.
    "an empty file": Case("", says=("is empty",)),
    "blank lines alone": Case("\n\n", says=("is empty",)),
    "a header alone": Case("user,item\n", says=("holds no interactions, only a header",)),
    "users alone": Case("0\n1\n", says=("holds no interactions, only users",)),
    "no known column": Case(
        "who,what,rating\n1,2,3\n",
        says=(
            "the columns who, what, rating",
            "the user and the item cannot",
            "--user-column NAME and --item-column NAME",
            "--time-column, --rating-column",
        ),
    ),
    "no known item column": Case(
        "customer_id,thing\n1,2\n", says=("which of them is the item", "give --item-column NAME")
    ),
    "too many columns without a header": Case("1,2,3,4,5\n", line=1, says=("2 to 4 columns", "--user-column")),
    "no text": Case("PK\x03\x04\0\x15", says=("is not a text file",)),
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


def is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


COMPRESSED = (
    *(
        "Latin-1",
        "Latin-1 that is asked for",
        "one bad byte in UTF-8",
        "UTF-16",
        "mixed line ends",
        "a byte order mark",
    ),
    *("a fault after a line end in quotes", "a width after blank ones", "JSON", "LightGCN", "an empty file"),
)
"""Cases that every compression and every way in go through too."""


@pytest.mark.parametrize(
    ("name", "reader", "packed"),
    [
        *((name, "read", "plain") for name in CASES),
        *((name, "read", packed) for name in COMPRESSED for packed in ("gzip", "zstd")),
        *((name, "load_data", "plain") for name in COMPRESSED),
    ],
)
def test_a_file_gives_its_interactions_or_the_line_that_is_wrong(
    name: str, reader: str, packed: str, tmp_path: Path
) -> None:
    case, told = CASES[name], list[str]()
    path = tmp_path / "file"
    path.write_bytes(PACKED[packed](case.raw))
    if packed == "zstd" and not is_utf8(case.raw):
        with pytest.raises(DataError, match="compressed by zstd, and its text is not UTF-8; decompress it first"):
            READERS[reader](path, encoding=case.encoding)
        return
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


WHOLE: Table = {
    "customer_id": ["00731-A", "b", "00731-A", "é"],
    "note": ["x", None, "", "z"],
    "sku": [7, 5, 6, 7],
    "rating": [1.5, 2, 3.25, 4],
    "ts": [HOUR, HOUR - 1, 0, 5],
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_interactions(form: str, packed: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    FORMATS[form][0](WHOLE, path)
    if form != "parquet":
        path.write_bytes(PACKED[packed](path.read_bytes()))
    ratings, times = WHOLE["rating"], WHOLE["ts"]
    expected = Interactions.from_pairs(WHOLE["customer_id"], WHOLE["sku"], ratings=ratings, timestamps=times)
    assert read(path).fingerprint() == expected.fingerprint()


FAULTS: dict[str, tuple[str, Any, str]] = {
    "no user": ("customer_id", None, "expected a user id, an integer from 0 up or a text, found ''"),
    "an empty user": ("customer_id", "", "expected a user id, an integer from 0 up or a text, found ''"),
    "a missing value": ("customer_id", "NaN", "expected a user id, an integer from 0 up or a text, found 'NaN'"),
    "no item": ("sku", None, "expected a item id, an integer from 0 up or a text, found ''"),
    "a negative item": ("sku", -7, "expected a item id, an integer from 0 up or a text, found '-7'"),
    "no rating": ("rating", None, "expected a finite number as rating, found ''"),
    "a rating that is a word": ("rating", "good", "expected a finite number as rating, found 'good'"),
    "no time": ("ts", None, "expected seconds since 1970, or an ISO date, as timestamp, found ''"),
    "a time that is a word": ("ts", "now", "expected seconds since 1970, or an ISO date, as timestamp, found 'now'"),
    "another unit of time": ("ts", HOUR * 1000, "expected one unit for all timestamps, found milliseconds"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_format_refuses_the_same_values(fault: str, form: str, tmp_path: Path) -> None:
    column, value, says = FAULTS[fault]
    path = tmp_path / "file"
    write, first = FORMATS[form]
    write({**WHOLE, column: [*WHOLE[column][:2], value, *WHOLE[column][3:]]}, path)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, {'row' if form == 'parquet' else 'line'} {first + 2}: {says}")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_names_its_columns_if_none_is_known(form: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    FORMATS[form][0]({"colour": ["red"], "shape": ["round"]}, path)
    with pytest.raises(DataError, match="has the columns colour, shape; which of them is the user and the item cannot"):
        read(path)


@pytest.mark.parametrize("cut", [1, 5, 9, 400])
@pytest.mark.parametrize("packed", ["gzip", "zstd", "parquet"])
def test_a_file_that_is_cut_short_is_refused(packed: str, cut: int, tmp_path: Path) -> None:
    path, table = tmp_path / "file", {"user": list(range(900)), "item": [user * 7 % 400 for user in range(900)]}
    FORMATS["parquet" if packed == "parquet" else "csv"][0](table, path)
    content = path.read_bytes() if packed == "parquet" else PACKED[packed](path.read_bytes())
    path.write_bytes(content)
    assert len(read(path)) == 900
    path.write_bytes(content[:-cut])
    with pytest.raises(DataError, match="file is cut short or damaged"):
        read(path)


def test_damage_inside_a_gzip_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b"user,item\n" + b"10,20\n" * 1000, compresslevel=0))
    content[1000] ^= 1  # another digit, which only the checksum shows
    (tmp_path / "bad.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.gz is cut short or damaged .*CRC"):
        read(tmp_path / "bad.gz")


def test_types_of_parquet(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 'a' AS user, 3.0::DOUBLE AS item, 2.5::DECIMAL(4, 2) AS rating, "
            "TIMESTAMPTZ '2020-01-01 00:00:01+00' AS timestamp UNION ALL "
            "SELECT 'b', 4.0, 1, TIMESTAMPTZ '1970-01-01 01:01:00+01') "
            f"TO '{tmp_path / 'd.csv'}' (FORMAT parquet)"
        )
        connection.execute(f"COPY (SELECT 1 AS user, 2 AS item LIMIT 0) TO '{tmp_path / 'empty'}' (FORMAT parquet)")
    assert rows(read(tmp_path / "d.csv")) == [("a", 3, 2.5, 1577836801), ("b", 4, 1.0, 60)]
    with pytest.raises(DataError, match="holds no interactions, only a header"):
        read(tmp_path / "empty")


NAMES = {
    "u.data": "1\t10\t5\t100\n1\t20\t3.5\t90\n2\t10\t1\t80\n",
    "ratings.dat": "1::10::5::100\n1::20::3.5::90\n2::10::1::80\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,5.0,100\n1,20,3.5,90\n2,10,1.0,80\n",
    "set.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t10\t5\t100\n1\t20\t3.5\t90.0\n2\t10\t1\t8e1\n",
    "other order.tsv": "TS\tScore\tIID\tUID\n100\t5\t10\t1\n90\t3.5\t20\t1\n80\t1\t10\t2\n",
    "retail.csv": "StockCode;Customer ID;stars;time\n10;1;5;100\n20;1;3.5;90\n10;2;1;80\n",
    "spaces.txt": "user item rating timestamp\n1 10 5 100\n1 20 3.5 90\n2 10 1 80\n",
}


@pytest.mark.parametrize("name", NAMES)
def test_published_forms_and_their_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(NAMES[name])
    got = read(tmp_path / name, name="tiny")
    assert rows(got) == [(1, 10, 5.0, 100), (1, 20, 3.5, 90), (2, 10, 1.0, 80)]
    assert (got.user_ids.dtype, got.name) == (np.int64, "tiny")


def test_a_missing_file_and_a_folder_are_storage_errors(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*none\.csv: No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(StorageError, match="Is a directory"):
        read(tmp_path)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**62),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(lambda text: f"<{text}>"),
            st.floats(-5, 5, width=32),
            st.integers(-(2**26), 2**26),
        ),
        min_size=1,
        unique_by=lambda row: row[:2],
    )
)
def test_json_and_parquet_give_back_any_text(table: list[tuple[int, str, float, int]]) -> None:
    import tempfile

    columns = dict(zip(("user", "item", "rating", "timestamp"), map(list, zip(*table, strict=True)), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        for form in ("jsonl", "parquet"):
            path = Path(folder, form)
            FORMATS[form][0](columns, path)
            assert rows(read(path)) == sorted(table)


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
