"""Nearest neighbours: EASE's weights where all items are candidates, planted groups, rows with room, thin bundles."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec import measure, train
from edgerec.data import Interactions, SplitSpec, evaluate_vectors, split, synthetic
from edgerec.errors import BudgetError, EdgeRecError, SettingError, UnsupportedError
from edgerec.measure import evaluate
from edgerec.models import SizePlan, backbone
from edgerec.models.neighbours import ItemRegression, NeighboursConfig, in_rows
from edgerec.ranks import Ranks
from edgerec.request import TrainRequest, check_ranks
from edgerec.runtime import Recommender
from edgerec.streaming import train_stream
from edgerec.tables import SparseTable
from edgerec.training import Run
from edgerec_export import export, from_run
from edgerec_export.layouts import LAYOUTS
from edgerec_export.thin import is_thin

GROUP = 5


@cache
def data() -> Interactions:
    return synthetic(n_users=80, n_items=30, n=900, seed=0)


@cache
def large() -> Interactions:
    """1,500 items in groups of five, of which a user has three each of four: thin tables."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(1500), 12)
    groups = np.stack([rng.choice(300, 4, replace=False) for _ in range(1500)])
    items = [5 * group + rng.choice(GROUP, 3, replace=False) for group in groups.ravel()]
    every = np.arange(1500)
    return Interactions.from_pairs(np.append(users, every), np.append(np.concatenate(items), every))


@cache
def trained(precision: str = "fp32", budget: str | None = None, method: str | None = None) -> Run:
    return train(
        large(),
        backbone="neighbours",
        dimensions=6,
        budget=budget,
        method=method,
        precision=precision,
        settings={"candidates": 10},
        threads=1,
    )


def rows_of(
    interactions: Interactions, sizes: SizePlan, reg: float = 20.0, candidates: int = 29
) -> tuple[SparseTable, Any]:
    model = backbone("neighbours")
    trainer = model.trainer(interactions, sizes, NeighboursConfig(reg, candidates), seed=0)
    trainer.epoch()
    vectors = trainer.vectors()
    assert vectors.sparse_items is not None
    return vectors.sparse_items, vectors.encoder


def test_with_all_items_as_candidates_the_weights_are_those_of_ease() -> None:
    matrix = data().matrix().toarray().astype(np.float64)
    precisions = np.linalg.inv(matrix.T @ matrix + 20 * np.eye(30))
    roots = np.sqrt(np.diag(precisions))
    correlations = -precisions / np.outer(roots, roots)
    table, encoder = rows_of(data(), SizePlan(30))
    weights = table.dense() * roots[:, None]
    np.testing.assert_allclose(np.diag(weights), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder.weights, np.diag(precisions), rtol=1e-5)
    weights -= np.diag(np.diag(weights))
    assert not ((weights != 0) & (weights.T != 0)).any()  # each pair once
    np.testing.assert_allclose(weights + weights.T, np.maximum(correlations, 0) * (1 - np.eye(30)), atol=1e-5)


def test_the_neighbours_of_an_item_are_those_of_its_group() -> None:
    table, _ = rows_of(large(), SizePlan(3), candidates=10)
    group, rows = np.arange(1500) // GROUP, np.repeat(np.arange(1500), table.sizes())
    assert table.n_values > 0.9 * 1500 * 3
    assert (group[rows] == group[table.columns]).mean() > 0.85  # rows without room leave others to less alike items


def test_the_largest_pairs_are_in_rows_with_room() -> None:
    first, second, weights, _ = ItemRegression(data(), 29).pairs(20.0)
    room = np.full(30, 2)
    room[:5] = 0
    rows, others, found = in_rows(first, second, weights, room)
    assert (np.bincount(rows, minlength=30) <= room).all()
    assert len(rows) == room.sum()
    assert (rows != others).all()
    whole = in_rows(first, second, weights, np.full(30, 29))[2]
    assert len(whole) == (weights > 0).sum()
    assert found[0] == whole[0] == weights.max()


def test_items_without_users_have_no_neighbours() -> None:
    rows = np.array([0, 1, 0, 1], np.int32)
    few = Interactions(np.arange(2), np.arange(4), np.array([0, 2, 4]), rows)
    table, _ = rows_of(few, SizePlan(4), 1.0)
    assert table.sizes()[2:].tolist() == [1, 1]
    assert table.n_values == 5


