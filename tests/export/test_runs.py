"""Large catalogues are searched exactly without reading all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgerec.runtime.bundle import Bundle
from edgerec.tables import DenseTable, PrefixTable, SparseTable, Table
from edgerec_export import Source, export
from edgerec_export.layouts import FORMS, mixed, variants

D, USERS = 16, 30
RUN = 128


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a million items would be laid out."""
    monkeypatch.setattr(variants, "GROUP_ROWS", RUN)


def source(items: Table, *, users: bool = True, seed: int = 0) -> Source:
    rng = np.random.default_rng(seed)
    vectors = DenseTable(rng.standard_normal((USERS, D), np.float32)) if users else None
    ids = np.arange(items.n_rows, dtype=np.int64)
    return Source(items, ids, vectors, None if vectors is None else np.arange(USERS, dtype=np.int64))


def popular_first(n: int, seed: int = 0) -> PrefixTable:
    """Few wide and long rows, many narrow and short ones."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 2, 4, 8, 16], n, p=[0.4, 0.25, 0.15, 0.1, 0.1])
    values = rng.standard_normal((n, D)) * np.sqrt(sizes / D)[:, None]
    return PrefixTable.from_dense(values.astype(np.float32), sizes)


def anywhere(n: int, seed: int = 0) -> SparseTable:
    rng = np.random.default_rng(seed)
    kept = rng.random((n, D)) < rng.gamma(1.0, 0.2, (n, 1))
    kept[np.arange(n), rng.integers(0, D, n)] = True
    return SparseTable.from_dense(rng.standard_normal((n, D)).astype(np.float32), kept)


def conditions(folder: Path, graph: str) -> int:
    (path,) = folder.glob(f"{graph}-*.onnx")
    return sum(node.op_type == "If" for node in onnx.load(str(path), load_external_data=False).graph.node)


TABLES = {"mixed": popular_first, "ell": anywhere}


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [2 * RUN, 1000, 9000])
@pytest.mark.parametrize(("layout", "precision"), [form for form in FORMS if form[0] in TABLES])
def test_every_layout_and_precision_equals_numpy(layout: str, precision: str, n_items: int, tmp_path: Path) -> None:
    """Verification asks random users and adversarial ones, in batches, and compares ids and scores."""
    scales = "row" if n_items == 1000 and precision in ("int8", "int4") else "auto"
    done = export(
        source(TABLES[layout](n_items)), tmp_path / "b", layout=layout, precision=precision, scales=scales, similar=True
    )
    assert done.verification is not None
    if n_items > 2 * RUN:
        assert conditions(done.folder, "recommend") == conditions(done.folder, "similar") > 0
        assert conditions(done.folder, "score") == 0


@pytest.mark.slow
def test_several_precisions_in_a_bundle_equal_numpy(tmp_path: Path) -> None:
    table = popular_first(4000)
    mixed = export(source(table), tmp_path / "auto", layout="mixed", precision="auto", fit=True, max_bytes=60_000)
    assert mixed.verification is not None
    assert conditions(mixed.folder, "recommend") > 0


@pytest.mark.parametrize("layout", TABLES)
def test_runs_that_cannot_hold_one_of_the_best_are_not_read(layout: str, tmp_path: Path) -> None:
    """The half of the rows that score least become NaN in the tables file, and nobody notices."""
    made = TABLES[layout](3000)
    items, counts = made.dense(), (made.dense() != 0).sum(1)
    items[counts < 6] /= 1000
    mixed = layout == "mixed"
    table = PrefixTable.from_dense(items, counts) if mixed else SparseTable.from_dense(items)
    folder = export(source(table), tmp_path / "b", layout=layout, precision="fp32", verify=False).folder
    feed = {"user": np.arange(USERS), "exclude": np.full((USERS, 1), -1), "k": np.array(5)}
    bundle = Bundle(folder)
    before = bundle.session("recommend").run(None, feed)
    section = bundle.manifest.sections["i"]
    values = np.fromfile(folder / bundle.manifest.tables.name, np.uint8)
    part = values[section.offset : section.offset + section.nbytes].view(np.float32)
    rows = np.cumsum([rows for _, rows in bundle.manifest.items.blocks])
    ends = np.cumsum([width * rows for width, rows in bundle.manifest.items.blocks])
    part[: ends[np.searchsorted(rows, 1500) - 1]] = np.nan
    assert np.isnan(part).sum() > 1000
    values.tofile(folder / bundle.manifest.tables.name)
    after = Bundle(folder, verify=False).session("recommend").run(None, feed)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_table_and_question_equals_numpy(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Short wide rows and long narrow ones, ties, zeros, exclusions of a whole run, more asked than a run has."""
    n = data.draw(st.integers(2 * RUN, 1200), label="items")
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 16), label="seed"))
    sizes = rng.choice([1, 3, 7, 16], n)
    values = rng.integers(-2, 3, (n, D)) * rng.choice([0, 0.01, 1, 100], (n, 1)) / rng.choice([1, sizes.max()])
    table = PrefixTable.from_dense(values.astype(np.float32), sizes)
    folder = export(
        source(table),
        tmp_path_factory.mktemp("runs") / "b",
        layout="mixed",
        precision="fp32",
        verify=False,
        similar=False,
    ).folder
    bundle = Bundle(folder)
    batch = data.draw(st.integers(1, 5), label="batch")
    users = rng.integers(0, USERS, batch)
    exclude = rng.integers(-1, n, (batch, data.draw(st.sampled_from([0, 3, RUN, n]), label="excluded")))
    if data.draw(st.booleans(), label="the longest are excluded"):
        exclude = np.argsort(-np.linalg.norm(table.dense(), axis=1))[None, : exclude.shape[1]].repeat(batch, 0)
        exclude = places(bundle, n)[exclude]
    k = data.draw(st.sampled_from([1, 5, RUN + 50, n, n + 7]), label="k")
    items, scores = bundle.session("recommend").run(None, {"user": users, "exclude": exclude, "k": np.array(k)})
    expected = source(table).users.rows(users).astype(np.float64) @ table.dense().T.astype(np.float64)  # type: ignore[union-attr]
    raw = np.argsort(places(bundle, n))
    for row, found, said, gone in zip(expected, items, scores, exclude, strict=True):
        row[raw[gone[gone >= 0]]] = -np.inf
        best = -np.sort(-row)[: min(k, n)]
        np.testing.assert_allclose(said, best, rtol=1e-5, atol=1e-3)
        assert ((found == -1) == np.isinf(best)).all()
        there = found[found >= 0]
        assert np.unique(there).size == there.size
        np.testing.assert_allclose(row[raw[there]], best[: there.size], rtol=1e-5, atol=1e-3)


