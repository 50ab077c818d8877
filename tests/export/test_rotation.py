"""A rotation before integers are rounded changes no score by itself, and lets codes lose less of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.errors import BundleError
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable, PrefixTable
from edgerec_export import ExportRequest, Source, diff, export
from edgerec_export.choose import choose
from edgerec_export.layouts import Rotation
from edgerec_export.pack import distortion

D = 32


def falling(n: int, seed: int) -> np.ndarray:
    """(n, D) rows whose first dimensions are the largest, as those of a decomposition."""
    rows: np.ndarray = np.random.default_rng(seed).standard_normal((n, D)) * 0.8 ** np.arange(D)
    return rows.astype(np.float32)


def dense_source(seed: int = 0) -> Source:
    return Source(DenseTable(falling(300, seed)), np.arange(300), DenseTable(falling(100, seed + 1)), np.arange(100))


def mixed_source() -> Source:
    rng = np.random.default_rng(5)
    tables = [PrefixTable.from_dense(falling(n, n), rng.choice([2, 5, 16, D], n)) for n in (300, 100)]
    return Source(tables[0], np.arange(300), tables[1], np.arange(100))


def history_source(encoder: LinearEncoder | LeastSquaresEncoder) -> Source:
    return Source(DenseTable(falling(300, 0)), np.arange(300), encoder=encoder)


def manifest_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "manifest.json").read_text())
    return found


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_it_is_orthogonal_and_keeps_lengths_up_to_each_width(widths: list[int], more: int) -> None:
    widths.sort()
    matrix = Rotation(tuple(widths), widths[-1] + more).matrix
    assert np.allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-12)
    rows = np.random.default_rng(0).standard_normal((5, len(matrix)))
    for width in widths:
        before, after = rows[:, :width], (rows @ matrix)[:, :width]
        assert np.allclose(np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1))
    assert (matrix[widths[-1] :, widths[-1] :] == np.eye(more)).all()


def test_a_block_follows_from_its_place_alone() -> None:
    assert (Rotation((4, 10), 12).matrix[:4, :4] == Rotation((4,), 4).matrix).all()
    root = np.sqrt(0.5)
    assert np.allclose(np.abs(Rotation((2,), 2).matrix), root)
    signs = np.sign(Rotation((8,), 8).matrix[0])  # bundles of one line must have the same in every version
    assert signs.tolist() == [-1, -1, 1, -1, 1, -1, 1, -1]


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("source", [dense_source(), mixed_source()], ids=["dense", "mixed"])
def test_codes_lose_less_of_the_scores(source: Source, precision: str) -> None:
    layout = "dense" if source.items.kind == "dense" else "mixed"
    before, after = (
        distortion(choose(source, ExportRequest(layout, precision, rotate=rotate)).draft, source)
        for rotate in (False, True)
    )
    assert after < {"dense": 0.75, "mixed": 0.99}[layout] * before


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoder",
    [
        LinearEncoder(np.ones(300, np.float32), 0.5, falling(D, 9), falling(1, 8)[0]),
        LinearEncoder(np.ones(300, np.float32), 0.5),
        LeastSquaresEncoder(2.0, 20.0),
    ],
    ids=["matrix", "weights", "ials"],
)
def test_users_from_histories_are_rotated_with_the_items(
    encoder: LinearEncoder | LeastSquaresEncoder, tmp_path: Path
) -> None:
    source = history_source(encoder)
    export(source, tmp_path / "fp32", layout="dense")
    export(source, tmp_path / "int8", layout="dense", precision="int8", scales="row")
    exact, close = (Recommender.load(tmp_path / name) for name in ("fp32", "int8"))
    history, items = [3, 7, 40, 200], list(range(300))
    expected, got = (np.array(one.score(items=items, history=history)) for one in (exact, close))
    assert np.abs(got - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize(("layout", "precision"), [("dense", "fp32"), ("mixed", "fp16"), ("ell", "int8")])
def test_floats_and_sparse_layouts_are_not_rotated(layout: str, precision: str, tmp_path: Path) -> None:
    for rotate in (False, True):
        export(mixed_source(), tmp_path / str(rotate), layout=layout, precision=precision, rotate=rotate, verify=False)
    assert (tmp_path / "True/manifest.json").read_bytes() == (tmp_path / "False/manifest.json").read_bytes()
    assert "rotation" not in manifest_of(tmp_path / "True")


@pytest.mark.parametrize("rotate", [False, True])
def test_a_bundle_like_another_is_rotated_as_that_one(rotate: bool, tmp_path: Path) -> None:
    source = mixed_source()
    export(source, tmp_path / "old", layout="mixed", precision="int8", rotate=rotate)
    assert ("rotation" in manifest_of(tmp_path / "old")) == rotate
    rows = source.items.dense().copy()
    rows[7, 0] += 0.1
    changed = Source(PrefixTable.from_dense(rows, source.items.sizes()), source.item_ids, source.users, source.user_ids)
    export(changed, tmp_path / "new", like=tmp_path / "old")
    assert manifest_of(tmp_path / "new").get("rotation") == manifest_of(tmp_path / "old").get("rotation")
    patch = diff(tmp_path / "old", tmp_path / "new", tmp_path / "patch")
    assert (patch.changes["item"].changed, patch.changes["user"].changed) == (1, 0)


@pytest.mark.slow
def test_narrower_tables_follow_a_rotated_bundle(tmp_path: Path) -> None:
    """Blocks of the older rotation end past the new rows."""
    export(mixed_source(), tmp_path / "old", layout="mixed", precision="int8")
    tables = [PrefixTable.from_dense(falling(n, n), np.where(np.arange(n) % 2, 2, 16)) for n in (300, 100)]
    narrow = Source(tables[0], np.arange(300), tables[1], np.arange(100))
    done = export(narrow, tmp_path / "new", like=tmp_path / "old")
    assert manifest_of(done.folder)["rotation"] == [2, 5, 16]
    assert manifest_of(tmp_path / "old")["rotation"] == [2, 5, 16, D]


@pytest.mark.parametrize("rotation", ["x", [0], [1.5], [True], [99], {"a": 1}])
def test_a_rotation_that_is_none_is_refused(rotation: object, tmp_path: Path) -> None:
    export(dense_source(), tmp_path / "b", layout="dense", precision="int8")
    fields = manifest_of(tmp_path / "b") | {"rotation": rotation}
    (tmp_path / "b/manifest.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match="rotation"):
        export(dense_source(), tmp_path / "new", like=tmp_path / "b")
