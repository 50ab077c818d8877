"""How data are read on request: columns, filters, several files, attributes of items, the cache, the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from edgerec.data import Interactions, load_data, parsed, read, staging
from edgerec.data.named import find_files, load_reported
from edgerec.data.readers import Reading
from edgerec.errors import DataError, MissingExtraError

SHOP = """customer_id,sku,ts,price,title,country,Is New
00731-A,1,2024-01-01,9.5,Soap,DE,true
00731-A,2,2024-01-02,12,Salt,DE,false
b,1,2024-01-03,,"Soap, new",AT,true
b,3,2024-01-04,100,,,false
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.csv"
    path.write_text(SHOP)
    return path


def pairs(found: Interactions) -> list[tuple[Any, Any]]:
    users = found.user_ids[found.user_rows()].tolist()
    return list(zip(users, found.item_ids[found.indices].tolist(), strict=True))


def test_columns_are_known_by_common_names_and_attributes_are_taken_along(shop: Path) -> None:
    found = read(shop)
    assert pairs(found) == [("00731-A", 1), ("00731-A", 2), ("b", 1), ("b", 3)]
    assert found.timestamps is not None
    assert found.timestamps[0] == np.datetime64("2024-01-01", "s").astype(int)
    assert found.titles is not None
    assert found.titles.tolist() == ["Soap, new", "Salt", ""]


def test_columns_may_be_named(shop: Path, tmp_path: Path) -> None:
    found = read(
        shop,
        columns={"user": "country", "item": "TITLE", "time": "none", "rating": "price"},
        where="price > 0 AND country <> ''",
    )
    assert pairs(found)[:2] == [("DE", "Salt"), ("DE", "Soap")]
    assert (found.timestamps, found.ratings is not None) == (None, True)
    with pytest.raises(DataError, match=r"none of them is 'shop' \(--user-column\)"):
        read(shop, columns={"user": "shop"})
    with pytest.raises(DataError, match="one column, sku, for the user and the item"):
        read(shop, columns={"user": "sku"})
    (tmp_path / "plain.tsv").write_text("x\t5\t7\t1\ty\nx\t6\t7\t2\ty\n")
    assert pairs(read(tmp_path / "plain.tsv", columns={"user": "3", "item": "2"})) == [(7, 5), (7, 6)]
    (tmp_path / "texts.csv").write_text("u1,a\nu2,b\n")
    assert pairs(read(tmp_path / "texts.csv", columns={"user": "1", "item": "2"})) == [("u1", "a"), ("u2", "b")]
    with pytest.raises(DataError, match="or numbers from 1 if the first line is no header"):
        read(tmp_path / "texts.csv")
    (tmp_path / "numbers.csv").write_text("1,2\nx,a\n")
    assert pairs(read(tmp_path / "numbers.csv", columns={"user": "2", "item": "1"})) == [("2", "1"), ("a", "x")]
    (tmp_path / "named.csv").write_text("customer,thing\nx,a\n")
    with pytest.raises(DataError, match=r"the columns customer, thing; none of them is '2' \(--item-column\)"):
        read(tmp_path / "named.csv", columns={"item": "2"})
    (tmp_path / "three.tsv").write_text("1\t5\t7\n")
    assert pairs(read(tmp_path / "three.tsv", columns={"item": "3", "rating": "none"})) == [(1, 7)]