def places(bundle: Bundle, n: int) -> NDArray[np.int64]:
    """(n,) the bundle's row of each item."""
    return np.argsort(bundle.ids("item", bundle.manifest.items).raw(np.arange(n)))


@pytest.mark.parametrize("precision", ["int4", "int2"])
def test_fewer_rows_of_short_integers_are_worth_a_test(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a block is taken apart in pieces; verification compares the answers with numpy."""
    monkeypatch.setattr(variants, "GROUP_ROWS", 1 << 15)
    monkeypatch.setattr(mixed, "BYTES_AT_ONCE", 3000)
    rng = np.random.default_rng(0)
    n = 2 * variants.FEWEST_GROUP_ROWS
    values = rng.standard_normal((n, 64)) * rng.gamma(0.5, 1, (n, 1))
    items = DenseTable(values.astype(np.float32))
    given = Source(items, np.arange(n), DenseTable(rng.standard_normal((USERS, 64), np.float32)), np.arange(USERS))
    for layout in ("dense", "mixed"):
        done = export(given, tmp_path / layout, layout=layout, precision=precision, similar=False)
        assert conditions(done.folder, "recommend") >= 1
        assert done.verification is not None
        assert done.verification.max_error < 1e-4
    whole = export(given, tmp_path / "int8", layout="mixed", precision="int8", similar=False, verify=False)
    assert conditions(whole.folder, "recommend") == 0