def test_a_run_is_measured_as_dense_rows_would_be() -> None:
    run = trained()
    assert run.users is None
    assert run.encoder is not None
    assert run.config["chosen_settings"]["reg"] is not None
    parts = split(large(), SplitSpec.from_dict(run.config["split"]))
    items = run.items.dense()
    users = run.encoder.users(parts.train_all, items)
    expected = evaluate_vectors(users, items, [parts.train, parts.validation], parts.test)
    for found in (run.metrics["test"], evaluate(run, large(), threads=1)):
        assert found["ndcg@20"] == pytest.approx(expected["ndcg@20"], rel=1e-3)
        assert found["recall@20"] > 0.5
    assert "ndcg@20_margin" in train(large(), sample_users=300, **_arguments()).metrics["test"]


def _arguments() -> dict[str, Any]:
    return {"backbone": "neighbours", "dimensions": 4, "settings": {"reg": 30.0, "candidates": 5}, "threads": 1}


@pytest.mark.parametrize("method", ["uniform", "popularity"])
def test_a_budget_in_bytes_is_one_of_the_bundle(method: str, tmp_path: Path) -> None:
    run = trained("int8", "30KiB", method)
    assert run.items.n_values < trained().items.n_values
    done = export(from_run(run), tmp_path / "b", precision="int8", verify=False)
    assert 20 * 1024 < done.nbytes <= 30 * 1024
    rows = train(large(), method=method, budget="50%", **_arguments())
    assert rows.items.n_values <= 2 * 1500


@pytest.mark.parametrize("precision", ["fp32", "int8", "auto"])
def test_a_thin_bundle_is_fitted_and_answers_as_the_run_does(precision: str, tmp_path: Path) -> None:
    run = trained()
    assert is_thin(run.items)
    assert export(from_run(run), tmp_path / "whole", precision="int8").verification is not None
    limit = 32_000
    done = export(from_run(run), tmp_path / "b", precision=precision, fit=True, max_bytes=limit)
    assert 0.9 * limit < done.nbytes <= limit
    assert done.chosen.draft.request.layout == "ell"
    assert done.chosen.density < 1
    model = Recommender.load(done.folder)
    assert evaluate(model, large())["ndcg@20"] > 0.6 * run.metrics["test"]["ndcg@20"]
    with pytest.raises(BudgetError, match="one value a row"):
        export(from_run(run), tmp_path / "b", precision=precision, fit=True, max_bytes=12_000)


def test_the_next_bundle_follows_an_older_one(tmp_path: Path) -> None:
    older = export(from_run(trained()), tmp_path / "a", precision="int8", verify=False)
    done = export(from_run(trained()), tmp_path / "b", like=older.folder)
    assert (tmp_path / "b" / "manifest.json").read_bytes() == (tmp_path / "a" / "manifest.json").read_bytes()
    assert done.obstacle == ""


def test_histories_are_measured_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Recommender.load(export(from_run(trained()), tmp_path / "b", verify=False).folder) as model:
        whole = evaluate(model, large())
        monkeypatch.setattr(measure, "BATCH_VALUES", 40 * 1500)
        assert evaluate(model, large()) == whole


@pytest.mark.parametrize(
    "how", [{"layout": one} for one in LAYOUTS if one != "ell"] + [{"precision": "int4"}, {"precision": "int2"}]
)
def test_a_thin_table_is_not_made_dense(how: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="layout ell"):
        export(from_run(trained()), tmp_path / "b", **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"reg": 0.0}, {"candidates": 0}])
def test_values_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="must be in"):
        train(data(), backbone="neighbours", settings=settings)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"device": "cuda"}, "neighbours trains on the CPU only"),
        ({"precision": "int4"}, "neighbours has no precision int4"),
        ({"precision": "int2"}, "neighbours has no precision int2"),
        ({"method": "magnitude", "budget": "50%"}, "magnitude' does not work with the backbone 'neighbours'"),
        ({"method": "bet", "budget": "50%"}, "bet' does not work with the backbone 'neighbours'"),
        ({"workers": 2}, "no use for workers"),
    ],
)
def test_what_it_cannot_do_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeRecError, match=message):
        train(data(), backbone="neighbours", **how)


def test_ranks_streams_and_too_many_items_are_refused(tmp_path: Path) -> None:
    two = Ranks()
    two.count = 2
    with pytest.raises(UnsupportedError, match="neighbours trains in one process"):
        check_ranks(TrainRequest.make("neighbours"), two)
    with pytest.raises(UnsupportedError, match="neighbours cannot continue from a segment's tables"):
        train_stream(data(), out=tmp_path / "s", budget="10%", backbone="neighbours")
    many = Interactions.from_pairs([0], [0])
    many = replace(many, item_ids=np.arange(70_000))
    with pytest.raises(UnsupportedError, match="at most 65536 items"):
        backbone("neighbours").trainer(many, SizePlan(4), NeighboursConfig(), seed=0)
