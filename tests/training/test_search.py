"""The search of settings: what it finds by construction, what is given, and how much it tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pytest

from edgerec.api import TrainRequest, train, train_request
from edgerec.data import Interactions, evaluate_vectors, metrics
from edgerec.data import split as split_interactions
from edgerec.models import Backbone, SizePlan, State, Vectors, ials
from edgerec.models import backbone as find_backbone
from edgerec.models.ials import IALSConfig
from edgerec.training import Fit, FitOptions, Step
from edgerec.training import fit as home
from edgerec.training.search import Point, next_point
from tests.training.test_fit import same, train_in_pieces

AXES = {"x": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), "y": (0.0, 0.5, 1.0)}


def climbed(best: Point, start: Point, axes: Mapping[str, tuple[float, ...]] = AXES) -> dict[Point, float]:
    """Scores of the points tried where the score falls with the distance from `best`."""
    scores: dict[Point, float] = {}
    while (point := next_point(axes, start, scores)) is not None:
        assert point not in scores
        scores[point] = -sum(abs(a - b) for a, b in zip(point, best, strict=True))
    return scores


@pytest.mark.parametrize("best", list(product(AXES["x"], AXES["y"])))
@pytest.mark.parametrize("start", [(1.0, 0.0), (3.0, 0.5)])
def test_the_only_peak_is_found(best: Point, start: Point) -> None:
    scores = climbed(best, start)
    assert next(iter(scores)) == start
    assert max(scores, key=lambda point: scores[point]) == best
    assert len(scores) <= 15


def test_a_search_resumes_to_the_same_points() -> None:
    whole = climbed((5.0, 1.0), (2.0, 0.0))
    tried = list(whole.items())
    for number in range(1, len(tried)):
        assert next_point(AXES, (2.0, 0.0), dict(tried[:number])) == tried[number][0]


def test_a_rising_ridge_is_climbed() -> None:
    """Where only both values together lead further."""
    values = tuple(map(float, range(6)))
    scores: dict[Point, float] = {}
    while (point := next_point({"x": values, "y": values}, (0.0, 0.0), scores)) is not None:
        scores[point] = min(point) - 2 * abs(point[0] - point[1])
    assert max(scores, key=lambda point: scores[point]) == (5.0, 5.0)


@dataclass(frozen=True)
class PeakConfig:
    x: float | None = None
    y: float | None = None


class PeakTrainer:
    """Knows a share of the held-back items that falls with the distance of its settings from (5, 1)."""

    def __init__(self, train: Interactions, sizes: SizePlan, config: PeakConfig, seed: int, *_: Any):
        self._train, self._epochs = train, 0
        assert config.x is not None
        assert config.y is not None
        self._share = 1 - 0.1 * abs(config.x - 5) - 0.1 * abs(config.y - 1)

    def epoch(self) -> dict[str, float]:
        self._epochs += 1
        return {}

    def vectors(self) -> Vectors:
        n_users, n_items = self._train.shape
        users = 1 - self._train.matrix().toarray()
        users[np.arange(n_users) >= round(self._share * n_users, 6)] *= -1
        return Vectors(users.astype(np.float32), np.diag(np.linspace(2, 1, n_items)).astype(np.float32))

    def state(self) -> State:
        return {"epochs": np.array(self._epochs)}

    def restore(self, state: State) -> None:
        self._epochs = int(state["epochs"])


class Peak(Backbone):
    name: ClassVar[str] = "peak"
    config: ClassVar[type[Any]] = PeakConfig
    trainer_class = PeakTrainer
    max_epochs: ClassVar[int] = 2
    patience: ClassVar[int] = 1
    axes = MappingProxyType(AXES)
    typical = MappingProxyType({"x": 2.0, "y": 0.0})


@pytest.fixture
def first_items() -> Interactions:
    """20 users whose items are all among the first 30 of 60, which `PeakTrainer` ranks first."""
    rng = np.random.default_rng(0)
    rows = [rng.choice(30, 12, replace=False) for _ in range(20)]
    users = np.concatenate([np.repeat(np.arange(20), 12), np.zeros(60, np.int64)])
    return Interactions.from_pairs(users, np.concatenate([*rows, np.arange(60)]))


@pytest.mark.parametrize(("given", "found"), [({}, (5, 1)), ({"x": 3.0}, (3, 1)), ({"x": 6.0, "y": 0.5}, (6, 0.5))])
def test_open_settings_are_chosen_and_given_ones_are_kept(
    first_items: Interactions, given: dict[str, float], found: Point
) -> None:
    steps: list[Step] = []
    parts = split_interactions(first_items, "random:50/25/25")
    result = Fit(Peak(), parts, SizePlan(60), PeakConfig(**given), FitOptions(), progress=steps.append).run()
    assert (result.config.x, result.config.y) == found
    tried = [step.values for step in steps if step.phase == "settings"]
    assert all({**values, **given} == values for values in tried if given.keys() <= values.keys())
    assert bool(tried) == (len(given) < 2)


class FallingTrainer(PeakTrainer):
    """Becomes worse with every epoch."""

    def vectors(self) -> Vectors:
        self._share = 0.9 - 0.2 * self._epochs
        return super().vectors()


class Falling(Peak):
    name: ClassVar[str] = "falling"
    trainer_class = FallingTrainer
    axes = MappingProxyType({})
    starts_trained: ClassVar[bool] = True


@pytest.mark.parametrize("split", ["random:50/25/25", "random:80/20"])
def test_training_that_makes_a_start_worse_is_not_chosen(first_items: Interactions, split: str) -> None:
    parts = split_interactions(first_items, split)
    result = Fit(Falling(), parts, SizePlan(60), PeakConfig(x=5.0, y=1.0), FitOptions()).run()
    assert result.epochs == 0
    scores = [entry["ndcg@20"] for entry in result.history if entry["phase"] == "choose"]
    assert len(scores) == 2
    assert result.validation["ndcg@20"] == scores[0] > scores[1]


def test_a_sample_of_users_is_enough_for_trials(interactions: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = home.evaluate_fit

    def counted(vectors: Any, history: Any, known: Any, part: Interactions, **more: Any) -> dict[str, float]:
        seen.append(len(metrics.tested_rows(part, more["sample"])))
        return real(vectors, history, known, part, **more)

    monkeypatch.setattr(home, "evaluate_fit", counted)
    monkeypatch.setattr(home, "_USERS_OF_TRIALS", 50)
    parts = split_interactions(interactions, "random:80/20")
    result = Fit(find_backbone("svd"), parts, SizePlan(4), find_backbone("svd").config(), FitOptions(threads=1)).run()
    trials = [entry for entry in result.history if entry["phase"] == "settings"]
    assert seen == [50] * len(trials) + [np.count_nonzero(parts.validation.user_counts())]


@pytest.mark.parametrize("alpha", [1.0, 30.0])
def test_ials_finds_the_ridge_for_the_alpha_that_is_given(interactions: Interactions, alpha: float) -> None:
    """As good on validation as the best of every ridge of its axis, each trained in full."""
    model, parts = find_backbone("ials"), split_interactions(interactions, "random:50/25/25")
    best = 0.0
    for reg in model.axes["reg"]:
        trainer = model.trainer(parts.train, SizePlan(8), IALSConfig(alpha, reg), seed=0, threads=1)
        for _ in range(6):
            trainer.epoch()
            vectors = trainer.vectors()
            scored = evaluate_vectors(vectors.users, vectors.items, parts.train, parts.validation, threads=1)
            best = max(best, scored["ndcg@20"])
    run = train(interactions, split="random:50/25/25", dimensions=8, settings={"alpha": alpha}, threads=1, max_epochs=6)
    assert run.config["chosen_settings"]["alpha"] == alpha
    assert run.metrics["validation"]["ndcg@20"] >= 0.98 * best


def test_settings_are_chosen_once_for_all_exponents(interactions: Interactions) -> None:
    """And the exponent is one of those tried, as the run says."""
    run = train(interactions, backbone="ials", budget="30%", dimensions=8, threads=1, max_epochs=3)
    assert run.config["chosen_method_settings"]["exponent"] in (0.25, 1.0, 2.0)
    steps: list[Step] = []
    train(interactions, backbone="ials", budget="30%", dimensions=8, threads=1, max_epochs=3, progress=steps.append)
    phases = [step.phase for step in steps]
    last = len(phases) - 1 - phases[::-1].index("settings")
    assert set(phases[: last + 1]) == {"settings"}
    assert phases[-1] == "final"


@pytest.mark.parametrize("backbone", ["ials", "svd"])
def test_the_choice_of_an_exponent_resumes_to_the_same_bits(
    backbone: str, interactions: Interactions, tmp_path: Path
) -> None:
    """Although its trainings share what they start from, and all but the first have their settings from it."""
    request = TrainRequest.make(backbone, "popularity", budget="50%", dimensions=4, threads=1, max_epochs=2)
    whole = train_request(interactions, request)
    assert same(whole, train_in_pieces(interactions, request, tmp_path))


def test_the_svd_is_computed_once_for_all_trainings(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = ials.truncated_svd
    monkeypatch.setattr(ials, "truncated_svd", lambda *given, **how: calls.append(1) or real(*given, **how))
    train(interactions, backbone="ials", budget="30%", dimensions=8, threads=1, max_epochs=3)
    assert len(calls) == 1
