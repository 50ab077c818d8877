"""Lists of items: similar and popular items within them, and what is done about ids that a bundle does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.errors import BundleError, RequestError
from edgerec.runtime import Recommender
from edgerec_export import export
from tests.conftest import history_source, random_source
from tests.runtime.conftest import edited

N_ITEMS = 300
SKIP: dict[str, Any] = {"on_unknown": "skip"}


@pytest.fixture(scope="module")
def counts() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).permutation(N_ITEMS)


@pytest.fixture(scope="module")
def of_users(tmp_path_factory: pytest.TempPathFactory, counts: np.ndarray[Any, Any]) -> Recommender:
    """A bundle with users, whose items 7, 10, 13, ... have these counts."""
    source = replace(random_source(N_ITEMS, 20), item_counts=counts)
    done = export(source, tmp_path_factory.mktemp("users") / "b", precision="int8", verify=False)
    return Recommender.load(done.folder)


@pytest.fixture(scope="module")
def of_histories(tmp_path_factory: pytest.TempPathFactory, counts: np.ndarray[Any, Any]) -> Recommender:
    source = replace(history_source(N_ITEMS), item_counts=counts)
    return Recommender.load(export(source, tmp_path_factory.mktemp("histories") / "b", verify=False).folder)


def items(answers: list[Any]) -> list[Any]:
    return [one.item for one in answers]


def test_similar_items_of_a_list_are_those_of_all_that_are_in_it(of_users: Recommender) -> None:
    ranking = of_users.similar(7, N_ITEMS - 1)
    rng = np.random.default_rng(0)
    for length in (0, 1, 40, N_ITEMS):
        allow = (rng.permutation(N_ITEMS)[:length] * 3 + 7).tolist()
        exclude = [7, *items(ranking)[:2], *allow[:3], *allow[:3]]
        for k in (1, 9, N_ITEMS):
            left = [one for one in ranking if one.item not in exclude]
            assert of_users.similar(7, k, exclude=exclude) == left[:k]
            assert (
                of_users.similar(7, k, exclude=exclude, allow=allow) == [one for one in left if one.item in allow][:k]
            )


def test_each_item_of_a_batch_has_lists_of_its_own(of_users: Recommender) -> None:
    rows = np.array([3, 200])
    allow = np.array([[5, 6, 7, 8], [200, 9, -1, -1]])
    found, scores = of_users.similar_rows(rows, 3, exclude=[[6, -1], [-1, -1]], allow=allow)
    assert [sorted(row) for row in found.tolist()] == [[5, 7, 8], [-1, -1, 9]]
    assert np.isneginf(scores).tolist() == [[False] * 3, [False, True, True]]
    with pytest.raises(RequestError, match=r"exclude has the shape \(1, 1\), expected \(2, E\)"):
        of_users.similar_rows(rows, 3, exclude=[[6]])
    assert of_users.similar_rows([], 3, allow=np.empty((0, 2), np.int64))[0].shape == (0, 3)


def test_popular_items_are_those_of_most_interactions(
    of_users: Recommender, of_histories: Recommender, counts: np.ndarray[Any, Any]
) -> None:
    best = (np.argsort(-counts) * 3 + 7).tolist()
    assert [tuple(one) for one in of_users.popular(3)] == [(item, 0.0) for item in best[:3]]
    assert items(of_users.popular(N_ITEMS))[:256] == best[:256]
    assert sorted(items(of_users.popular(N_ITEMS))) == sorted(best)
    assert items(of_users.popular(2, exclude=best[:1], allow=best[:5:2])) == best[2:5:2]
    assert of_users.popular(2, allow=[]) == []
    assert of_histories.popular(9) == of_histories.recommend(history=[], k=9)


def test_a_bundle_that_names_no_popular_items_says_what_to_do(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"which items are popular: export it again, .*--item-counts"):
        Recommender.load(bundle).popular(3)
    done = export(replace(random_source(20, 5), item_counts=np.ones(20)), tmp_path / "old", version="1.0", verify=False)
    with pytest.raises(RequestError, match="which items are popular"):
        Recommender.load(done.folder).popular(3)


def test_a_damaged_list_of_popular_items_is_refused(tmp_path: Path, counts: np.ndarray[Any, Any]) -> None:
    source = replace(random_source(N_ITEMS, 5), item_counts=counts)
    folder = export(source, tmp_path / "b", verify=False).folder

    def change(section: list[Any]) -> Callable[[dict[str, Any]], None]:
        return lambda manifest: manifest["sections"].update(popular_items=section)

    with pytest.raises(BundleError, match="section 'popular_items' is float32"):
        Recommender.load(edited(folder, change([0, "float32", [3]])))
    with pytest.raises(BundleError, match="names items that are not there"):
        Recommender.load(edited(folder, change([0, "uint32", [3]]))).popular(1)


@pytest.mark.parametrize("name", ["recommend", "score", "similar", "popular", "encode"])
def test_unknown_ids_are_refused_or_skipped(of_histories: Recommender, name: str) -> None:
    known = of_histories.item_ids(range(9))
    past, out, among = known[:2], known[2:4], known[2:]
    lists: dict[str, dict[str, Any]] = {
        "recommend": {"history": past, "exclude": out, "allow": among},
        "score": {"history": past},
        "similar": {"exclude": out, "allow": among},
        "popular": {"exclude": out, "allow": among},
        "encode": {},
    }
    if name == "encode":
        with pytest.raises(RequestError, match="no 'encode' graph"):
            of_histories.encode([*past, "nobody"], **SKIP)
        return
    first = {"score": {"items": known}, "similar": {"item": known[8]}}.get(name, {})
    call, given = getattr(of_histories, name), lists[name]
    expected = call(**first, **given)
    for at, ids in given.items():
        for wrong in ("nobody", 7, 0.5, None, True, [ids[0]]):
            more: Any = {**first, **given, at: [ids[0], wrong, *ids[1:]]}
            with pytest.raises(RequestError, match="is not among the bundle's"):
                call(**more)
            assert np.array_equal(call(**more, **SKIP), expected)
        with pytest.raises(RequestError, match="expected a list of ids"):
            call(**{**first, **given, at: "nobody"}, **SKIP)
    with pytest.raises(RequestError, match="on_unknown is 'error' or 'skip', got 'ignore'"):
        call(**first, **given, on_unknown="ignore")


def test_lists_of_unknown_ids_alone_are_empty_ones(of_histories: Recommender) -> None:
    """A new user gets popular items, and an allow-list that shrank to nothing never allows all."""
    assert of_histories.recommend(history=["x", "y"], k=4, **SKIP) == of_histories.popular(4)
    assert not of_histories.score(history=["x"], items=of_histories.item_ids([0, 1]), **SKIP).any()
    known = of_histories.item_ids([0])
    assert of_histories.recommend(history=known, allow=["x"], **SKIP) == []
    assert of_histories.similar(known[0], allow=["x"], **SKIP) == []
    assert of_histories.popular(allow=["x"], **SKIP) == []
    for subject in ({"user": "nobody"}, {"history": ["x"], "user": 1}):
        with pytest.raises(RequestError):
            of_histories.recommend(**subject, **SKIP)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="item 'x' is not among"):
        of_histories.score(history=known, items=["x"], **SKIP)
    with pytest.raises(RequestError, match="item 'x' is not among"):
        of_histories.similar("x", **SKIP)


def test_a_session_skips_unknown_ids_of_lists(of_histories: Recommender) -> None:
    session, known = of_histories.session(), of_histories.item_ids(range(4))
    session.add(known[0])
    assert session.recommend(2, exclude=["x", known[1]], **SKIP) == session.recommend(2, exclude=[known[1]])
