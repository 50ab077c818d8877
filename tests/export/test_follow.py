"""Bundles that follow an older one keep its limit, basis, widths, precisions and near rows, and patches are small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.errors import BudgetError, BundleError, UnsupportedError
from edgerec.models.encoder import Encoder, LeastSquaresEncoder, LinearEncoder
from edgerec.runtime.bundle import Bundle
from edgerec.tables import DenseTable
from edgerec_export import ExportRequest, Source, choose, diff, export, export_request
from edgerec_export.follow import in_older_basis
from edgerec_export.onnx import encoders
from edgerec_export.patch import PreviousBundle
from tests.conftest import history_source
from tests.patches import Kind, bundles, contents

N, D = 300, 24


def week(*, users: bool = False, encoder: Encoder | None = None, d: int = D) -> Source:
    """Dense tables of falling importance, as SVD has them."""
    rng = np.random.default_rng(0)
    falling = np.geomspace(1, 0.05, d)
    items = (rng.standard_normal((N, d)) * falling * rng.lognormal(0, 0.5, (N, 1))).astype(np.float32)
    counts = np.sort(rng.integers(1, 1000, N))[::-1].copy()
    ids = rng.choice(10 * N, N, replace=False)
    if not users:
        encoder = encoder or LinearEncoder(np.ones(N, np.float32))
        return Source(DenseTable(items), ids, encoder=encoder, item_counts=counts)
    table = (rng.standard_normal((100, d)) * falling).astype(np.float32)
    return Source(DenseTable(items), ids, DenseTable(table), np.arange(100) + 5, item_counts=counts)


def next_week(source: Source, *, share: float = 0.1, drift: float = 0.0, added: int = 5, turn: bool = False) -> Source:
    """A tenth of the items is other; all have moved a little, and the axes are others, as after another training."""
    rng = np.random.default_rng(1)
    values = source.items.dense().astype(np.float64)
    other = rng.choice(N, int(share * N), replace=False)
    values[other] = values[rng.permutation(other)] + 0.3 * rng.standard_normal((other.size, values.shape[1]))
    values += drift * np.abs(values).mean() * rng.standard_normal(values.shape)
    values = np.concatenate([values, values[rng.choice(N, added)]])
    axes = np.linalg.qr(rng.standard_normal((values.shape[1], values.shape[1])))[0] if turn else np.eye(values.shape[1])
    encoder = source.encoder
    if isinstance(encoder, LinearEncoder):
        encoder = LinearEncoder(np.ones(N + added, np.float32))
    assert source.item_counts is not None
    return replace(
        source,
        items=DenseTable((values @ axes).astype(np.float32)),
        item_ids=np.concatenate([source.item_ids, 10 * N + np.arange(added)]),
        item_counts=np.concatenate([source.item_counts, np.ones(added, np.int64)]),
        users=None if source.users is None else DenseTable((source.users.dense() @ axes).astype(np.float32)),
        encoder=encoder,
    )


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


AUTO = ExportRequest("mixed", "auto", max_bytes=12_500, verify=False)
MIXED = (("int8", "int4"), "row")
CODINGS = [(("int8",), "auto"), MIXED, (("int4", "int2"), "row")]
"""Codings that `auto` compares: a fit of one takes a fraction of the time."""


@pytest.fixture(autouse=True)
def coding(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """`--precision auto` takes one coding: that of the parameter, or int8 and int4."""
    chosen = getattr(request, "param", MIXED)
    every = choose._codings
    monkeypatch.setattr(
        choose, "_codings", lambda layout, one: iter([chosen]) if one.precision == "auto" else every(layout, one)
    )


@pytest.mark.parametrize("turn", [False, True], ids=["same-basis", "other-basis"])
@pytest.mark.parametrize("coding", CODINGS, indirect=True, ids=["int8", "int8+int4", "int4+int2"])
@pytest.mark.parametrize(
    ("layout", "users"), [("mixed", False), ("dense", False), ("mixed", True)], ids=["mixed", "dense", "users"]
)
@pytest.mark.slow
def test_what_auto_chose_is_followed(layout: str, users: bool, turn: bool, tmp_path: Path) -> None:
    """The limit, widths and precisions stay, and rows whose values stayed keep their bytes in whatever basis."""
    limit = 19_000 if users else 14_000  # some widths then have one or two rows
    old = export_request(week(users=users), tmp_path / "old", replace(AUTO, layout=layout, max_bytes=limit))
    larger = limit + 200  # rows of one width leave no room for new ones
    new = export(next_week(week(users=users), turn=turn), tmp_path / "new", like=old.folder, max_bytes=larger)
    before, after = manifest_of(old.folder), manifest_of(new.folder)
    assert (before["max_bytes"], after["max_bytes"]) == (limit, larger)
    assert new.nbytes <= larger
    for entry in ("precision", "rotation", "layout", "d"):
        assert after.get(entry) == before.get(entry)
    assert shapes(after) <= shapes(before)
    patch = diff(old.folder, new.folder, tmp_path / "patch")
    changes = patch.changes["item"]
    assert (changes.inserted, changes.deleted) == (5, 0)
    assert changes.changed + changes.moved < 0.3 * N  # so few rows leave the basis inexact
    assert patch.nbytes < 0.3 * patch.full_bytes


def shapes(manifest: dict[str, Any]) -> set[tuple[int, int]]:
    """Widths and bits of the blocks of items."""
    items = manifest["items"]
    return {(width, bits) for (width, _), bits in zip(items["blocks"], items["bits"], strict=True)}


@pytest.mark.parametrize("encoder", [None, LeastSquaresEncoder(3, 20)], ids=["linear", "ials"])
def test_training_again_moves_all_rows_and_changes_few(encoder: Encoder | None, tmp_path: Path) -> None:
    old = export_request(week(encoder=encoder), tmp_path / "old", AUTO)
    moved = next_week(week(encoder=encoder), share=0.05, drift=0.02, turn=True)
    new = export(moved, tmp_path / "new", like=old.folder)
    followed = diff(old.folder, new.folder, tmp_path / "patch")
    fresh = export_request(moved, tmp_path / "fresh", AUTO)
    whole = diff(old.folder, fresh.folder, tmp_path / "whole.patch")
    assert followed.changes["item"].changed < 0.15 * N < 0.5 * N < whole.changes["item"].changed
    assert followed.nbytes < 0.7 * whole.nbytes


def test_the_matrix_of_least_squares_keeps_entries_that_hardly_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = week(encoder=LeastSquaresEncoder(3, 20))
    old = export_request(source, tmp_path / "old", AUTO).folder
    after = next_week(source, share=0.3, added=40)
    new = export(after, tmp_path / "new", like=old).folder
    monkeypatch.setattr(encoders, "NEAR_ROOT", 0.0)
    exact = export(after, tmp_path / "exact", like=old, verify=False).folder
    was, now, wanted = (np.array(Bundle(folder).section("g")) for folder in (old, new, exact))
    assert (now == now.T).all()
    assert 0.2 < (now == was).mean() < 1
    assert np.linalg.norm(now - wanted) <= 0.02 * np.linalg.norm(wanted) < np.linalg.norm(was - wanted)


def test_the_same_tables_again_are_the_same_bundle(tmp_path: Path) -> None:
    source = week()
    old = export_request(source, tmp_path / "old", AUTO)
    new = export(source, tmp_path / "new", like=old.folder, verify=False)
    assert contents(new.folder) == contents(old.folder)


def test_a_row_twice_as_large_as_the_largest_leaves_the_scales_of_others(tmp_path: Path) -> None:
    source = week()
    old = export_request(source, tmp_path / "old", AUTO)
    plan, values = old.chosen.draft.items, source.items.dense().copy()
    in_int4 = next(block for block in plan.blocks if block.precision == "int4")
    row = plan.order[in_int4.first]
    values[row] = 2 * values[np.linalg.norm(values, axis=1).argmax()]
    new = export(replace(source, items=DenseTable(values)), tmp_path / "new", like=old.folder, verify=False)
    assert diff(old.folder, new.folder, tmp_path / "patch", verify=False).changes["item"].changed == 1


def test_new_rows_get_the_block_of_the_next_in_popularity(tmp_path: Path) -> None:
    source = week()
    old = export_request(source, tmp_path / "old", AUTO)
    older = PreviousBundle.read(old.folder).rows["i"]
    assert source.item_counts is not None
    popular = replace(next_week(source, added=1), item_counts=np.append(source.item_counts, source.item_counts.max()))
    new = export(popular, tmp_path / "new", like=old.folder, max_bytes=13_000, verify=False)
    newer = PreviousBundle.read(new.folder).rows["i"]
    alike = {
        (int(older.widths[n]), int(older.bits[n]))
        for n in np.flatnonzero(np.isin(older.ids, source.item_ids[source.item_counts == source.item_counts.max()]))
    }
    place = int(np.flatnonzero(np.asarray(newer.ids) == 10 * N)[0])
    assert (int(newer.widths[place]), int(newer.bits[place])) in alike
    assert manifest_of(new.folder)["max_bytes"] == 13_000


def test_a_full_bundle_narrows_the_least_popular_and_refuses_before_it_writes(tmp_path: Path) -> None:
    source = week()
    old = export_request(source, tmp_path / "old", AUTO)
    more = next_week(source, added=N // 20)
    new = export(more, tmp_path / "new", like=old.folder, verify=False)
    assert new.nbytes <= AUTO.max_bytes == manifest_of(new.folder)["max_bytes"]
    with pytest.raises(BudgetError, match=r"with the widths .* it takes \d+ bytes: --max-bytes \d+, or export") as full:
        export(next_week(source, added=2 * N), tmp_path / "never", like=old.folder, verify=False)
    assert not (tmp_path / "never").exists()
    smallest = full.value.smallest
    done = export(
        next_week(source, added=2 * N), tmp_path / "larger", like=old.folder, max_bytes=smallest, verify=False
    )
    assert done.nbytes <= smallest


def test_the_limit_of_an_unfitted_bundle_is_inherited_too(tmp_path: Path) -> None:
    source = week()
    size = export(source, tmp_path / "free", precision="int8", verify=False).nbytes
    assert "max_bytes" not in manifest_of(tmp_path / "free")
    old = export(source, tmp_path / "old", precision="int8", max_bytes=size + 40, verify=False)
    with pytest.raises(BudgetError, match=rf"does not fit {size + 40} bytes; with the widths"):
        export(next_week(source, added=N), tmp_path / "new", like=old.folder, verify=False)
    export(next_week(source, added=N), tmp_path / "new", like=tmp_path / "free", verify=False)


@pytest.mark.parametrize("limit", ["x", 0, -1, 1.5, True, None])
def test_a_limit_that_is_none(limit: object, tmp_path: Path) -> None:
    export(week(), tmp_path / "b", precision="int8", verify=False)
    (tmp_path / "b/manifest.json").write_text(json.dumps(manifest_of(tmp_path / "b") | {"max_bytes": limit}))
    if limit is None:
        assert PreviousBundle.read(tmp_path / "b").max_bytes is None
        return
    with pytest.raises(BundleError, match="max_bytes"):
        PreviousBundle.read(tmp_path / "b")


def test_rows_without_ids_cannot_be_followed_by_row(tmp_path: Path) -> None:
    options = replace(AUTO, ids="none", id_map=tmp_path / "ids.csv", max_bytes=15_000)
    old = export_request(week(), tmp_path / "old", options)
    assert old.obstacle.startswith("rows without ids")
    assert manifest_of(old.folder)["precision"] == "int4+int8"
    with pytest.raises(UnsupportedError, match="no ids to find them by"):
        export(week(), tmp_path / "new", like=old.folder)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"precision": "int8"}, ""),
        ({"precision": "auto", "max_bytes": 12_500}, ""),
        ({"precision": "fp32"}, ""),
        ({"precision": "fp16", "max_bytes": 12_000, "fit": True}, "rows of fp16 were turned to be cut"),
        ({"ids": "none", "id_map": "ids.csv"}, "rows without ids"),
    ],
)
def test_export_says_if_small_patches_can_follow(
    options: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    obstacle = export(week(), tmp_path / "b", verify=False, **options).obstacle
    assert obstacle.startswith(reason)
    assert bool(obstacle) == bool(reason)


def test_csc_stores_no_rows_that_a_patch_could_copy(tmp_path: Path) -> None:
    old, _ = bundles(Kind(ExportRequest("csc", "int8", verify=False)), tmp_path)
    assert export(week(), tmp_path / "b", like=old, verify=False).obstacle.startswith("csc")


def test_hashed_ids_find_their_rows(tmp_path: Path) -> None:
    source = replace(history_source(N, D), items=week().items)
    request = replace(AUTO, ids="hash64", max_bytes=15_500)
    old = export_request(source, tmp_path / "old", request)
    new = export(source, tmp_path / "new", like=old.folder, verify=False)
    assert contents(new.folder) == contents(old.folder)


def test_another_basis_is_found_from_the_rounded_rows_alone(tmp_path: Path) -> None:
    source = week()
    request = ExportRequest(layout="dense", precision="int4", verify=False)
    old = export_request(source, tmp_path / "old", request)
    turned = next_week(source, share=0, added=0, turn=True)
    found = in_older_basis(turned, ExportRequest(like=old.folder).resolved())
    difference = found.items.dense() - source.items.dense()
    assert np.square(difference).sum() < 1e-3 * np.square(source.items.dense()).sum()
    assert in_older_basis(source, ExportRequest(like=old.folder).resolved()) is source
