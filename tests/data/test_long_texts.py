"""One very long id takes its own length, not that of all: from reading to the bundle, the id map and the patch."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec import train
from edgerec.data import Interactions, load_data, merge
from edgerec.data.folders import read_folder, write_folder
from edgerec.errors import DataError, ExportError
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable, load_arrays
from edgerec.tables.texts import is_text, join_texts, restored, storable, text_array
from edgerec.training import FitOptions, Run
from edgerec.training.fold_in import fold_in
from edgerec_export import ExportRequest, Source, diff, export, export_request, from_arrays, from_run

USERS, LONG = 20_000, 20_000
"""Fixed-width text would take 1.6 GB for the users alone."""
MOST = 150 << 20
"""Bytes that Python and numpy may take at once; what they need is about a third."""

ONCE = FitOptions(threads=1, max_epochs=1)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three interactions a user, one of whom has a long id."""
    path = tmp_path_factory.mktemp("long") / "ratings.csv"
    users = [f"user-{number:05d}é" for number in range(USERS)]
    users[USERS // 2] = "u" * LONG
    lines = [f"{user},item-{(number * step) % 50}" for number, user in enumerate(users, 1) for step in (1, 3, 7)]
    path.write_text("user,item\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(ratings: Path) -> Run:
    return train(load_data(ratings), backbone="ials", method="dense", dimensions=4, **vars(ONCE),
                 settings={"alpha": 1.0, "reg": 1.0})  # fmt: skip


def peak(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_reading_takes_what_the_texts_take(ratings: Path) -> None:
    assert peak(lambda: load_data(ratings)) < MOST


def test_runs_bundles_id_maps_and_patches_too(run: Run, tmp_path: Path) -> None:
    def work() -> None:
        run.save(tmp_path / "run")
        again = Run.load(tmp_path / "run")
        assert again.user_ids.tolist() == run.user_ids.tolist()
        options = ExportRequest(layout="dense", verify=False)
        export(from_run(again), tmp_path / "a", layout="dense", verify=False, id_map=tmp_path / "map.csv")
        changed = Source(
            DenseTable(again.items.dense() + 1), again.item_ids, again.users, again.user_ids, again.encoder
        )
        export_request(changed, tmp_path / "c", options)
        diff(tmp_path / "a", tmp_path / "c", tmp_path / "p", verify=False)

    assert peak(work) < MOST
    assert (tmp_path / "map.csv").read_text().count("u" * LONG) == 1
    assert len(Recommender.load(tmp_path / "a").recommend("u" * LONG, 3)) == 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["version"] == 3


def test_pairs_from_python_too() -> None:
    def work() -> None:
        users = [f"u{number}" for number in range(USERS)] + ["x" * LONG]
        made = Interactions.from_pairs(users, ["i"] * len(users))
        assert made.n_users == USERS + 1
        sized = made.filter(min_user=1)
        assert merge(sized, sized.select(np.zeros(len(sized), np.bool_))).n_users == made.n_users
        table = np.ones((USERS + 1, 2), np.float32)
        from_arrays(table, table, item_ids=users, user_ids=np.array(users, object))
        made.with_titles({"i": "t" * LONG})

    assert peak(work) < MOST


def test_the_kind_of_an_array_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same data as fixed-width text and as Python's strings: equal fingerprints, runs, bundles."""
    users = [f"user {number % 40}" for number in range(600)]
    items = [f"item {(number * 7) % 31}é" for number in range(600)]
    made = []
    for small in (1 << 20, -1):
        monkeypatch.setattr("edgerec.tables.texts._SMALL", small)
        monkeypatch.setattr("edgerec.tables.texts._WASTE", 4 if small > 0 else 0)
        data = Interactions.from_pairs(users, items, timestamps=list(range(600))).with_titles({"item 0é": "A title"})
        assert data.user_ids.dtype.kind == ("U" if small > 0 else "O")
        folder = tmp_path / str(small)
        write_folder(folder / "data", data, {})
        assert read_folder(folder / "data").fingerprint() == data.fingerprint()
        trained = train(data, backbone="ials", method="dense", dimensions=4, **vars(ONCE), out=folder / "run")
        again = Run.load(folder / "run")
        assert is_text(again.user_ids)
        assert again.titles is not None
        bundle = export(from_run(again), folder / "bundle", titles=True, verify=False)
        more = Interactions.from_pairs(["user 1", "user 2"], ["new", "item 0é"])
        folded = fold_in(again, more).run
        assert folded.item_ids.tolist() == [*again.item_ids.tolist(), "new"]
        files = {path.name: path.read_bytes() for path in (folder / "bundle").iterdir()}
        made.append((data.fingerprint(), trained.metrics, bundle.nbytes, files))
    assert made[0] == made[1]


def test_texts_on_disk(tmp_path: Path) -> None:
    texts = text_array(["a", "b" * 3_000_000, "", "é"])
    assert texts.dtype == object
    np.savez(tmp_path / "t.npz", **storable({"ids": texts, "n": np.arange(3)}))
    found = load_arrays(tmp_path / "t.npz")
    assert found["ids"].tolist() == texts.tolist()
    assert found["n"].tolist() == [0, 1, 2]
    stored = storable({"ids": texts})
    for offsets in (stored["ids.offsets"] + 1, stored["ids.offsets"][::-1], stored["ids.offsets"].astype(float)):
        with pytest.raises(ValueError, match="damaged"):
            restored({**stored, "ids.offsets": offsets})
    with pytest.raises(ValueError, match="other objects"):
        storable({"ids": np.array([1, None], object)})


def test_joined_texts_take_what_they_take() -> None:
    short, wide = text_array([f"{number}" for number in range(USERS)]), text_array(["x" * LONG])
    assert (short.dtype.kind, wide.dtype.kind) == ("U", "U")
    joined = join_texts([short, wide, np.arange(3)])
    assert joined.dtype == object
    assert joined[-4:].tolist() == ["x" * LONG, "0", "1", "2"]


def test_what_is_no_text_is_refused() -> None:
    table = np.ones((2, 2), np.float32)
    with pytest.raises(ExportError, match="integers or text"):
        from_arrays(table, table, item_ids=np.array(["a", 1], object))


@pytest.mark.parametrize(("wrong", "says"), [("nan", "missing value"), ("\ud800", "valid Unicode"), ("a\0", "NUL")])
def test_ids_of_any_length_are_refused_for_the_same_reasons(wrong: str, says: str) -> None:
    users = np.array(["u" * LONG, wrong, *(f"user-{number}" for number in range(2000))], object)
    with pytest.raises(DataError, match=says):
        Interactions.from_pairs(users, np.arange(users.size))
