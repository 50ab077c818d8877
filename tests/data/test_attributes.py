"""Titles and categories of items, from every file that data sets store them in."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from edgerec.data import Interactions, read_titles
from edgerec.data.folders import read_folder, write_folder
from edgerec.data.readers import Reading
from edgerec.errors import DataError, StorageError

FORMATS = {
    "u.item": "1|Les Misérables (1995)|01-Jan-1995||http://x|0|1\n2|Fargo (1996)|14-Feb-1997||http://y|1|0\n",
    "movies.dat": "1::Les Misérables (1995)::Drama\n2::Fargo (1996)::Crime\n",
    "movies.csv": 'movieId,title,genres\n1,"Les Misérables (1995)",Drama\n2,Fargo (1996),Crime\n',
    "set.item": "item_id:token\tmovie_title:token_seq\tclass:token_seq\n"
    "1\tLes Misérables (1995)\tDrama\n2\tFargo (1996)\tCrime\n",
    "artists.dat": "id\tname\turl\n1\tLes Misérables (1995)\thttp://x\n2\tFargo (1996)\thttp://y\n",
    "items.tsv": "Item\tTitle\n1\tLes Misérables (1995)\n2\tFargo (1996)\n\n",
}
EXPECTED = {1: "Les Misérables (1995)", 2: "Fargo (1996)"}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(FORMATS[name].encode(encoding))
    assert read_titles(tmp_path / name) == EXPECTED


def test_a_line_may_end_before_its_title(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text('item,title,year\n1,"Soap\n2",2000\n2,Salt\n3\n')
    assert read_titles(tmp_path / "items.csv") == {1: "Soap\n2", 2: "Salt"}


def test_gzip_and_text_ids(tmp_path: Path) -> None:
    (tmp_path / "t.gz").write_bytes(gzip.compress(b"item,name\nB01,Soap\n7,Salt\n"))
    assert read_titles(tmp_path / "t.gz") == {"B01": "Soap", "7": "Salt"}


def test_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item,title\n1,Soap\n2,a,b\n")
    with pytest.raises(DataError, match=r"items\.csv, line 3: expected 2 columns separated by ',', found 3"):
        read_titles(path)
    path.write_text("item,title\n1,Soap\n-2,Salt\n")
    with pytest.raises(DataError, match=r"items\.csv, line 3: expected an item id"):
        read_titles(path)
    path.write_text("item,genre\n1,2\n")
    with pytest.raises(DataError, match="has no title column"):
        read_titles(path)
    path.write_text("item,price\n1,2\n")
    with pytest.raises(DataError, match="has the columns item, price; expected an item column"):
        read_titles(path)
    with pytest.raises(StorageError):
        read_titles(tmp_path / "none")


def test_a_folder_written_is_read_back_the_same(tmp_path: Path) -> None:
    given = Interactions.from_pairs(
        ["a", "b", "b"], ["7", "7", "007"], ratings=[0.1, 3.7, 1e-9], timestamps=[1, 2, 3], name="x"
    ).with_titles({"7": "Soap", "007": "Séance"})
    write_folder(tmp_path, given, {"source": "a test"})
    got = read_folder(tmp_path, name="x")
    assert got.fingerprint() == given.fingerprint()
    assert got.titles is not None
    assert dict(zip(got.item_ids.tolist(), got.titles.tolist(), strict=True)) == {
        "7": "Soap",
        "007": "Séance",
    }


def test_titles_whose_ids_are_integers_find_items_whose_ids_are_texts(tmp_path: Path) -> None:
    (tmp_path / "interactions.tsv").write_text("user\titem\n1\t7\n1\tx\n")
    (tmp_path / "items.tsv").write_text("item\ttitle\n7\tSoap\n")
    got = read_folder(tmp_path)
    assert got.titles is not None
    assert got.titles.tolist() == ["Soap", ""]


def test_train_and_test_are_united_and_id_lists_are_no_titles(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 1 2\n")
    (tmp_path / "test.txt").write_text("0 3\n1 0\n")
    (tmp_path / "items.tsv").write_text("id\torg_id\n0\t17\n")
    got = read_folder(tmp_path)
    assert (got.shape, len(got), got.titles) == ((2, 4), 4, None)


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("valid", ["valid", "validation"])
def test_parts_of_a_published_split_may_be_compressed(valid: str, packed: str, tmp_path: Path) -> None:
    for name, line in (("train", "0 1 2\n"), (valid, "0 3\n"), ("test", "1 0\n")):
        (tmp_path / f"{name}.txt{packed}").write_bytes(gzip.compress(line.encode()) if packed else line.encode())
    got = read_folder(tmp_path)
    assert got.parts is not None
    assert got.parts.tolist() == [0, 0, 1, 2]


def test_tables_that_a_folder_of_many_files_leaves_out_are_named(tmp_path: Path) -> None:
    notes: list[str] = []
    for name in ("part-0", "part-1.csv", "more.csv.gz", "_SUCCESS", "items.tsv"):
        (tmp_path / name).write_text("item,user,title\n1,2,Soap\n")
    assert len(read_folder(tmp_path, Reading(tell=notes.append))) == 1
    assert notes == [
        f"{tmp_path}: part-* is read, and not more.csv.gz; give a pattern of files to choose others",
    ]


def test_a_folder_without_interactions_lists_what_it_could_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no interactions that can be read; expected one of: .*u\.data"):
        read_folder(tmp_path)
