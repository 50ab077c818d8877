"""Item vectors without users: a user is the mean of a history's rows, or a vector that the app computed itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.cli.app import run
from edgerec.errors import EdgeRecError, ExportError, RequestError
from edgerec.runtime import Recommender
from edgerec_export import diff, export, from_arrays
from edgerec_export.layouts import LAYOUTS

N_ITEMS, D = 200, 12
PAST, ROWS = ["p3", "p7", "p90", "p3"], [3, 7, 90]
IDS = [f"p{n}" for n in range(N_ITEMS)]


def vectors(kind: str = "plain") -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = np.random.default_rng(0).standard_normal((N_ITEMS, D)).astype(np.float32)
    if kind == "narrow":  # dimensions that no item has
        rows[:, -2:] = 0
    if kind == "opposed":  # means of zeros
        rows[1::2] = -rows[::2]
    return rows


def loaded(folder: Path, rows: Any, **options: Any) -> Recommender:
    counts = np.arange(N_ITEMS)
    return Recommender.load(export(from_arrays(rows, item_ids=IDS, item_counts=counts), folder, **options).folder)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_histories_are_means_and_vectors_are_the_apps(layout: str, precision: str, tmp_path: Path) -> None:
    rows = vectors("narrow")
    verify = layout == "dense"
    model = loaded(tmp_path / "b", rows, layout=layout, precision=precision, similar=True, verify=verify)
    mean, own = rows[ROWS].mean(0), vectors()[5]
    tolerance = 1e-5 if precision == "fp32" else 0.15
    assert model.encode(PAST) == pytest.approx(mean, abs=tolerance)
    for found, vector, gone in (
        (model.recommend(history=PAST, k=N_ITEMS), mean, ROWS),
        (model.recommend(vector=own.tolist(), k=N_ITEMS, exclude=["p1"]), own, [1]),
    ):
        expected = rows @ vector
        assert sorted(one.item for one in found) == sorted(set(IDS) - {IDS[row] for row in gone})
        assert [one.score for one in found] == pytest.approx(
            [expected[int(one.item[1:])] for one in found], abs=tolerance
        )
    assert model.score(vector=own, items=IDS[:9]) == pytest.approx(rows[:9] @ own, abs=tolerance)
    assert [one.item for one in model.popular(2)] == ["p199", "p198"]
    assert len(model.similar("p1", 3)) == 3


def test_rows_whose_means_vanish_are_verified(tmp_path: Path) -> None:
    model = loaded(tmp_path / "b", vectors("opposed"))
    assert np.abs(model.encode(["p2", "p3"])).max() < 1e-6


@pytest.mark.parametrize("options", [{"precision": "int8", "fit": True}, {"precision": "auto"}])
def test_fitted_rows_are_still_those_of_the_apps_space(options: dict[str, Any], tmp_path: Path) -> None:
    rows = vectors() * np.geomspace(4, 0.05, D, dtype=np.float32)
    whole = export(from_arrays(rows), tmp_path / "whole", precision="int8", similar=False, verify=False).nbytes
    source = from_arrays(rows)
    model = Recommender.load(export(source, tmp_path / "b", max_bytes=whole - 600, similar=False, **options).folder)
    own = rows[5]
    scores = model.score(vector=own, items=range(N_ITEMS))
    assert np.abs(scores - rows @ own).max() < 0.03 * np.abs(rows @ own).max()


def test_the_next_version_follows_with_a_small_patch(tmp_path: Path) -> None:
    rows = vectors()
    old = export(from_arrays(rows, item_ids=IDS), tmp_path / "old", precision="int8", scales="row", verify=False)
    rows[4] += 1
    new = export(from_arrays(rows, item_ids=IDS), tmp_path / "new", like=old.folder)
    assert diff(old.folder, new.folder, tmp_path / "patch").nbytes < new.nbytes / 4
    assert Recommender.load(new.folder).encode(["p4"]) == pytest.approx(rows[4], abs=0.05)


@pytest.mark.parametrize(
    "vector", [[1.0] * (D - 1), [[1.0] * D], [1.0] * (D - 1) + [1e39], [float("nan")] * D, ["a"] * D, 3, [True] * D]
)
def test_what_is_no_vector_is_refused(vector: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = loaded(tmp_path_factory.mktemp("v") / "b", vectors(), verify=False)
    with pytest.raises(RequestError, match="vector"):
        model.recommend(vector=vector)
    with pytest.raises(RequestError, match="one of a user, a history of item ids and a vector"):
        model.score(vector=[1.0] * D, history=[], items=IDS)


def test_titles_of_other_rows_are_refused() -> None:
    for titles in (["a"], list(range(N_ITEMS)), np.arange(N_ITEMS)):
        with pytest.raises(ExportError, match="200 item rows need as many titles"):
            from_arrays(vectors(), titles=titles)


def test_negative_item_counts_are_refused() -> None:
    with pytest.raises(ExportError, match="item counts must be from 0 up, got -1"):
        from_arrays(vectors(), item_counts=np.arange(N_ITEMS) - 1)


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("vectors.npy", vectors())
    np.save("counts.npy", np.arange(N_ITEMS))
    Path("ids.txt").write_text("\n".join(IDS))
    Path("items.csv").write_text("sku,name\n" + "".join(f"{one},Product {one}\n" for one in IDS))
    own = "export --items vectors.npy --ids ids.txt --item-counts counts.npy --titles --item-attributes items.csv"
    assert run([*own.split(), "--out", "b", "--no-verify"]) == 0

    def answers(words: str) -> list[tuple[str, str]]:
        capsys.readouterr()
        assert run([*words.split(), "--json"]) == 0
        return [(one["item"], one["title"]) for one in json.loads(capsys.readouterr().out)]

    model = Recommender.load("b")
    expected = [one.item for one in model.recommend(history=PAST, k=3)]
    found = answers("recommend b --history p3,x,p7,p90 --on-unknown skip -k 3")
    assert found == [(item, f"Product {item}") for item in expected]
    assert answers("recommend b --popular --exclude p199,x --on-unknown skip -k 1") == [("p198", "Product p198")]
    best = [one.item for one in model.similar("p1", 3)]
    assert [item for item, _ in answers(f"similar b p1 -k 9 --exclude {best[0]} --allow {','.join(best)}")] == best[1:]
    for wrong in (
        "recommend b --history p3,x",
        "export no-run --out c --item-attributes items.csv",
        "recommend b --popular --user 1",
        "similar b p1 --exclude x",
        "recommend b",
        *("export --items vectors.npy --out c " + more for more in ("--titles", "--item-attributes items.csv")),
        "export --items vectors.npy --out c --user-ids ids.txt",
        "export --items vectors.npy --out c --titles --item-attributes items.csv",  # without --ids: of no row
        "export b --out c --item-counts counts.npy",
    ):
        with pytest.raises(EdgeRecError):
            run(wrong.split())
    assert not Path("c").exists()
