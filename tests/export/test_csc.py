"""CSC in many stretches, as a million rows have them: scored some at a time, in numpy's result."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from edgerec.runtime import Recommender
from edgerec.tables import DenseTable, SparseTable
from edgerec_export import ExportRequest, Source, export, export_request
from edgerec_export.layouts import FORMS, csc
from edgerec_export.pack import packed_in_memory

D, USERS = 16, 30


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [300, 1000, 5000])
@pytest.mark.parametrize("precision", [precision for layout, precision in FORMS if layout == "csc"])
def test_many_stretches_equal_numpy(
    precision: str, n_items: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verification scores random and adversarial users, looks rows up, and compares with numpy."""
    monkeypatch.setattr(csc, "STRETCH", 128)
    rng = np.random.default_rng(0)
    items, users = (rng.standard_normal((n, D)).astype(np.float32) for n in (n_items, USERS))
    items[rng.random(items.shape) < 0.8] = 0
    items[256:384, 3] = 0  # a list without values
    source = Source(SparseTable.from_dense(items), np.arange(n_items), DenseTable(users), np.arange(USERS))
    done = export(source, tmp_path / "b", layout="csc", precision=precision, similar=True)
    assert done.verification is not None


def sparse_source(n_items: int) -> Source:
    """Rows of 1 to 16 values: the second copy has blocks of several widths."""
    rng = np.random.default_rng(5)
    tables = []
    for n in (n_items, USERS):
        values = rng.standard_normal((n, D)).astype(np.float32) * rng.gamma(2, 1, (n, 1)).astype(np.float32)
        values[rng.random(values.shape) > rng.random((n, 1))] = 0
        tables.append(SparseTable.from_dense(values))
    return Source(tables[0], np.arange(n_items), tables[1], np.arange(USERS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "scales"),
    [(p, "auto") for layout, p in FORMS if layout == "csc"] + list(product(("int8", "int4"), ("table", "block"))),
)
def test_recommend_and_score_agree_where_a_second_copy_is_looked_up(
    precision: str, scales: str, tmp_path: Path
) -> None:
    source = sparse_source(300)
    done = export(source, tmp_path / "b", layout="csc", precision=precision, scales=scales, lookup=True, similar=True)
    assert done.verification is not None
    model = Recommender.load(done.folder)
    for user in range(USERS):
        found = model.recommend(user=user, k=20)
        scores = [one.score for one in found]
        np.testing.assert_allclose(model.score(user, [one.item for one in found]), scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_both_copies_have_the_same_codes_where_scales_are_chosen_on_a_sample(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above `SAMPLE` rows each copy would sample rows of its own order."""
    for module in ("edgerec_export.layouts.base", "edgerec_export.layouts.csc"):
        monkeypatch.setattr(f"{module}.SAMPLE", 50)
    done = export(sparse_source(2000), tmp_path / "b", layout="csc", precision=precision, lookup=True, verify=False)
    tables = packed_in_memory(done.chosen.draft).tables
    places = np.arange(2000)
    np.testing.assert_array_equal(tables["i"].values(places), tables["l"].values(places))
    np.testing.assert_array_equal(tables["i"].row_scales(places), tables["l"].row_scales(places))


def test_a_bundle_like_an_older_one_has_one_scale_for_both_copies(tmp_path: Path) -> None:
    """Bundles of older releases may have two."""
    export(sparse_source(300), tmp_path / "old", layout="csc", precision="int4", lookup=True, verify=False)
    request = ExportRequest(like=tmp_path / "old").resolved()
    assert request.previous is not None
    kept = request.previous.scales["l"]
    assert kept.scales is not None
    request.previous.scales["l"] = replace(kept, scales=kept.scales * 2)
    done = export_request(sparse_source(300), tmp_path / "new", request)
    assert done.verification is not None
