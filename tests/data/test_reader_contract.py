"""What reading a file must do, whatever its format: a file's bytes, and the interactions or the refusal they give.

A new format is held to this by an entry in FORMATS, a new way in by one in READERS, and a new kind of fault by one in
FAULTS, if every format can have it, or in `reader_cases`.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.data import Interactions, load_data, read
from edgerec.errors import DataError, StorageError
from tests.data.reader_cases import CASES, HOUR

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
    *("UTF-16 that is not asked for", "a JSON array", "blank lines before the header"),
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


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("ids", "where", "left"),
    [
        (["007", "7", "07", "8"], "item = '007'", ["007"]),
        (["1.50", "1.5", "x", "1e1"], "item = '1.5'", ["1.5"]),
        (["1.50", "1.5", "3", "10"], "item = '1.5'", ["1.5"]),
        (["10", "9", "5", "6"], "item > 8", [9, 10]),
        (["10", "9", "5", "6"], "zip = '01'", [9]),
        (["10", "9", "5", "6"], "rating >= 4", [5, 6]),
    ],
)
def test_a_condition_compares_ids_and_codes_as_text_and_numbers_as_numbers(
    form: str, ids: list[str], where: str, left: list[Any], tmp_path: Path
) -> None:
    columns = {"user": [5, 6, 7, 8], "item": ids, "rating": [1.0, 2.5, 10.0, 4.0], "zip": ["1", "01", "001", "2"]}
    FORMATS[form][0](columns, tmp_path / "file")
    assert read(tmp_path / "file", where=where).item_ids.tolist() == left


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1.0, 2.0, 10.0, 1.0], [1, 2, 10]),
        (["1.0", "2", "1.00", "10.0"], [1, 2, 10]),
        (["1.0", "2.50", "1", "x"], ["1", "1.0", "2.50", "x"]),
    ],
)
def test_ids_that_are_whole_numbers_are_integers(
    form: str, ids: list[Any], expected: list[Any], tmp_path: Path
) -> None:
    FORMATS[form][0]({"user": [5, 6, 7, 8], "item": ids}, tmp_path / "file")
    assert read(tmp_path / "file").item_ids.tolist() == expected
    whole = [one for one in expected if one == 2]
    if whole:
        assert read(tmp_path / "file", where="item = 2").item_ids.tolist() == whole


FAULTS: dict[str, tuple[str, Any, str]] = {
    "no user": ("customer_id", None, "expected a user id, an integer from 0 up or a text, found ''"),
    "an empty user": ("customer_id", "", "expected a user id, an integer from 0 up or a text, found ''"),
    "a missing value": ("customer_id", "NaN", "expected a user id, an integer from 0 up or a text, found 'NaN'"),
    "no item": ("sku", None, "expected an item id, an integer from 0 up or a text, found ''"),
    "a negative item": ("sku", -7, "expected an item id, an integer from 0 up or a text, found '-7'"),
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
            "COPY (SELECT 4.00::DECIMAL(9, 2) AS user, 3.0::DOUBLE AS item, 2.5::DECIMAL(4, 2) AS rating, "
            "TIMESTAMPTZ '2020-01-01 00:00:01+00' AS timestamp UNION ALL "
            "SELECT 5, 4.0, 1, TIMESTAMPTZ '1970-01-01 01:01:00+01') "
            f"TO '{tmp_path / 'd.csv'}' (FORMAT parquet)"
        )
        connection.execute(f"COPY (SELECT 1 AS user, 2 AS item LIMIT 0) TO '{tmp_path / 'empty'}' (FORMAT parquet)")
    assert rows(read(tmp_path / "d.csv")) == [(4, 3, 2.5, 1577836801), (5, 4, 1.0, 60)]
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


def test_a_list_is_read_as_movielens_writes_genres(tmp_path: Path) -> None:
    (tmp_path / "jsonl").write_text(
        '{"user": 1, "item": 2, "title": "[a] b", "genres": ["Drama", "Film, Noir"]}\n'
        '{"user": 1, "item": 3, "title": "c", "genres": []}\n{"user": 1, "item": 4, "title": "d", "genres": null}\n'
    )
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (FROM read_json('{tmp_path / 'jsonl'}', columns={{user: 'INT', item: 'INT', title: 'VARCHAR', "
            f"genres: 'VARCHAR[]'}})) TO '{tmp_path / 'parquet'}' (FORMAT parquet)"
        )
    for form in ("jsonl", "parquet"):
        found = read(tmp_path / form, where="genres LIKE 'Drama|%' OR item > 2")
        assert found.titles is not None
        assert found.categories is not None
        assert found.titles.tolist() == ["[a] b", "c", "d"]
        assert found.categories.tolist() == ["Drama|Film, Noir", "", ""]


def test_a_pipe_and_a_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(DataError, match=f"{path} is a pipe or a device, which can be read only once; write it to"):
            load_data(path)


def test_a_missing_file_and_a_folder_are_storage_errors(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*none\.csv: No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(StorageError, match="Is a directory"):
        read(tmp_path)


@settings(max_examples=40)
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
