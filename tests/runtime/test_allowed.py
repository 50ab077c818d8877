"""Allow-lists: the best of the items named, by whichever graph is cheaper, equal to numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgerec.errors import RequestError
from edgerec.models.encoder import LeastSquaresEncoder
from edgerec.runtime import Recommender
from edgerec.runtime.ranking import best_of, complement
from edgerec_export import export
from edgerec_export.layouts import LAYOUTS
from tests.conftest import history_source, random_source

N_ITEMS = 500


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    place = tmp_path_factory.mktemp("b") / "b"
    done = export(random_source(N_ITEMS, 120), place, layout=request.param, precision="int8", verify=False)
    return Recommender.load(done.folder)


@pytest.mark.parametrize("length", [0, 1, 5, 31, 32, 300, N_ITEMS])
def test_the_best_of_a_list_are_those_of_all_that_are_in_it(model: Recommender, length: int) -> None:
    """Up to 31 of 500 items in 16 dimensions are scored; of longer lists the rest is excluded."""
    everything = [answer.item for answer in model.recommend(5, N_ITEMS)]
    allow = np.random.default_rng(length).permutation(everything)[:length].tolist()
    exclude = [*allow[:2], everything[0]]
    for k in (1, 10, N_ITEMS):
        expected = [item for item in everything if item in allow and item not in exclude][:k]
        answers = model.recommend(5, k, exclude=exclude, allow=[*allow, *allow[:3]])
        assert [answer.item for answer in answers] == expected
        scores = model.score(5, expected)
        assert [answer.score for answer in answers] == pytest.approx(scores.tolist(), abs=1e-5)


def test_a_list_of_unknown_items_is_refused(model: Recommender) -> None:
    with pytest.raises(RequestError, match=r"item 8 is not among .*; on_unknown='skip' leaves"):
        model.recommend(5, 3, allow=[7, 8])


def test_each_user_of_a_batch_has_a_list_of_its_own(model: Recommender) -> None:
    users, none = np.array([3, 4, 5]), np.full((3, 1), -1)
    for length in (9, 90):
        allow = np.stack([np.random.default_rng(user).permutation(N_ITEMS)[:length] for user in users])
        allow[0, length // 2 :] = -1
        allow[1] = -1
        items, scores = model.recommend_rows({"user": users}, none, 8, allow=allow)
        assert items.shape == scores.shape == (3, 8)
        assert (items[1] == -1).all()
        assert np.isneginf(scores[1]).all()
        for one in range(3):
            alone = model.recommend_rows({"user": users[[one]]}, none[:1], 8, allow=allow[[one]])
            assert np.array_equal(alone[0][0], items[one])


@pytest.mark.parametrize("solved", [False, True])
def test_a_history_is_excluded_from_a_list_too(solved: bool, tmp_path: Path) -> None:
    source = replace(history_source(300), item_counts=np.arange(300) * (np.arange(300) < 200))
    if solved:
        source = replace(source, encoder=LeastSquaresEncoder(3.0, 2.0))
    model = Recommender.load(export(source, tmp_path / "b", layout="mixed", verify=False).folder)
    history = ["film-3é", "film-200é"]
    for length in (10, 200):
        allow = [f"film-{n}é" for n in range(length)]  # some of the popular ones
        answers = model.recommend(history=history, k=300, allow=allow)
        assert {answer.item for answer in answers} == {*allow} - {*history}
        popular = model.recommend(history=[], k=3, allow=allow, exclude=[allow[-1]])
        assert [answer.item for answer in popular] == [f"film-{n}é" for n in (length - 2, length - 3, length - 4)]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(-1, 40), min_size=7, max_size=7), min_size=1, max_size=3),
    gone=st.lists(st.integers(-1, 40), max_size=6),
    k=st.integers(1, 12),
    at_once=st.integers(1, 9),
)
def test_pieces_are_put_together_as_numpy_does(rows: list[list[int]], gone: list[int], k: int, at_once: int) -> None:
    values = np.random.default_rng(0).integers(0, 9, 41).astype(np.float32)  # with ties
    allowed, excluded = np.array(rows), np.tile(np.array(gone, np.int64), (len(rows), 1))

    def score(candidates: NDArray[np.int64]) -> NDArray[Any]:
        assert candidates.shape[1] <= at_once
        return values[candidates]

    items, scores = best_of(score, allowed, excluded, k, at_once)
    for row, found, said in zip(rows, items, scores, strict=True):
        left = sorted({*row} - {*gone, -1})
        best = sorted(left, key=lambda item: (-values[item], item))[:k]
        missing = k - len(best)
        assert found.tolist() == best + [-1] * missing
        assert said.tolist() == [values[item] for item in best] + [-np.inf] * missing
    for row, rest in zip(rows, complement(allowed, excluded, 41), strict=True):
        assert {*range(41)} - {*rest.tolist()} == {*row} - {*gone, -1}
