"""Attributes of items besides titles, from a table or arrays to the bundle, its patches and the next version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.cli.app import run
from edgerec.data.attributes import read_attributes
from edgerec.errors import BudgetError, BundleError, DataError, EdgeRecError, ExportError, RequestError
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle, metadata
from edgerec_export import diff, export, from_arrays

N = 300
IDS = [f"p{n}" for n in range(N)]
CATEGORY = [("garden", "Drama|Film", "", "Bücher")[n % 4] for n in range(N)]
YEAR = [str(1700 + n) for n in range(N)]  # more different texts than a byte counts
ATTRIBUTES = {"category": CATEGORY, "year": YEAR}
ROWS = np.random.default_rng(0).standard_normal((N, 8)).astype(np.float32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def exported(folder: Path, attributes: Any = ATTRIBUTES, items: Any = IDS, **options: Any) -> Path:
    source = from_arrays(ROWS[: len(items)], item_ids=items, attributes=attributes)
    return export(source, folder, **{"precision": "int8", "verify": False, **options}).folder


@pytest.mark.parametrize(
    "options",
    [{}, {"layout": "csc", "lookup": True}, {"ids": "hash64"}, {"version": "1.0"}, {"precision": "fp32"}],
    ids=str,
)
def test_answers_are_the_texts_that_were_given(options: dict[str, Any], tmp_path: Path) -> None:
    folder = exported(tmp_path / "b", **options)
    model = Recommender.load(folder)
    assert metadata(folder).attributes == ("category", "year")
    for n in range(N):
        expected = {"category": CATEGORY[n], "year": YEAR[n]} if CATEGORY[n] else {"year": YEAR[n]}
        assert model.attributes(IDS[n]) == expected
        assert list(model.attributes(IDS[n])) == list(expected)
    assert model.title("p0") is None
    with pytest.raises(RequestError, match="nobody"):
        model.attributes("nobody")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(TEXT.filter(bool), st.lists(TEXT, min_size=3, max_size=3), max_size=3))
def test_any_names_and_texts(tmp_path_factory: pytest.TempPathFactory, attributes: dict[str, list[str]]) -> None:
    model = Recommender.load(exported(tmp_path_factory.mktemp("any") / "b", attributes, [7, 8, 9]))
    for n in range(3):
        assert model.attributes(7 + n) == {name: texts[n] for name, texts in attributes.items() if texts[n]}


def test_items_with_a_value_are_an_allow_list(tmp_path: Path) -> None:
    model = Recommender.load(exported(tmp_path / "b"))
    films = {one for one, text in zip(IDS, CATEGORY, strict=True) if text == "Drama|Film"}
    for value in ("Film", "Drama", "Drama|Film"):
        assert set(model.items_with("category", value)) == films
    assert model.items_with("category", "Fil") == []
    assert model.items_with("year", "1712") == ["p12"]
    found = model.recommend(history=["p0"], k=10, allow=model.items_with("category", "Film"))
    assert {one.item for one in found} <= films
    with pytest.raises(RequestError, match=r"no attribute 'price' of items; it has category, year"):
        model.items_with("price", "1")
    with pytest.raises(RequestError, match="not empty"):
        model.items_with("category", "")
    bare = Recommender.load(exported(tmp_path / "bare", {}))
    assert bare.attributes("p0") == {}
    with pytest.raises(RequestError, match="it has none"):
        bare.items_with("category", "Film")


def test_the_next_version_keeps_them_and_a_patch_brings_them(tmp_path: Path) -> None:
    """Items that the older version lacks have none. If an export gives attributes, only these are kept."""
    first = exported(tmp_path / "first", layout="dense")
    more = [*IDS[:-1], "new"]
    kept = exported(tmp_path / "kept", None, more, like=first, precision="fp32", layout="auto")
    model = Recommender.load(kept)
    assert model.attributes("p1") == {"category": "Drama|Film", "year": "1701"}
    assert model.attributes("new") == {}
    prices = {"price": [f"{n}.50" for n in range(N)]}
    other = exported(tmp_path / "other", prices, more, like=kept, precision="fp32", layout="auto")
    device = Recommender.load(first)
    for old, new in ((first, kept), (kept, other)):
        device.apply(diff(old, new, tmp_path / "patch", overwrite=True).path)
        expected = Recommender.load(new)
        assert all(device.attributes(one) == expected.attributes(one) for one in more)
    assert device.attributes("new") == {"price": "299.50"}


def test_the_next_version_keeps_the_numbers_of_texts(tmp_path: Path) -> None:
    """A new price does not renumber the others: the patch is as small as its row, whatever the order of the prices."""
    texts = np.array([f"{n % 60:02}.90" for n in range(N)])

    def stored(folder: Path) -> tuple[list[bytes], list[int]]:
        bundle = Bundle(folder)
        codes = bundle.attributes()["price"]
        return list(codes.texts), bundle.section("attribute_0").tolist()

    old = exported(tmp_path / "old", {"price": texts}, layout="dense")
    before, codes = stored(old)
    texts[texts == "07.90"] = "03.90"  # its number is free
    texts[-1], texts[-2] = "00.10", "99.99"
    new = exported(tmp_path / "new", {"price": texts}, like=old, precision="fp32", layout="auto")
    after, of_rows = stored(new)
    assert after[7] == b"00.10"
    assert after[60] == b"99.99"
    assert [one for n, one in enumerate(after[:60]) if n != 7] == [one for n, one in enumerate(before) if n != 7]
    assert sum(one != other for one, other in zip(of_rows, codes, strict=True)) == 5 + 2
    fewer = np.where(np.arange(N) % 2, "99.99", "00.10")
    last = exported(tmp_path / "last", {"price": fewer}, like=new, precision="fp32", layout="auto")
    assert stored(last)[0] == [b"00.10", b"99.99"]
    assert Recommender.load(last).attributes("p1") == {"price": "99.99"}


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ({"": YEAR}, "each with a name"),
        ({3: YEAR}, "each with a name"),
        ({str(n): YEAR for n in range(65)}, "at most 64"),
        ({"year": YEAR[:-1]}, "as many texts of 'year'"),
        ({"year": list(range(N))}, "as many texts of 'year'"),
    ],
    ids=["empty", "number", "many", "short", "numbers"],
)
def test_attributes_that_fit_no_bundle_are_refused(names: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=match):
        exported(tmp_path / "b", names)


def test_a_limit_counts_them(tmp_path: Path) -> None:
    least = export(from_arrays(ROWS, item_ids=IDS), tmp_path / "bare", precision="int8", verify=False).nbytes
    with pytest.raises(BudgetError, match="leave --attributes out"):
        exported(tmp_path / "b", max_bytes=least)


def spoiled(folder: Path, *, names: Any = None, section: str = "attribute_0", entry: Any = None) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["item_attributes"] = manifest["item_attributes"] if names is None else names
    if entry == "gone":
        del manifest["sections"][section]
    elif entry is not None:
        manifest["sections"][section] = [manifest["sections"][section][0], *entry]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        {"names": "category"},
        {"names": []},
        {"names": ["category", 3]},
        {"names": ["category", ""]},
        {"names": ["category", "category"]},
        {"names": [str(n) for n in range(65)]},
        {"names": ["category", "year", "price"]},
        {"names": {"category": 1}},
        {"entry": "gone"},
        {"entry": ["uint8", [N - 1]]},
        {"entry": ["int8", [N]]},
        {"section": "attribute_1_texts", "entry": "gone"},
        {"section": "attribute_1_texts", "entry": ["int8", [4]]},
        {"section": "attribute_1_text_offsets", "entry": "gone"},
        {"section": "attribute_1_text_offsets", "entry": ["uint32", [0]]},
        {"section": "attribute_1_text_offsets", "entry": ["float32", [N + 1]]},
        {"section": "attribute_1_text_offsets", "entry": ["uint32", [N]]},
    ],
    ids=str,
)
def test_a_manifest_that_promises_others_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    folder = exported(tmp_path / "b")
    spoiled(folder, **change)
    with pytest.raises(BundleError):
        Recommender.load(folder)


def test_a_number_beyond_the_texts_is_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path / "b")
    manifest = json.loads((folder / "manifest.json").read_text())
    tables = folder / manifest["tables"]["file"]
    content = bytearray(tables.read_bytes())
    at = manifest["sections"]["attribute_0"][0]
    content[at : at + N] = bytes([4]) * N
    tables.write_bytes(content)
    model = Recommender.load(folder, verify=False)
    for ask in (lambda: model.attributes("p0"), lambda: model.items_with("category", "Film")):
        with pytest.raises(BundleError, match=r"attributes of .* are damaged"):
            ask()


def table(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text("id,name,category,Price\np0,Soap,home|bath,2.50\np1,Salt,,0.99\np0,Soap,home,\n")
    return path


def test_columns_of_a_table_of_items(tmp_path: Path) -> None:
    path, items, ids = table(tmp_path), tmp_path / "items.npy", tmp_path / "ids.txt"
    assert read_attributes(path, columns=["price"]) == {"price": {"p0": "2.50", "p1": "0.99"}}
    with pytest.raises(DataError, match=r"has the columns id, name, category, Price; expected .* colour"):
        read_attributes(path, columns=["colour"])
    np.save(items, ROWS)
    ids.write_text("\n".join(IDS) + "\n")
    own = ["export", "--items", str(items), "--ids", str(ids), "--no-verify", "--out", str(tmp_path / "b")]
    assert run([*own, "--item-attributes", str(path), "--attributes", "Price, category"]) == 0
    model = Recommender.load(tmp_path / "b")
    assert model.attributes("p0") == {"Price": "2.50", "category": "home"}
    assert (model.title("p0"), model.attributes("p9")) == (None, {})
    for wrong, message in (
        (["--attributes", "price"], "--attributes takes columns of --item-attributes FILE"),
        (["--item-attributes", str(path)], "--titles includes the titles"),
        (["--item-attributes", str(path), "--attributes", "price,,"], "write different names separated by commas"),
        (["--item-attributes", str(path), "--attributes", "price,price"], "write different names"),
        (["--item-attributes", str(path), "--attributes", "colour"], "expected an item column"),
    ):
        with pytest.raises(EdgeRecError, match=message):
            run([*own, *wrong])


def test_a_fit_includes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "items.csv", tmp_path / "b"
    path.write_text("item,title,price\n" + "".join(f"{n},Film {n},{n}.50\n" for n in range(50)))
    words = ["fit", "synthetic:60x50x900", "--trials", "1", "--no-users", "--titles", "--out", str(out)]
    words += ["--item-attributes", str(path), "--attributes", "price"]
    with pytest.raises(BudgetError, match="no --attributes"):
        run([*words, "--max-bytes", "6000"])
    assert run([*words, "--max-bytes", "16KiB"]) == 0
    model = Recommender.load(out)
    assert (model.title(7), model.attributes(7)) == ("Film 7", {"price": "7.50"})
    assert f"--titles --attributes price --item-attributes {path} --out best.bundle" in capsys.readouterr().out
    assert run(["recommend", str(out), "--history", "7", "-k", "1", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["attributes"] == {"price": f"{found['item']}.50"}
    path.write_text("item,price\n" + "".join(f"{n},{n}.25\n" for n in range(50)))  # neither titles nor categories
    words.remove("--titles")
    assert run([*words, "--max-bytes", "16KiB", "--overwrite"]) == 0
    assert Recommender.load(out).attributes(7) == {"price": "7.25"}
