"""What an app sees: raw ids in and out, clear refusals, and bundles that are whole or not opened."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgerec.errors import BundleError, RequestError
from edgerec.models.encoder import Encoder, LeastSquaresEncoder, LinearEncoder
from edgerec.runtime import Recommendation, Recommender
from edgerec_export import export
from tests.conftest import history_source, random_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(random_source(500, 120), tmp_path_factory.mktemp("bundles") / "b", verify=False).folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Recommender:
    return Recommender.load(folder)


def test_it_ranks_as_numpy_does(model: Recommender) -> None:
    source = random_source(500, 120)
    assert source.users is not None
    for user in (1, 57, 120):
        scores = source.items.dense() @ source.users.dense()[user - 1]
        expected = source.item_ids[np.argsort(-scores)][:10].tolist()
        answers = model.recommend(user, 10)
        assert [a.item for a in answers] == expected
        assert all(isinstance(a, Recommendation) for a in answers)
        assert model.score(user, expected) == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-4)


def test_excluded_items_stay_out(model: Recommender) -> None:
    first = [a.item for a in model.recommend(5, 10)]
    second = [a.item for a in model.recommend(5, 10, exclude=[*first, first[0]])]
    assert not set(first) & set(second)
    everything = model.item_ids(range(model.n_items))
    assert len(model.recommend(5, 10, exclude=everything[:-3])) == 3
    assert model.recommend(5, 10, exclude=everything) == []


def test_ids_go_both_ways(model: Recommender) -> None:
    rows = np.arange(model.n_items)
    assert np.array_equal(model.item_rows(model.item_ids(rows)), rows)
    assert model.item_rows([]).shape == (0,)


@pytest.mark.parametrize("k", [0, -1, 501, 2.5, True, "7"])
def test_k_outside_the_catalogue_is_refused(model: Recommender, k: object) -> None:
    with pytest.raises(RequestError, match=r"1\.\.500"):
        model.recommend(5, k)  # type: ignore[arg-type]


@pytest.mark.parametrize("user", [0, 121, -1, "5", 2**70, True])
def test_an_unknown_user_is_refused(model: Recommender, user: object) -> None:
    with pytest.raises(RequestError, match="not among the bundle's 120 users"):
        model.recommend(user)  # type: ignore[arg-type]


def test_other_impossible_questions_are_refused(model: Recommender) -> None:
    for ask, cure in (
        (lambda: model.recommend(5, exclude=[8]), "on_unknown='skip'"),
        (lambda: model.score(5, [7, 8]), r"known\(\)"),
        (lambda: model.title(8), r"known\(\)"),
    ):
        with pytest.raises(RequestError, match=f"item 8 is not among .*; {cure}"):
            ask()
    with pytest.raises(RequestError, match="either a user or a history"):
        model.recommend()
    with pytest.raises(RequestError, match="give a user instead"):
        model.recommend(history=[7])
    assert model.title(7) is None
    assert model.score(5, []).shape == (0,)


def test_a_bundle_without_users_takes_histories(tmp_path: Path) -> None:
    model = Recommender.load(export(history_source(300), tmp_path / "b", verify=False).folder)
    assert model.n_users == 0
    assert len(model.recommend(history=["film-3é", "film-200é"], k=5)) == 5
    assert len(model.recommend(history=np.array(["film-3é"]), k=5)) == 5
    with pytest.raises(RequestError, match="not among"):
        model.recommend(history=["half a character \udcff"])
    assert model.score(history=["film-3é"], items=["film-1é"]).shape == (1,)
    with pytest.raises(RequestError, match="history is empty"):
        model.recommend(history=[])
    with pytest.raises(RequestError, match="no users"):
        model.recommend(5)
    with pytest.raises(RequestError, match="either a user or a history"):
        model.recommend(5, history=["film-3é"])
    for unknown in ("film-300é", 3, ""):
        with pytest.raises(RequestError, match="not among"):
            model.recommend(history=[unknown])


def test_similar_items_are_the_nearest_by_cosine(model: Recommender, tmp_path: Path) -> None:
    source = random_source(500, 120)
    rows = source.items.dense() / np.linalg.norm(source.items.dense(), axis=1, keepdims=True)
    for row in (0, 123, 499):
        cosines = rows @ rows[row]
        cosines[row] = -np.inf
        answers = model.similar(int(source.item_ids[row]), 5)
        assert [a.score for a in answers] == pytest.approx(np.sort(cosines)[::-1][:5], abs=2e-3)
    items, scores = model.similar_rows([4, 5], 3)
    assert items.shape == scores.shape == (2, 3)
    assert model.item_ids(items[0]) == [a.item for a in model.similar(*model.item_ids([4]), 3)]
    with pytest.raises(RequestError, match="not among"):
        model.similar(8)
    with pytest.raises(RequestError, match=r"1\.\.500"):
        model.similar(7, 501)
    without = export(source, tmp_path / "b", similar=False, verify=False).folder
    with pytest.raises(RequestError, match="no 'similar' graph"):
        Recommender.load(without).similar(7)


def damaged(folder: Path, place: Path) -> Path:
    """A copy to be spoilt."""
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def file_of(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


@pytest.mark.parametrize("pattern", ["tables-*.bin", "recommend-*.onnx", "score-*.onnx"])
def test_missing_cut_and_altered_files_are_named(folder: Path, tmp_path: Path, pattern: str) -> None:
    for number, damage in enumerate(("missing", "cut", "altered")):
        place = damaged(folder, tmp_path / str(number))
        path = file_of(place, pattern)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(content[:-7] if damage == "cut" else content)
        with pytest.raises(BundleError, match=path.name):
            Recommender.load(place)


def test_without_verification_an_altered_graph_is_still_refused(folder: Path, tmp_path: Path) -> None:
    place = damaged(folder, tmp_path / "b")
    path = file_of(place, "recommend-*.onnx")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=path.name):
        Recommender.load(place, verify=False)


def edited(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return edit


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        edited(lambda m: m.update(format="other")),
        edited(lambda m: m.update(version="3.0")),
        edited(lambda m: m.update(version="1.0")),
        edited(lambda m: m.update(requires=["telepathy"])),
        edited(lambda m: m.update(rollback_index=-1)),
        edited(lambda m: m.update(rollback_index=True)),
        edited(lambda m: m.update(requires=7)),
        edited(lambda m: m.update(version="x")),
        edited(lambda m: m.pop("graphs")),
        edited(lambda m: m["graphs"].pop("recommend")),
        edited(lambda m: m["tables"].update(sha256="0" * 64)),
        edited(lambda m: m["tables"].update(file="../tables.bin")),
        edited(lambda m: m["tables"].update(file="/etc/passwd")),
        edited(lambda m: m["graphs"]["recommend"]["tensors"].update(i0=[-4, "float32", [2]])),
        edited(lambda m: m["graphs"]["recommend"]["tensors"].update(i0=[0, "float32", [10**12]])),
        edited(lambda m: m["graphs"]["recommend"]["tensors"].update(i0=[0, "object", [1]])),
        edited(lambda m: m["items"].update(rows=7)),
        edited(lambda m: m["items"].update(rows=float("inf"))),
        edited(lambda m: m["sections"]["item_ids"].__setitem__(2, [3, 1])),
        edited(lambda m: m["sections"]["i"].__setitem__(2, [2**32, 2**32])),
        edited(lambda m: m["sections"]["i"].__setitem__(0, 2**70)),
        edited(lambda m: m["sections"].pop("item_ids")),
        edited(lambda m: m["items"].update(ids="other")),
        edited(lambda m: m["sections"]["item_ids"].__setitem__(1, "float32")),
        edited(lambda m: m["about"].update(metrics=[])),
        edited(lambda m: m["about"].update(split="random")),
        edited(lambda m: m["about"].update(data=7)),
    ],
)
def test_a_spoilt_manifest_is_named(folder: Path, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    place = damaged(folder, tmp_path / "b")
    spoil(place)
    with pytest.raises(BundleError, match=r"manifest\.json|tables"):
        Recommender.load(place)


def test_a_newer_minor_version_is_read(folder: Path, tmp_path: Path) -> None:
    place = damaged(folder, tmp_path / "b")
    edited(lambda m: m.update(version="2.99", something_new=1))(place)
    assert Recommender.load(place).recommend(5, 3)


def test_a_graph_whose_parts_do_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    place = damaged(folder, tmp_path / "b")
    edited(lambda m: m["graphs"]["recommend"]["tensors"]["u"].__setitem__(2, [3]))(place)
    with pytest.raises(BundleError, match="recommend"):
        Recommender.load(place).recommend(5, 3)


def test_odd_questions_are_refused(model: Recommender) -> None:
    for user in ([1, 2], 1.5, None):
        with pytest.raises(RequestError):
            model.recommend(user)  # type: ignore[arg-type]


def test_ids_come_in_any_iterable(model: Recommender) -> None:
    first = [a.item for a in model.recommend(5, 3)]
    expected = model.recommend(5, 5, exclude=first)
    for given in (set(first), (one for one in first), np.array(first), dict.fromkeys(first)):
        assert model.recommend(5, 5, exclude=given) == expected
    for wrong in ([[7]], [7, [7]], np.array([[7]]), {999999}, [np.int64(999999)], "7", 7, [10**5000]):
        with pytest.raises(RequestError) as error:
            model.recommend(5, exclude=wrong)  # type: ignore[arg-type]
        assert "np." not in str(error.value)


def test_rows_outside_the_bundle_are_refused(model: Recommender) -> None:
    user, none = {"user": np.array([0])}, np.empty((1, 0), np.int64)
    for ask in (
        lambda: model.recommend_rows({"user": np.array([120])}, none, 3),
        lambda: model.recommend_rows({"user": np.array([-1])}, none, 3),
        lambda: model.recommend_rows(user, [[500]], 3),
        lambda: model.recommend_rows(user, none, 3, allow=[[-2]]),
        lambda: model.score_rows(user, [[0, -1]]),
        lambda: model.similar_rows([500], 3),
    ):
        with pytest.raises(RequestError, match=r"is not in the bundle: rows are 0 to (499|119)"):
            ask()
    with pytest.raises(RequestError, match="takes 'user', got"):
        model.score_rows({"history": np.array([[0]])}, [[0]])


@pytest.mark.parametrize("encoder", [LinearEncoder(np.ones(300, np.float32)), LeastSquaresEncoder(3.0, 2.0)])
def test_a_history_counts_each_item_once(encoder: Encoder, tmp_path: Path) -> None:
    source = replace(history_source(300), encoder=encoder)
    model = Recommender.load(export(source, tmp_path / "b", verify=False).folder)
    items = model.item_ids([5, 9, 7])
    once = model.score(items=items, history=items)
    assert np.array_equal(model.score(items=items, history=[*items, items[1], items[1]]), once)
    both = np.array([[5, 9, 7, -1, -1], [5, 9, 5, 7, 9]])
    assert np.array_equal(*model.score_rows({"history": both}, [[5, 9, 7]] * 2))


def test_the_manifest_says_what_answers_an_empty_history(tmp_path: Path) -> None:
    source = replace(history_source(300), item_counts=np.arange(300))
    folder = export(source, tmp_path / "b", verify=False).folder
    model = Recommender.load(folder)
    assert model.manifest.empty_history == "popular_items"
    assert model.recommend(history=[], k=1)
    for name, change, error in (
        ("null", lambda m: m["encoder"].update(empty_history=None), RequestError),
        ("absent", lambda m: m["encoder"].update(empty_history="others"), BundleError),
        ("floats", lambda m: m["encoder"].update(empty_history="i"), BundleError),
        ("outside", lambda m: m["items"].update(rows=200, blocks=[[1, 200]], ids="none"), BundleError),
    ):
        place = damaged(folder, tmp_path / name)
        edited(change)(place)
        with pytest.raises(error):
            Recommender.load(place).recommend(history=[], k=1)


def test_no_bundle_at_all_is_said(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError, match="no bundle"):
            Recommender.load(place)


def test_the_runtime_loads_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys; from edgerec import Recommender; "
        f"Recommender.load({str(folder)!r}).recommend(5, 3); "
        "print([m for m in ('torch', 'onnx', 'scipy', 'psutil', 'click', 'rich', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_tables_loads_no_onnxruntime() -> None:
    code = "import sys, edgerec, edgerec.tables, edgerec.budget; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_graphs_are_opened_on_first_use_over_one_mapping(folder: Path) -> None:
    code = f"""
from edgerec.runtime.bundle import Bundle
bundle = Bundle({str(folder)!r})
tables = bundle.manifest.tables.name
def mappings():
    return sum(tables in line for line in open("/proc/self/maps"))
counts = [mappings()]
for graph in ("recommend", "score"):
    bundle.session(graph)
    counts.append(mappings())
print(counts)
"""
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc here: mappings cannot be counted")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1, 1, 1]"
