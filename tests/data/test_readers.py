"""Every format, and every way in which a line can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerec.data import Interactions, columns, read
from edgerec.errors import DataError, StorageError

EXPECTED = [(1, 10, 5.0, 100), (1, 20, 3.5, 90), (2, 10, 1.0, 80)]

FORMATS = {
    "u.data": "1\t10\t5\t100\n1\t20\t3.5\t90\n2\t10\t1\t80\n",
    "ratings.dat": "1::10::5::100\n1::20::3.5::90\n2::10::1::80\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,5.0,100\n1,20,3.5,90\n2,10,1.0,80\n",
    "set.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t10\t5\t100\n1\t20\t3.5\t90.0\n2\t10\t1\t8e1\n",
    "other order.tsv": "TS\tScore\tIID\tUID\n100\t5\t10\t1\n90\t3.5\t20\t1\n80\t1\t10\t2\n",
    "more columns.tsv": "user\titem\tweight\ttime\tnote\n1\t10\t5\t100\tx\n1\t20\t3.5\t90\t\n2\t10\t1\t80\tz\n",
    "quoted.csv": '"User","Item","Rating","Timestamp"\n"1","10","5","100"\n1,20,3.5,90\n"2",10,1,80\n',
    "semicolons.csv": "user;item;rating;timestamp\n1;10;5;100\n1;20;3.5;90\n2;10;1;80\n",
    "spaced.csv": "user, item, rating, timestamp\n1, 10, 5, 100\n1, 20, 3.5, 90\n2, 10, 1, 80\n",
    "spaces.txt": "user item rating timestamp\n1 10 5 100\n1 20 3.5 90\n2 10 1 80\n",
}


def rows(interactions: Interactions) -> list[tuple[object, ...]]:
    ids = (interactions.user_ids[interactions.user_rows()], interactions.item_ids[interactions.indices])
    values = (column for column in (interactions.ratings, interactions.timestamps) if column is not None)
    return list(zip(*(column.tolist() for column in (*ids, *values)), strict=True))


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read(tmp_path: Path, name: str) -> None:
    got = read(write(tmp_path / name, FORMATS[name]), name="tiny")
    assert rows(got) == EXPECTED
    assert got.user_ids.dtype == np.int64
    assert got.name == "tiny"


@pytest.mark.parametrize("name", FORMATS)
def test_gzip_is_told_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(FORMATS[name].encode()))
    assert rows(read(tmp_path / name)) == EXPECTED


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
@pytest.mark.parametrize("tail", ["", "\n", "\n\n"])
def test_line_ends_and_blank_lines_at_the_end_do_not_matter(tmp_path: Path, ending: str, tail: str) -> None:
    text = FORMATS["u.data"].rstrip("\n") + tail
    assert rows(read(write(tmp_path / "f", text.replace("\n", ending)))) == EXPECTED


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert rows(read(write(tmp_path / "f.csv", FORMATS["ratings.csv"], "utf-8-sig"))) == EXPECTED


def test_lightgcn_lines(tmp_path: Path) -> None:
    got = read(write(tmp_path / "train.txt", "0 5 3\n1 3 \n2\n7 5\n"))
    assert rows(got) == [(0, 3), (0, 5), (1, 3), (7, 5)]
    assert got.ratings is None
    assert got.timestamps is None


def test_two_columns_without_a_header(tmp_path: Path) -> None:
    assert rows(read(write(tmp_path / "f.tsv", "3\t4\n3\t5\n"))) == [(3, 4), (3, 5)]


def test_text_ids_stay_text(tmp_path: Path) -> None:
    text = "user,item\nAnna,007\nBjörn,7\n"
    expected = [("Anna", "007"), ("Björn", "7")]
    assert rows(read(write(tmp_path / "f.csv", text))) == expected
    assert rows(read(write(tmp_path / "g.csv", text, "latin-1"))) == expected


def test_ids_too_long_for_an_integer_are_text(tmp_path: Path) -> None:
    long = "9" * 25
    assert rows(read(write(tmp_path / "f.csv", f"user,item\n{long},1\n"))) == [(long, 1)]


MALFORMED = {
    "too few columns": ("1\t10\t5\t1\n1\t20\t5\n", 2, "expected 4 columns separated by '\\t', found 3"),
    "too many columns": ("1::10::5::1\n1::2::3::4::5\n", 2, "expected 4 columns separated by '::', found 5"),
    "a blank line between": (
        "1\t10\n\n2\t10\n",
        2,
        "expected 2 columns separated by '\\t', found a blank line",
    ),
    "a rating that is a word": ("user,item,rating\n1,2,good\n", 2, "finite number as rating, found 'good'"),
    "a rating that is NaN": ("user,item,rating\n1,2,3\n1,3,nan\n", 3, "finite number as rating, found 'nan'"),
    "an infinite rating": ("user,item,rating\n1,2,inf\n", 2, "finite number as rating, found 'inf'"),
    "a missing rating": ("user,item,rating\n1,2,\n", 2, "finite number as rating, found ''"),
    "a negative user": ("1\t10\t5\n-1\t10\t5\n", 2, "user id, an integer from 0 up or a text, found '-1'"),
    "a negative item": ("user,item\n1,-20\n", 2, "item id, an integer from 0 up or a text, found '-20'"),
    "an empty item": ("user,item\n1,2\n1,\n", 3, "item id, an integer from 0 up or a text, found ''"),
    "a date as timestamp": (
        "user,item,timestamp\n1,2,2015-01-01\n",
        2,
        "expected whole seconds since 1970 as timestamp, found '2015-01-01'",
    ),
    "half a second": ("user,item,timestamp\n1,2,0.5\n", 2, "as timestamp, found '0.5'"),
    "a time past all bounds": ("user,item,timestamp\n1,2,99999999999999999999\n", 2, "as timestamp, found"),
    "a word in LightGCN's lines": (
        "0 1 2\n1 2 x\n",
        2,
        "'user item item ...', integers from 0 up, found 'x'",
    ),
    "a negative number there": ("0 1 -2\n", 1, "integers from 0 up, found '-2'"),
    "a blank line there": ("0 1\n\n1 2\n", 2, "found a blank line"),
    "a quote that never ends": ('user,item,rating\n1,2,3\n1,"2,3\n', 3, "expected 3 columns"),
    "too many columns without a header": ("1,2,3,4,5\n", 1, "expected 2 to 4 columns"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_line_is_named(tmp_path: Path, what: str) -> None:
    text, line, reason = MALFORMED[what]
    path = write(tmp_path / "file.txt", text)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("user,item\n", "holds no interactions"),
        ("0\n1\n", "holds no interactions"),
        (
            "who,what,rating\n1,2,3\n",
            "has the columns who, what, rating; expected a header with a user column",
        ),
        ("user,stars\n1,2\n", "has the columns user, stars"),
        ("PK\x03\x04\0\x15", "is not a text file"),
    ],
)
def test_a_file_without_interactions_says_why(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path / "file.csv", text)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_a_truncated_gzip_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.tsv.gz"
    path.write_bytes(gzip.compress(("user\titem\n" + "1\t2\n" * 1000).encode())[:-20])
    with pytest.raises(DataError, match=r"cut\.tsv\.gz is cut short or damaged"):
        read(path)


def test_damage_inside_a_gzip_names_the_file(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(np.random.default_rng(0).bytes(5000)))
    content[1000] ^= 0xFF
    (tmp_path / "bad.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.gz"):
        read(tmp_path / "bad.gz")


def test_a_missing_file_and_a_folder_are_storage_errors(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*none\.csv: No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(StorageError, match="Is a directory"):
        read(tmp_path)


def test_the_line_number_counts_over_groups_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_LINES_AT_ONCE", 3)
    lines = [f"{user}\t{user + 1}\n" for user in range(10)]
    path = write(tmp_path / "f", "".join(lines) + "\n\n\n\n")
    assert len(read(path)) == 10
    lines[7] = "7\tx\t1\n"
    with pytest.raises(DataError, match="line 8: expected 2 columns"):
        read(write(path, "".join(lines)))


def test_ids_of_a_late_group_turn_all_to_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_LINES_AT_ONCE", 2)
    got = read(write(tmp_path / "f", "user\titem\n1\t1\n2\t1\na\t1\n"))
    assert rows(got) == [("1", 1), ("2", 1), ("a", 1)]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**62),
            st.integers(0, 99),
            st.floats(-5, 5, width=32),
            st.integers(-(2**36), 2**36),
        ),
        min_size=1,
        unique_by=lambda row: row[:2],
    )
)
def test_what_is_written_is_read(table: list[tuple[int, int, float, int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.tsv")
        lines = ["\t".join(map(str, row)) for row in table]
        path.write_text("\n".join(["user\titem\trating\ttimestamp", *lines]))
        assert rows(read(path)) == sorted(table)


def test_ratings_between_spaces_are_not_taken_for_items(tmp_path: Path) -> None:
    path = write(tmp_path / "d.txt", "1 10 5 978300760\n1 11 4 978300761\n2 10 3 978300762\n")
    with pytest.raises(DataError, match="tabs or commas"):
        read(path)
