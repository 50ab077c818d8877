"""Implicit ALS whose users are solved from rounded items, and the choice between it and the tied linear encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import TrainRequest, train
from edgerec.data import Interactions, synthetic
from edgerec.errors import SettingError
from edgerec.measure import bundle_rankings, evaluate
from edgerec.models import SizePlan, Vectors
from edgerec.models.coded_ials import CodedIALSTrainer
from edgerec.models.encoder import LeastSquaresEncoder
from edgerec.models.ials import EXPONENTS
from edgerec.models.lae import LAE, LAEConfig
from edgerec.models.quantizer import Quantizer
from edgerec.runtime import Recommender
from edgerec.tables.codes import in_int8
from edgerec.training import Run
from edgerec_export import export, from_run

ALPHA, REG = 4.0, 2.0


@pytest.fixture(scope="module")
def data() -> Interactions:
    return synthetic(n_users=200, n_items=120, n=5000, seed=1)


@pytest.fixture(scope="module")
def run(data: Interactions) -> Run:
    return trained(data, encoder="least_squares", alpha=ALPHA, reg=REG)


def trained(data: Interactions, budget: str = "4B/row", **settings: Any) -> Run:
    how: dict[str, Any] = {"dimensions": 16, "precision": "int4", "max_epochs": 3, "threads": 1}
    return train(data, backbone="lae", budget=budget, settings=settings, **how)


def objective(data: Interactions, vectors: Vectors) -> float:
    """The objective of iALS for users solved from the items: a sum over all cells, and ridges."""
    users = LeastSquaresEncoder(ALPHA, REG).users(data, vectors.items).astype(np.float64)
    scores, observed = users @ vectors.items.T, data.matrix().toarray()
    ridge = REG * (np.square(users).sum() + np.square(vectors.items).sum())
    return float((np.square(scores - observed) * (1 + ALPHA * observed)).sum() + ridge)


def test_solving_from_rounded_items_makes_up_for_the_rounding(data: Interactions) -> None:
    """As many passes without rounding, and items that are rounded afterwards, have a larger objective."""
    coded, plain = (CodedIALSTrainer(data, SizePlan(16), one, ALPHA, REG, 0, 1) for one in (2, None))
    for _ in range(8):
        coded.epoch()
        plain.epoch()
    items, codes = Quantizer(np.full(data.n_items, 16), 16, 2).codes(plain.vectors().items)
    rounded = replace(plain.vectors(), items=items, codes=codes)
    assert objective(data, plain.vectors()) < objective(data, coded.vectors()) < objective(data, rounded)


def test_blocks_of_users_and_items_are_found_in_two_bits() -> None:
    """Users of a block like its items alone, so that a user's unseen items of the block rank first."""
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(90), 12), np.concatenate([rng.permutation(20)[:12] for _ in range(90)])
    data = Interactions.from_pairs(users, 20 * (users % 3) + items)
    trainer = CodedIALSTrainer(data, SizePlan(8, None, np.resize([4, 8], 60)), 2, ALPHA, REG, 0, 1)
    for _ in range(4):
        trainer.epoch()
    vectors = trainer.vectors()
    scores = np.where(data.matrix().toarray() > 0, -np.inf, vectors.users @ vectors.items.T)
    best = np.argsort(-scores, axis=1)[:, :8]
    of_user, of_item = (np.array([int(name) for name in ids]) for ids in (data.user_ids, data.item_ids))
    assert (of_item[best] // 20 == (of_user % 3)[:, None]).mean() > 0.99
    assert not vectors.items[::2, 4:].any()


def test_the_bundle_answers_as_training_does(run: Run, data: Interactions, tmp_path: Path) -> None:
    """Up to the tolerance of the solver in the graph."""
    assert isinstance(run.encoder, LeastSquaresEncoder)
    done = export(from_run(run), tmp_path / "b", precision="int4")
    assert done.verification is not None
    assert done.chosen.draft.trained_codes is not None
    found = evaluate(Recommender.load(done.folder), data)
    assert found["ndcg@20"] == pytest.approx(evaluate(run, data)["ndcg@20"], rel=2e-3)
    assert evaluate(run, data)["ndcg@20"] == pytest.approx(run.metrics["test"]["ndcg@20"], abs=1e-6)


def test_nearly_all_lists_of_the_bundle_are_those_of_training(run: Run, data: Interactions, tmp_path: Path) -> None:
    """Both round users to int8; the solve of the graph differs from training's by 1e-3 at most, which moves a few."""
    done = export(from_run(run), tmp_path / "b", precision="int4", verify=False)
    rows = np.arange(data.n_users)
    answers = bundle_rankings(Recommender.load(done.folder), data, data, rows, 20)
    assert run.encoder is not None
    users = in_int8(run.encoder.users(data, run.items.dense()))
    scores = np.where(data.matrix().toarray() > 0, -np.inf, users @ run.items.dense().T)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(answers.tolist(), expected.tolist(), strict=True)]
    assert np.mean(shared) > 0.995


def test_a_run_is_stored(run: Run, data: Interactions, tmp_path: Path) -> None:
    run.save(tmp_path)
    again = Run.load(tmp_path)
    assert again.encoder == run.encoder
    assert np.array_equal(again.items.dense(), run.items.dense())


def test_a_checkpoint_keeps_encoder_and_codes(data: Interactions) -> None:
    vectors = CodedIALSTrainer(data, SizePlan(8), 4, ALPHA, REG, 0, 1).vectors()
    again = Vectors.from_arrays(vectors.arrays())
    assert again.encoder == LeastSquaresEncoder(ALPHA, REG)
    assert np.array_equal(again.with_history(data).users, vectors.users)


def test_validation_chooses_the_encoder(data: Interactions) -> None:
    run = trained(data, encoder=None)
    best: dict[bool, float] = {}
    tried = [entry for entry in run.history if entry["phase"] == "settings"]
    for entry in run.history:
        if entry["phase"] == "choose":
            is_solved = entry["candidate"] > 3  # of the sum are three finalists
            best[is_solved] = max(best.get(is_solved, 0.0), entry["ndcg@20"])
    chosen = run.config["chosen_settings"]
    assert (chosen["encoder"] == "least_squares") == (best[True] > best[False])
    assert run.metrics["validation"]["ndcg@20"] == max(best.values())
    assert {frozenset(entry) & {"b", "alpha"} for entry in tried} == {frozenset({"b"}), frozenset({"alpha"})}


def test_settings_that_are_given_are_kept() -> None:
    model = LAE()
    assert [one.encoder for one, _ in model.variants(LAEConfig())] == ["sum", "least_squares"]
    assert [one.encoder for one, _ in model.variants(LAEConfig(encoder="sum"))] == ["sum"]
    assert set(model.open_axes(LAEConfig(encoder="least_squares", reg=5.0))) == {"alpha", *EXPONENTS}
    with pytest.raises(SettingError, match="encoder must be one of sum, least_squares"):
        LAEConfig(encoder="mean")


@pytest.mark.parametrize(("budget", "encoder"), [("64KiB", "sum"), ("8B/row", None)])
def test_a_bundle_of_limited_bytes_has_no_matrix(budget: str, encoder: str | None) -> None:
    assert TrainRequest.make("lae", budget=budget, settings={"encoder": None}).config.encoder == encoder
