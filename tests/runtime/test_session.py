"""A history that grows: remembered, kept where asked and for its owner alone, forgotten on request; and closing."""

from __future__ import annotations

import json
import stat
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgerec
from edgerec.errors import RequestError, StorageError
from edgerec.runtime import Recommender, Session
from edgerec_export import export
from tests.conftest import history_source, random_source

FILMS = [f"film-{number}é" for number in range(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = replace(history_source(300), item_counts=np.arange(300))
    return export(source, tmp_path_factory.mktemp("bundles") / "b", verify=False).folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Recommender:
    return Recommender.load(folder)


def test_it_recommends_from_what_was_added(model: Recommender) -> None:
    session = model.session()
    assert session.recommend(5) == model.recommend(history=[], k=5)
    for film in (FILMS[3], FILMS[200], FILMS[3]):
        session.add(film)
    assert session.items == (FILMS[3], FILMS[200])
    assert session.recommend(5) == model.recommend(history=session.items, k=5)
    assert session.recommend(5, exclude=[FILMS[9]], allow=FILMS[9:12]) == model.recommend(
        history=session.items, k=5, exclude=[FILMS[9]], allow=FILMS[9:12]
    )
    assert np.array_equal(session.score(FILMS[:4]), model.score(history=session.items, items=FILMS[:4]))
    session.forget(FILMS[3])
    assert session.items == (FILMS[200],)
    session.forget()
    assert session.items == ()


def test_it_is_kept_for_its_owner_alone_and_forgotten_on_request(model: Recommender, tmp_path: Path) -> None:
    path = tmp_path / "private" / "history.json"
    session = model.session(path)
    assert not path.exists()
    session.add(FILMS[3])
    session.add(FILMS[4])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == {"format": "edgerec.history", "version": 1, "items": FILMS[3:5]}
    again = model.session(str(path))
    assert again.items == session.items
    assert again.recommend(3) == session.recommend(3)
    again.forget(FILMS[4])
    assert model.session(path).items == (FILMS[3],)
    again.forget()
    assert list(path.parent.iterdir()) == []


def test_sessions_of_one_file_lose_nothing_of_each_other(model: Recommender, tmp_path: Path) -> None:
    """As those of two processes would: each adds to what is in the file."""
    path = tmp_path / "history.json"
    sessions = [model.session(path) for _ in range(4)]

    def add(number: int) -> None:
        for film in FILMS[number * 8 : number * 8 + 8]:
            sessions[number].add(film)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, model.session(path).items)) == sorted(FILMS[:32])


def test_the_latest_are_remembered_and_unknown_ones_refused(model: Recommender) -> None:
    session = model.session(limit=3)
    for film in FILMS[:5]:
        session.add(film)
    assert session.items == tuple(FILMS[2:5])
    with pytest.raises(RequestError, match="item 'film-300é' is not among"):
        session.add("film-300é")
    for limit in (0, -3, 2.5, float("nan"), "3", True, -(10**5000)):
        with pytest.raises(RequestError, match="at least one item, a whole number"):
            model.session(limit=limit)  # type: ignore[arg-type]
    for item in (2.0, True, [FILMS[2]]):
        with pytest.raises(RequestError, match="an item is one id"):
            session.forget(item)  # type: ignore[arg-type]
    assert session.items == tuple(FILMS[2:5])


def test_a_smaller_limit_holds_at_once_and_for_what_is_forgotten(model: Recommender, tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    larger = model.session(path)
    for film in FILMS[:6]:
        larger.add(film)
    session = model.session(path, limit=3)
    assert session.items == tuple(FILMS[3:6])
    assert session.recommend(5) == model.recommend(history=FILMS[3:6], k=5)
    assert json.loads(path.read_text())["items"] == FILMS[:6]
    session.forget(FILMS[1])  # which it does not show, and the file holds
    assert json.loads(path.read_text())["items"] == FILMS[3:6]
    larger.add(FILMS[7])
    larger.add(FILMS[0])
    session.add(FILMS[3])
    assert session.items == (FILMS[7], FILMS[0], FILMS[3])
    assert json.loads(path.read_text())["items"] == list(session.items)


def test_half_a_character_in_a_history_is_kept_as_any_unknown_id(model: Recommender, tmp_path: Path) -> None:
    """As Java and JavaScript write it, which have such texts."""
    path = tmp_path / "history.json"
    path.write_text('{"format": "edgerec.history", "version": 1, "items": ["\\ud800"]}')
    session = model.session(path)
    with pytest.raises(RequestError, match=r"item '\\ud800' is not among"):
        session.add("\ud800")
    session.add(FILMS[1])
    assert model.session(path).items == ("\ud800", FILMS[1])
    session.forget("\ud800")
    assert model.session(path).items == (FILMS[1],)


def test_items_that_a_bundle_does_not_know_any_more_are_kept_and_not_asked_with(
    model: Recommender, tmp_path: Path
) -> None:
    path = tmp_path / "history.json"
    kept = {"format": "edgerec.history", "version": 1, "items": [FILMS[5], "gone", 7, {"int": str(1 << 60)}]}
    path.write_text(json.dumps(kept))
    session = model.session(path)
    assert session.items == (FILMS[5], "gone", 7, 1 << 60)
    assert session.recommend(4) == model.recommend(history=[FILMS[5]], k=4)
    session.add(FILMS[6])
    assert json.loads(path.read_text())["items"] == [*kept["items"], FILMS[6]]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"format": "edgerec.history", "version": 2, "items": []}',
        '{"format": "edgerec.history", "version": 1, "items": [true]}',
        '{"format": "edgerec.history", "version": 1, "items": [[1]]}',
    ],
)
def test_what_is_no_history_is_named_and_left(model: Recommender, tmp_path: Path, content: str) -> None:
    path = tmp_path / "history.json"
    path.write_text(content)
    with pytest.raises(StorageError, match=r"history\.json is no history of EdgeRec; remove it"):
        model.session(path)
    assert path.read_text() == content


def test_a_bundle_with_users_has_no_sessions(tmp_path: Path) -> None:
    bundle = export(random_source(50, 20), tmp_path / "b", verify=False).folder
    with pytest.raises(RequestError, match="has users"):
        Recommender.load(bundle).session()


def test_what_was_closed_is_refused(folder: Path) -> None:
    with Recommender.load(folder) as model:
        session = model.session()
        session.add(FILMS[1])
        pinned = model.snapshot()
    for ask in (
        lambda: model.recommend(history=[], k=1),
        lambda: session.recommend(1),
        lambda: session.add(FILMS[2]),
        lambda: model.n_items,
        lambda: model.apply(b""),
    ):
        with pytest.raises(RequestError, match="was closed; load it again"):
            ask()
    assert pinned.recommend(history=[], k=1)
    assert isinstance(session, Session)
    model.close()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mappings are counted in /proc")
def test_closing_lets_go_of_the_tables(folder: Path) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(str(folder))

    before = mapped()
    model = Recommender.load(folder)
    assert mapped() > before
    model.close()
    assert mapped() == before


def test_metadata_is_read_from_the_manifest_alone(folder: Path, model: Recommender, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())
    found = edgerec.metadata(tmp_path)
    assert found == model.metadata
    assert (found.version, found.items, found.users, found.d) == ("2.0", 300, 0, 16)
    assert found.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert {"recommend", "score"} <= set(found.graphs)
    assert not found.titles
