"""Rarity: scores times a power of the weights of items in histories, which are larger for rare items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgerec.errors import RequestError
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable
from edgerec_export import export
from edgerec_export.source import Source
from tests.conftest import history_source, random_source

N_ITEMS = 90
HISTORY = ["film-3é", "film-50é", "film-7é"]


def weighted(weights: NDArray[np.float32]) -> Source:
    return replace(history_source(N_ITEMS), encoder=LinearEncoder(weights), item_counts=np.arange(N_ITEMS))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Weights are floats, or in a byte each."""
    weights = np.random.default_rng(1).uniform(0.1, 3, N_ITEMS).astype(np.float32)
    place = tmp_path_factory.mktemp("b") / "b"
    return Recommender.load(export(weighted(weights), place, precision=request.param, verify=False).folder)


@pytest.mark.parametrize("rarity", [0.3, 2, -1])
def test_scores_are_multiplied_by_a_power_of_the_weights(model: Recommender, rarity: float) -> None:
    items = model.item_ids(range(N_ITEMS))
    scores = model.score(history=HISTORY, items=items)
    weights = model._current.bundle.section("w").astype(np.float64)
    weights = weights if model.metadata.precision == "fp32" else (weights / 256) ** 4
    factors = (weights / (weights.max() if rarity > 0 else weights.min())) ** rarity
    assert (factors > 0).all()
    assert (factors <= 1).all()
    assert {True, False} == set(scores > 0)  # both signs, and no factor raises a score
    changed = dict(zip(items, np.where(scores > 0, scores * factors, scores / factors), strict=True))
    allow, exclude = items[::2], [items[4]]
    for k, limits in ((5, {}), (N_ITEMS, {"exclude": exclude}), (9, {"allow": allow, "exclude": exclude})):
        left = set(limits.get("allow", items)) - set(limits.get("exclude", [])) - set(HISTORY)
        expected = sorted(left, key=lambda item: -changed[item])[:k]
        answers = model.recommend(history=HISTORY, k=k, rarity=rarity, **limits)
        assert [answer.item for answer in answers] == expected
        assert [answer.score for answer in answers] == pytest.approx([changed[item] for item in expected], rel=1e-4)


def test_a_batch_of_rows_and_a_session_take_it_too(model: Recommender) -> None:
    session = model.session()
    for item in HISTORY:
        session.add(item)
    expected = model.recommend(history=HISTORY, k=4, rarity=1)
    assert session.recommend(4, rarity=1) == expected != session.recommend(4)
    rows = model.item_rows(HISTORY)
    items, scores = model.recommend_rows({"history": [rows, [-1, -1, -1]]}, np.empty((2, 0), int), 4, rarity=1)
    assert model.item_ids(items[0]) == [answer.item for answer in expected]
    assert scores[1].tolist() == [0] * 4  # an empty history has no scores to be changed


def test_few_are_left_of_a_short_list(model: Recommender) -> None:
    items, scores = model.recommend_rows({"history": [[0]]}, [[5]], 3, allow=[[5, 6]], rarity=1)
    assert items[0].tolist() == [6, -1, -1]
    assert scores[0, 1:].tolist() == [-np.inf] * 2


def test_equal_scores_come_by_row(tmp_path: Path) -> None:
    weights = np.linspace(1, 2, N_ITEMS, dtype=np.float32)
    source = replace(weighted(weights), items=DenseTable(np.zeros((N_ITEMS, 4), np.float32)))
    model = Recommender.load(export(source, tmp_path / "b", verify=False).folder)
    items, _ = model.recommend_rows({"history": [[4]]}, np.empty((1, 0), int), 6, rarity=-0.5)
    assert items[0].tolist() == [0, 1, 2, 3, 5, 6]


@pytest.mark.parametrize("rarity", [2.001, -3, float("nan"), float("inf"), "1", True, None])
def test_other_values_are_refused(model: Recommender, rarity: object) -> None:
    with pytest.raises(RequestError, match=r"^rarity must be a number in -2\.\.2, got "):
        model.recommend(history=HISTORY, rarity=rarity)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["users", "a solve", "equal weights", "a weight below 0"])
def test_a_bundle_that_does_not_say_what_is_rare_refuses_it(kind: str, tmp_path: Path) -> None:
    weights = np.ones(N_ITEMS, np.float32)
    source = weighted(weights)
    if kind == "users":
        source = random_source(N_ITEMS, 5)
    elif kind == "a solve":
        source = replace(source, encoder=LeastSquaresEncoder(1.0, 1.0))
    elif kind == "a weight below 0":
        weights[3] = -1
    model = Recommender.load(export(source, tmp_path / "b", verify=False).folder)
    person = {"user": 3} if kind == "users" else {"history": HISTORY}
    assert not model.takes_rarity
    assert model.recommend(**person, rarity=0) == model.recommend(**person)
    with pytest.raises(RequestError, match="does not say which items are rare: rarity needs"):
        model.recommend(**person, rarity=0.5)