@pytest.mark.parametrize(
    ("header", "item"),
    [
        ("user_id,movieId,title", "movieId"),
        ("Customer ID;StockCode;Description", "StockCode"),
        ("visitorid,event,itemid,transactionid", "itemid"),
        ("asin,parent_asin,user_id", "asin"),
        ("user,item,artist", "item"),
        ("userId,artist_id,track_id", None),
        ("customer_id,product_id,sku", None),
        ("customer_id,thing", None),
    ],
)
def test_the_item_column_is_guessed_if_it_can_be(header: str, item: str | None, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    separator = ";" if ";" in header else ","
    path.write_text(f"{header}\n{separator.join('abcd'[: len(header.split(separator))])}\n")
    if item is None:
        with pytest.raises(
            DataError, match=r"which of them is the item cannot be recognized by name: give --item-column"
        ):
            read(path)
        return
    assert load_reported(str(path), Reading())[1].used["item"] == item


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("price > 10", [2, 3]),
        ("PRICE > 10 and price < 50", [2]),
        ("price IS NULL", [1]),
        ("ts >= '2024-01-03'", [1, 3]),
        ("country = 'DE' OR sku = 3", [1, 2, 3]),
        ("country IS NULL", [3]),
        ('"Is New"', [1, 1]),
        ("title LIKE 'So%' -- soap", [1, 1]),
        ("customer_id = '00731-A'", [1, 2]),
        ("year(ts) = 2024 AND lower(country) = 'at'", [1]),
        ("price BETWEEN 9 AND 10 OR price IN (12, 13)", [1, 2]),
    ],
)
def test_where_keeps_the_rows_for_which_it_is_true(shop: Path, where: str, left: list[int]) -> None:
    assert [item for _, item in pairs(read(shop, where=where))] == left


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("price > ", "is no condition of SQL"),
        *((where, "is no condition of SQL") for where in ("", " ", "-- price", "price, sku")),
        ("1 = 1; DROP TABLE rows", "is no condition of SQL"),
        ("1 = 1 UNION SELECT 1", "is no condition of SQL"),
        ("price > 1 LIMIT 1", "is no condition of SQL"),
        ("1 = 1) ORDER BY (price", "is no condition of SQL"),
        ("1 = 1) UNION SELECT * FROM rows WHERE (1 = 1", "is no condition of SQL"),
        ("1 = 1) GROUP BY ALL HAVING (1 = 1", "is no condition of SQL"),
        ("1 = 1); DROP TABLE rows; SELECT (1", "is no condition of SQL"),
        ("sku IN (SELECT 1)", "holds a query"),
        ("EXISTS (FROM read_csv('/etc/passwd'))", "holds a query"),
        ("row_number() OVER () > 1", "holds a window function"),
        ("random() < 0.5", r"holds random\(\), which differs from call to call"),
        ("ts < now()", r"holds now\(\), which differs"),
        ("cost > 1", "names the column cost, which is not there; there are customer_id, sku"),
        ('country = "DE"', r"names the column DE, which is not there; .*texts are in single quotes"),
        ("sum(price) > 1", "cannot be computed: "),
        ("country > 5", "cannot be computed: "),
        ("upper(price", "is no condition of SQL"),
        ("no_such_function(price)", "cannot be computed: "),
        ("price > 1000", "0 interactions of .* are left by --where"),
    ],
)
def test_where_is_a_condition_on_one_row_and_nothing_else(shop: Path, where: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read(shop, where=where)
    assert "\n" not in str(caught.value)


def test_rows_that_are_filtered_out_may_be_malformed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    rows: list[dict[str, Any]] = [{"user": 1, "item": 2, "kind": "buy"}, {"user": 1, "item": None, "kind": "login"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert pairs(read(path, where="kind = 'buy'")) == [(1, 2)]
    with pytest.raises(DataError, match="line 2: expected an item id"):
        read(path)


def test_min_rating(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n1,1,3.5\n1,2,4\n1,2,2\n2,2,5\n")
    found, report = load_reported(str(path), Reading(min_rating=4))
    assert pairs(found) == [(1, 2), (2, 2)]
    assert (report.rows, report.dropped, report.repeats) == (4, 2, 0)
    with pytest.raises(DataError, match=r"no rating column for --min-rating; name it with --rating-column"):
        read(path, columns={"rating": "none"}, min_rating=4)


def test_after_reading_duckdb_has_no_files_no_network_and_no_extensions(shop: Path) -> None:
    with staging.session() as (connection, _):
        assert connection.execute("SELECT current_setting('autoload_known_extensions')").fetchone() == (False,)
        staging.lock(connection)
        for statement in (f"FROM read_csv('{shop}')", "LOAD httpfs", "SET enable_external_access = true", "ATTACH 'x'"):
            with pytest.raises(duckdb.Error, match=r"disabled|locked"):
                connection.execute(statement)


def test_each_item_of_a_basket_is_an_interaction(tmp_path: Path) -> None:
    lines = tmp_path / "orders.jsonl"
    lines.write_text(
        '{"user": 1, "items": ["a", " b "], "ts": 1600000000}\n\n{"user": 2, "items": "a", "ts": 1600000100}\n'
        '{"user": 3, "items": [], "ts": 1600000100}\n{"user": 4, "items": ["b"], "ts": 1600000200}\n'
    )
    found = load_data(str(lines))
    assert pairs(found) == [(1, "a"), (1, "b"), (2, "a"), (4, "b")]
    assert found.timestamps is not None
    assert sorted(found.timestamps) == [1600000000, 1600000000, 1600000100, 1600000200]
    lines.write_text('{"user": 1, "items": ["a", "b"]}\n{"user": 2, "items": ["a", ""]}\n')
    with pytest.raises(DataError, match=r"orders\.jsonl, line 2: expected an item id"):
        load_data(str(lines))
    lines.write_text("{}\n{}\n")
    with pytest.raises(DataError, match="which of them is the user and the item cannot be recognized"):
        load_data(str(lines))
    file = tmp_path / "orders.parquet"
    baskets = "SELECT 1 AS user, [7, 8.0] AS items, ['x', 'y'] AS genres UNION ALL SELECT 2, [9], NULL"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({baskets}) TO '{file}'")
    found = load_data(str(file))
    assert pairs(found) == [(1, 7), (1, 8), (2, 9)]
    with duckdb.connect() as connection:
        faulty = "SELECT 1 AS user, ['a'] AS items, 0 AS file_row_number UNION ALL SELECT 2, ['b', NULL], 0"
        connection.execute(f"COPY ({faulty}) TO '{file}'")
    with pytest.raises(DataError, match=r"orders\.parquet, row 2: expected an item id"):
        load_data(str(file))


def test_a_basket_may_come_after_any_number_of_single_items(tmp_path: Path) -> None:
    lines = tmp_path / "orders.jsonl"
    single = [f'{{"user": {user}, "item": "a"}}\n' for user in range(1500)]
    lines.write_text("".join(single) + '{"user": 1500, "item": ["a", "b"]}\n')
    assert pairs(load_data(str(lines)))[-2:] == [(1500, "a"), (1500, "b")]


def test_several_files_of_several_formats(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,price\n1,5,9\n2,5,1\n")
    (tmp_path / "b.jsonl").write_text('{"item": 6, "user": "x", "ts": 5}\n')
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS user_id, 7 AS sku) TO '{tmp_path / 'c.parquet'}'")
    expected = [("1", 5), ("1", 7), ("2", 5), ("x", 6)]
    found = load_data(f"{tmp_path / 'a.csv'},{tmp_path / 'b.jsonl'},{tmp_path / 'c.parquet'}")
    assert pairs(found) == expected
    assert found.timestamps is None
    assert pairs(load_data(str(tmp_path / "*.*"))) == expected
    assert pairs(load_data(str(tmp_path / "*.*"), where="price IS NULL")) == [("1", 7), ("x", 6)]
    assert load_data(str(tmp_path / "[ab].*")).name == tmp_path.name
    (tmp_path / "b.jsonl").write_text('{"item": 6, "user": "x"}\n{"item": 6, "user": ""}\n')
    with pytest.raises(DataError, match=r"b\.jsonl, line 2: expected a user id"):
        load_data(str(tmp_path / "*.*"))


def test_the_report_of_several_files_says_what_was_left_out_and_why(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,ts,title\n1,5,1700000000,Soap\n")
    (tmp_path / "b.csv").write_text("product,buyer,price\n5,2,9\n")
    notes: list[str] = []
    found, report = load_reported(f"{tmp_path / 'a.csv'},{tmp_path / 'b.csv'}", Reading(tell=notes.append))
    assert (pairs(found), found.timestamps, found.titles) == ([(1, 5), (2, 5)], None, None)
    assert report.used == {"user": "user or buyer", "item": "item or product"}
    assert report.ignored == ["ts", "title", "price"]
    left_out = f"{tmp_path / 'b.csv'} has no {{}} column, so those of the other files are not read"
    assert notes == [left_out.format("time") + "; name one with --time-column", left_out.format("title")]


def test_dates_of_several_files_are_one_note(tmp_path: Path) -> None:
    notes: list[str] = []
    for name in "abc":
        (tmp_path / name).write_text("user,item,ts\n1,5,2024-01-01\n")
    load_reported(str(tmp_path / "*"), Reading(tell=notes.append))
    assert notes == [f"{tmp_path / 'a'} and 2 more: the timestamps are taken as ISO dates, in UTC if they name no zone"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path) -> None:
    for name in ("a[1].csv", "b*.csv", "c,d.csv"):
        (tmp_path / name).write_text("user,item\n1,2\n")
        assert find_files(str(tmp_path / name)) == [tmp_path / name]
        assert len(load_data(tmp_path / name)) == 1
    with pytest.raises(DataError, match=r"there is no file, folder or named set '.*x\*'"):
        load_data(str(tmp_path / "x*"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"names the folder .*folder among others"):
        load_data(str(tmp_path / "*"))


def test_a_folder_of_many_files(tmp_path: Path) -> None:
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        with duckdb.connect() as connection:
            connection.execute(f"COPY (SELECT {year} AS user, 7 AS item) TO '{tmp_path}/year={year}/0.parquet'")
    assert pairs(load_data(tmp_path)) == [(2023, 7), (2024, 7)]


def test_attributes_of_another_file_take_precedence(shop: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"sku": 1, "name": "Seife", "genres": ["a", "b"]}\n{"sku": 3, "name": "Pfeffer"}\n')
    found = load_data(shop, attributes=items)
    assert found.titles is not None
    assert found.categories is not None
    assert (found.titles.tolist(), found.categories.tolist()) == (["Seife", "", "Pfeffer"], ["a|b", "", ""])
    less = found.filter(min_item=2)
    assert less.categories is not None
    assert less.categories.tolist() == ["a|b"]


def test_what_a_file_of_attributes_holds_is_said_and_other_items_are_refused(shop: Path, tmp_path: Path) -> None:
    items, notes = tmp_path / "items.csv", list[str]()
    items.write_text("id,name\n1,Soap\n1,Soaps\n2,Salt\n2,Salt\n3\n9,Nine\n")
    found, _ = load_reported(str(shop), Reading(tell=notes.append), attributes=items)
    assert found.titles is not None
    assert found.titles.tolist() == ["Soaps", "Salt", ""]
    assert notes[1:] == [
        f"{items}: 1 of the 6 rows have an item and no title or category",
        f"{items}: 1 items, such as '1', have several texts; the last is used",
        f"{items}: texts of 2 of the 3 items; 1 other ids of the file are none of the data's",
    ]
    items.write_text("id,name\n001,Soap\n")
    with pytest.raises(DataError, match=r"titles or categories of none .* such as '001', and those of the data .*'1'"):
        load_data(shop, attributes=items)


def test_the_report_says_what_was_read(shop: Path) -> None:
    notes: list[str] = []
    _, report = load_reported(str(shop), Reading(tell=notes.append, where="country IS NOT NULL"))
    assert (report.rows, report.dropped, report.repeats, report.times) == (4, 1, 0, "ISO dates")
    assert report.used == {"user": "customer_id", "item": "sku", "time": "ts", "title": "title"}
    assert report.ignored == ["price", "Is New"]
    assert notes == [f"{shop}: the timestamps are taken as ISO dates, in UTC if they name no zone"]


def test_large_data_are_parsed_once(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(parsed, "MIN_BYTES", 1)
    notes: list[str] = []
    reading = Reading(tell=notes.append)
    first, report = load_reported(str(shop), reading)
    monkeypatch.setattr(parsed, "read_parts", lambda *given, **options: pytest.fail("parsed again"))
    again, same = load_reported(str(shop), reading)
    assert (again.fingerprint(), same) == (first.fingerprint(), report)
    assert notes[0] == notes[1]
    assert again.titles is not None
    assert again.titles.tolist() == first.titles.tolist()  # type: ignore[union-attr]
    for changed in (replace(reading, where="sku > 1"), replace(reading, columns={"time": "none"})):
        with pytest.raises(pytest.fail.Exception):
            load_reported(str(shop), changed)
    shop.write_text(SHOP.replace("b,3", "b,4"))
    with pytest.raises(pytest.fail.Exception):
        load_reported(str(shop), reading)


def test_a_damaged_or_unwritable_cache_changes_nothing(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsed, "MIN_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shop / "no folder"))
    expected = load_data(shop).fingerprint()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_data(shop)
    (entry,) = (tmp_path / "cache/edgerec/parsed").glob("*.npz")
    for content in (b"", entry.read_bytes()[:-100]):
        entry.write_bytes(content)
        assert load_data(shop).fingerprint() == expected
    monkeypatch.setattr(parsed, "MAX_BYTES", 1)
    load_data(shop, where="sku = 1")
    assert not list((tmp_path / "cache/edgerec/parsed").glob("*.npz"))


def test_without_duckdb_the_message_names_the_extra(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"duckdb is not installed; .*edgerec\[train\]"):
        read(shop)
    assert len(load_data("synthetic:20x20x50"))
