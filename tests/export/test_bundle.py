"""Bundles: within their bytes or refused, whole or not there, and equal to numpy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.errors import (
    BudgetError,
    BundleError,
    ExportError,
    OutputError,
    StorageError,
    UnsupportedError,
    VerificationError,
)
from edgerec.runtime import Recommender
from edgerec_export import ExportRequest, Source, export, export_request, from_arrays
from edgerec_export.draft import BundleRequest, Draft
from edgerec_export.draft import draft_within as choose_draft
from edgerec_export.layouts import FORMS
from edgerec_export.pack import packed_in_memory
from edgerec_export.verify import verify
from tests.conftest import history_source, random_source

SOURCE = random_source(500, 120)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in ([folder] if folder.is_file() else folder.iterdir()))


@pytest.mark.slow
@given(st.integers(1, 60_000), st.sampled_from(FORMS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_budget_is_met_or_refused(
    tmp_path_factory: pytest.TempPathFactory, limit: int, form: tuple[str, str], one_file: bool
) -> None:
    place, (layout, precision) = tmp_path_factory.mktemp("budget"), form
    options = ExportRequest(layout, precision, max_bytes=limit, verify=False)
    name = "b.edgerec" if one_file else "b"
    try:
        done = export_request(SOURCE, place / name, options)
    except BudgetError as error:
        assert not list(place.iterdir())
        smallest = int(str(error).partition(" allows is ")[2].split()[0])
        assert smallest > limit
        exact = export(SOURCE, place / name, layout=layout, precision=precision, max_bytes=smallest, verify=False)
        assert exact.nbytes <= smallest
        if one_file:  # its smallest size is an estimate
            return
        with pytest.raises(BudgetError):
            export(SOURCE, place / "c", layout=layout, precision=precision, max_bytes=exact.nbytes - 8, verify=False)
    else:
        assert done.nbytes == size_of(place / name) <= limit


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [1, 2, 127, 128, 4095, 4096, 4097, 8192, 9000])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_size_of_catalogue_equals_numpy(n_items: int, precision: str, tmp_path: Path) -> None:
    """Around the bounds of the chunked top-k: verification asks in a fresh process and compares."""
    done = export(random_source(n_items, 40), tmp_path / "b", layout="mixed", precision=precision)
    assert done.verification is not None
    assert done.verification.max_error < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "precision"), FORMS)
def test_histories_equal_numpy(layout: str, precision: str, tmp_path: Path) -> None:
    done = export(history_source(300), tmp_path / "b", layout=layout, precision=precision)
    assert done.verification is not None
    model = Recommender.load(done.folder)
    assert model.n_users == 0
    assert "film-3é" not in [a.item for a in model.recommend(history=["film-3é"], k=20)]


def test_ties_and_zero_vectors_are_answered(tmp_path: Path) -> None:
    items = np.zeros((40, 8), np.float32)
    items[::2, :3] = 1
    users = np.zeros((3, 8), np.float32)
    users[0, 0] = 1
    source = from_arrays(items, users)
    for precision in ("fp32", "int8"):
        done = export(source, tmp_path / precision, precision=precision)
        model = Recommender.load(done.folder)
        assert sorted(a.item for a in model.recommend(0, 20)) == list(range(0, 40, 2))
        assert len(model.recommend(1, 40)) == 40


@pytest.mark.slow
@pytest.mark.parametrize("short", [0.0, 1e-9])
def test_what_is_like_a_row_that_vanishes_is_answered_to_the_last_item(short: float, tmp_path: Path) -> None:
    """Rows of a stream's newcomers can be 1e-8 of the others. Asked for all items, the one that is left out scores
    -inf, which a length of zero made no number."""
    items = random_source(30, 10).items.dense().copy()
    items[3] *= short
    source = from_arrays(items, np.eye(5, items.shape[1]))
    for precision in ("fp32", "fp16", "int8"):
        model = Recommender.load(export(source, tmp_path / precision, precision=precision).folder)
        rows, scores = model.similar_rows([3, 4], 30)
        assert sorted(rows[0]) == [-1, *(row for row in range(30) if row != 3)]
        assert np.abs(scores[0, :-1]).max() < 1e-4
        assert np.isneginf(scores[:, -1]).all()
        assert scores[1, 0] > 0.1


@pytest.mark.parametrize("layout", ["dense", "mixed"])
def test_cosines_are_of_dimensions_too_that_no_user_has(layout: str, tmp_path: Path) -> None:
    """Scores do without them, and a bundle without `similar` leaves them out."""
    items = np.array([[1, 0], [1, 5], [1, -5], [2, 0.1]], np.float32)
    source = from_arrays(items, np.array([[1, 0], [2, 0]], np.float32))
    done = export(source, tmp_path / "b", layout=layout)
    model = Recommender.load(done.folder)
    lengths = np.linalg.norm(items, axis=1)
    found = {one.item: one.score for one in model.similar(0, 3)}
    for item, cosine in enumerate(items @ items[0] / lengths / lengths[0]):
        assert found.get(item, 1) == pytest.approx(cosine, abs=2e-3)
    assert model.score(1, [0, 1, 2, 3]).tolist() == [2, 2, 2, 4]
    like = export(source, tmp_path / "like", like=done.folder, verify=False)
    assert {one.item: one.score for one in Recommender.load(like.folder).similar(0, 3)} == found
    without = choose_draft(source, ExportRequest(layout, similar=False))
    assert (without.items.d, choose_draft(source, ExportRequest(layout)).items.d) == (1, 2)
    assert choose_draft(source, ExportRequest(layout, max_bytes=without.nbytes())).items.d == 1


def test_the_graph_is_standard_checked_and_old(tmp_path: Path) -> None:
    done = export(random_source(5000, 40), tmp_path / "b", precision="int8")
    for path in done.folder.glob("*.onnx"):
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(str(path), load_external_data=False)
        assert {node.domain for node in model.graph.node} == {""}
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]
        assert model.ir_version <= 10
        assert not model.graph.sparse_initializer
        inline = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
        assert sum(len(t.raw_data) for t in inline) < 2000


def test_stock_onnxruntime_opens_the_graph_by_its_path(tmp_path: Path) -> None:
    """An app without our runtime: the file beside the tables is all that it needs."""
    import onnxruntime as ort

    done = export(SOURCE, tmp_path / "b")
    (path,) = done.folder.glob("recommend-*.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"user": np.array([3, 4]), "exclude": np.full((2, 1), -1), "k": np.array(5)}
    items, scores = session.run(None, feed)
    expected = Recommender.load(done.folder).recommend_rows({"user": feed["user"]}, feed["exclude"], 5)
    assert np.array_equal(items, expected[0])
    assert np.allclose(scores, expected[1])


def test_an_answer_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    for number, source in enumerate((SOURCE, history_source(300))):
        done = export(source, tmp_path / str(number), precision="int8")
        model = Recommender.load(done.folder)
        key, subject = ("user", np.arange(6)) if model.n_users else ("history", np.arange(24).reshape(6, 4))
        none = np.full((6, 1), -1)
        items, scores = model.recommend_rows({key: subject}, none, 7)
        for one in range(6):
            alone = model.recommend_rows({key: subject[one : one + 1]}, none[:1], 7)
            assert np.array_equal(alone[0][0], items[one])
            assert np.array_equal(alone[1][0], scores[one])


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        done = export(SOURCE, tmp_path / name, verify=False)
        contents.append({path.name: path.read_bytes() for path in done.folder.iterdir()})
    assert contents[0] == contents[1]


def test_a_bundle_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    export(SOURCE, folder, verify=False)
    before = {path.name for path in folder.iterdir()}
    done = export(random_source(300, 20), folder, verify=False)
    after = {path.name for path in folder.iterdir()}
    assert before & after == {"manifest.json"}  # whose renaming is all that replaces it
    assert len(after) == 6
    assert Recommender.load(folder).n_items == 300
    assert done.nbytes == size_of(folder)
    (card,) = folder.glob("README-*.md")
    assert card.stem.removeprefix("README-") == hashlib.sha256(card.read_bytes()).hexdigest()[:12]


def test_the_card_names_the_precisions_that_ship(tmp_path: Path) -> None:
    done = export(SOURCE, tmp_path / "b", precision="auto", max_bytes=30_000, fit=True, verify=False)
    (card,) = done.folder.glob("README-*.md")
    assert f"| mixed, {Recommender.load(done.folder).manifest.precision} |" in card.read_text()
    assert "auto" not in card.read_text()


def test_a_readme_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ExportError, match="holds no bundle"):
        export(SOURCE, tmp_path, verify=False)


def test_a_failed_export_leaves_the_old_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    export(SOURCE, folder, verify=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BudgetError):
        export(SOURCE, folder, max_bytes=10)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="another --out"):
        export(SOURCE, tmp_path)
    with pytest.raises(ExportError, match="is a file"):
        export(SOURCE, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    (small_disk / "precious").write_bytes(b"x" * 40_000)
    with pytest.raises(StorageError, match="No space left"):
        export(SOURCE, small_disk / "b", layout="dense")
    assert [path.name for path in small_disk.iterdir()] == ["precious"]
    assert (small_disk / "precious").stat().st_size == 40_000


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # Permissions do not bind root; /proc is a folder in which nobody can create anything.
        with pytest.raises(StorageError, match="cannot write /proc/b"):
            export(SOURCE, "/proc/b")
        return
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        export(SOURCE, tmp_path / "b")
    tmp_path.chmod(0o700)


def test_verification_finds_a_wrong_value(tmp_path: Path) -> None:
    """A bundle whose tables changed after the fact does not pass, and the message says what was off."""
    done = export(SOURCE, tmp_path / "b", verify=False)
    draft = choose_draft(SOURCE, ExportRequest("mixed"))
    reference = packed_in_memory(draft).reference()
    assert verify(done.folder, reference, 120).max_error < 1e-4
    wrong = random_source(500, 120, seed=9)
    with pytest.raises(VerificationError, match=r"expected .* within"):
        verify(done.folder, packed_in_memory(choose_draft(wrong, ExportRequest("mixed"))).reference(), 120)
    manifest = json.loads((done.folder / "manifest.json").read_text())
    (done.folder / manifest["graphs"]["score"]["file"]).unlink()
    with pytest.raises(VerificationError, match="cannot be opened"):
        verify(done.folder, reference, 120)


def test_without_users_needs_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="encoder"):
        export(SOURCE, tmp_path / "b", users=False)
    with pytest.raises(ExportError, match="an encoder"):
        Source(SOURCE.items, SOURCE.item_ids)


@pytest.mark.slow
def test_memory_after_load_is_what_ships(tmp_path: Path) -> None:
    """Nothing expands: a 9 MB bundle whose dense table has 51 MB costs its bytes, scores and a few MB."""
    done = export(
        random_source(200_000, 50, d=64),
        tmp_path / "b",
    )
    assert done.verification is not None
    if done.verification.peak_bytes is None:
        pytest.skip("no /proc here: memory cannot be read")
    dense = 200_000 * 64 * 4
    assert done.nbytes < dense / 2
    # Two users are asked at once, and onnxruntime itself takes about 14 MB.
    assert done.verification.peak_bytes < done.nbytes + 2 * 10 * 200_000 + (20 << 20)
    shutil.rmtree(done.folder)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_the_smallest_size_named_is_the_smallest_of_all_choices(seed: int, precision: str) -> None:
    source = random_source(60, 40, seed=seed)
    options = ExportRequest("mixed", precision, max_bytes=1, verify=False)
    with pytest.raises(BudgetError) as refused:
        choose_draft(source, options)
    named = int(str(refused.value).partition(" allows is ")[2].split()[0])
    wishes = BundleRequest.of(source, options)
    every = [
        Draft(source, options, wishes, items, users).nbytes()
        for items in wishes.items_layout.variants(wishes.items)
        for users in wishes.user_variants()
    ]
    assert named == min(every)


def test_wide_tables_pass_verification(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items, users = rng.standard_normal((100, 2048)), rng.standard_normal((50, 2048))
    assert export(from_arrays(items, users), tmp_path / "b").verification is not None


def test_a_damaged_bundle_is_mended_by_exporting_again(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    for damage in ("truncate", "no manifest"):
        export(SOURCE, folder, verify=False)
        if damage == "truncate":
            (folder / "manifest.json").write_text("{")
        else:
            (folder / "manifest.json").unlink()
        export(random_source(300, 20), folder, verify=False)
        assert Recommender.load(folder).n_items == 300
        assert len(list(folder.iterdir())) == 6


@pytest.mark.parametrize("content", ['{"format": "other"}', "[]", '{"format": "edgerec.bundle", "version": "9.0"}'])
def test_somebody_elses_manifest_is_left_alone(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ExportError, match="something else"):
        export(SOURCE, tmp_path, verify=False)
    assert (tmp_path / "manifest.json").read_text() == content


def test_a_bundle_replaced_while_open_goes_on_answering(tmp_path: Path) -> None:
    folder = export(SOURCE, tmp_path / "b", verify=False).folder
    model, other = Recommender.load(folder), Recommender.load(folder)
    item = model.recommend(5, 1)[0].item
    score = model.score(5, [item])
    export(random_source(300, 20), folder, verify=False)
    assert model.recommend(5, 1)[0].item == item
    assert model.score(5, [item]) == score
    with pytest.raises(BundleError, match="load it again"):  # a graph that was not open yet
        other.score(5, [item])


def test_a_module_in_the_working_directory_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('from the working directory')")
    monkeypatch.chdir(tmp_path)
    assert export(SOURCE, tmp_path / "b").verification is not None


def test_a_bundle_to_be_like_is_not_replaced(tmp_path: Path) -> None:
    source = random_source(60, 40)
    folder = export(source, tmp_path / "b", layout="mixed", precision="int8").folder
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(OutputError):
        export(source, folder, like=folder)
    assert (folder / "manifest.json").read_bytes() == before
