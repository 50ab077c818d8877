"""NCF in sparse form: its gradients are the dense trainer's, its network trains beside the table and ships with it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgerec.api import TrainRequest, evaluate, train, train_request
from edgerec.data import Interactions, synthetic
from edgerec.methods.sparse.mf_ncf import NCFObjective
from edgerec.methods.sparse.soft_threshold import SoftTable, searched_mask
from edgerec.methods.sparse.table import whole
from edgerec.methods.sparse.trainer import SparseTrainer, trainer_of
from edgerec.models import SizePlan
from edgerec.models.ncf import NCF, NCFConfig
from edgerec.runtime import Recommender
from edgerec.training import FitOptions, Step
from edgerec_export import export, from_run
from tests.methods.test_dst import plan_for
from tests.methods.test_magnitude import resumes_to_the_bit, tables_of
from tests.methods.test_sparserec import Largest, random_table

D = 16
NETWORK = ("gmf", "biases0", "weights0", "weights1")
OPTIONS = FitOptions(seed=3, threads=1, max_epochs=3)


def started(data: Interactions, d: int = D, rows: int | None = None, seed: int = 0, **settings: Any) -> NCFObjective:
    return NCFObjective(data, d, NCFConfig(**settings), 1, rows, seed=seed)


def first_batch(objective: Any, table: Any) -> Any:
    return next(iter(objective.batches(table, torch.Generator().manual_seed(0))))


@pytest.mark.parametrize("share", [0.0, 0.75])
def test_it_has_the_gradients_of_the_dense_trainer(share: float, interactions: Interactions) -> None:
    """After one step of Adam the dense trainer's first moment is a tenth of its gradient: of rows and network."""
    config = NCFConfig(products=share, l2=0.2, batch=200, negatives=1)
    table = random_table(500, D, 2500)
    objective = started(interactions, products=share, l2=0.2, batch=200, negatives=1)
    batch = first_batch(objective, table)
    dense = NCF().trainer(interactions, SizePlan(D), config, seed=1, threads=1)
    users, items = np.split(table.rows(np.arange(500)), [300])
    dense.restore({**dense.state(), "users": users, "items": items, **objective.state()})
    found = dense._step(
        *(torch.from_numpy(rows) for rows in (batch.users, batch.items - 300, batch.negatives[None] - 300)),
        len(batch.users),
    )
    expected = dense.state()
    rows = objective.active_rows(batch)
    loss, gradients = objective.gradient(table, batch, rows)
    assert loss == pytest.approx(float(found), rel=1e-5)
    both = 10 * np.concatenate([expected["users.exp_avg"], expected["items.exp_avg"]])
    np.testing.assert_allclose(whole(gradients), both[rows], rtol=1e-4, atol=1e-8)
    assert not np.delete(both, rows, 0).any()
    objective.step(0.01)
    for name in NETWORK:
        moment = objective.state()[f"{name}.exp_avg"]
        np.testing.assert_allclose(moment, expected[f"{name}.exp_avg"], rtol=1e-4, atol=1e-9)
        assert moment.any() or moment.size == 0


def test_rows_have_the_gradient_that_they_have_among_all(interactions: Interactions) -> None:
    """And the network has its own, whichever rows are asked for."""
    table = random_table(500, D, 2500)
    told = []
    for share in (1, 5):
        objective = started(interactions, batch=200)
        batch = first_batch(objective, table)
        rows = objective.active_rows(batch)
        chosen = np.sort(np.random.default_rng(1).choice(rows.size, rows.size // share, replace=False))
        loss, gradients = objective.gradient(table, batch, rows[chosen])
        objective.step(0.01)
        told.append((loss, chosen, whole(gradients), objective.state()))
    (loss, _, dense, all_state), (again, chosen, some, state) = told
    assert again == loss
    assert np.allclose(some, dense[chosen], rtol=1e-5, atol=1e-9)
    for name in NETWORK:
        np.testing.assert_allclose(state[name], all_state[name], rtol=1e-5, atol=1e-7)


def test_negatives_are_the_hardest_by_the_network(interactions: Interactions) -> None:
    """Of what is tried, and the user lacks: the one which the scorer that ships puts first."""
    table = random_table(500, D, 2500)
    objective = started(interactions, batch=200, negatives=6)
    vectors = objective.vectors(table)
    assert vectors.scorer is not None
    users, tried = np.arange(40), np.random.default_rng(0).integers(0, 200, (6, 40))
    scores = vectors.scorer.scores(vectors.users, vectors.items)
    scores[interactions.matrix().toarray() > 0] = -np.inf
    expected = tried[scores[users, tried].argmax(0), np.arange(40)]
    assert np.array_equal(objective._hardest(table, users, tried), expected)


@pytest.mark.slow
def test_no_array_of_all_rows_is_made_for_gradients() -> None:
    data = synthetic(n_users=4000, n_items=3000, n=40_000, seed=0)
    n, d = 7000, 128
    objective = started(data, d, batch=100)
    table = random_table(n, d, n * d // 10)
    batch = first_batch(objective, table)
    rows = objective.active_rows(batch)
    objective.gradient(table, batch, rows)
    tracemalloc.start()
    try:
        with Largest() as largest:
            gradients = whole(objective.gradient(table, batch, rows)[1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert gradients.size <= table.values.size
    assert largest.found < n * d // 10
    assert peak < n * d * 4 // 4


def trainer_for(data: Interactions, seed: int = 0, **changes: Any) -> SparseTrainer:
    plan = plan_for(data, **changes)
    return trainer_of(data, started(data, 8, plan.rows, seed, batch=1000), plan, seed=seed, threads=1)


@pytest.mark.parametrize("backward", ["dense", "sampled"])
def test_the_number_of_values_never_changes(backward: str, interactions: Interactions) -> None:
    trainer = trainer_for(interactions, backward=backward)
    counted, step = [], trainer.table.step

    def watched(*args: Any, **wanted: Any) -> None:
        step(*args, **wanted)
        counted.append((trainer.table.count, int(trainer.table.pointers[-1]), trainer.table.first.size))

    trainer.table.step = watched  # type: ignore[method-assign]
    told = trainer.epoch()
    assert set(counted) == {(1000, 1000, 1000)}
    assert told["changed"] > 0
    assert np.diff(trainer.table.pointers).min() >= 1
    vectors = trainer.vectors()
    assert np.count_nonzero(vectors.users) + np.count_nonzero(vectors.items) <= 1000
    assert vectors.scorer is not None
    assert told["weights"] == vectors.scorer.n_weights


def test_a_resumed_trainer_has_all_that_it_had(interactions: Interactions) -> None:
    """The network with its moments among it, whatever it was drawn as."""
    went_on, resumed = trainer_for(interactions), trainer_for(interactions)
    drawn = went_on.state()["weights0"]
    went_on.epoch()
    assert not np.array_equal(went_on.state()["weights0"], drawn)
    resumed.restore(went_on.state())
    for trainer in (went_on, resumed):
        trainer.epoch()
    mine, theirs = went_on.state(), resumed.state()
    assert mine.keys() == theirs.keys() >= {"values", "sums", *NETWORK, *(f"{name}.exp_avg_sq" for name in NETWORK)}
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_the_seed_draws_the_network(interactions: Interactions) -> None:
    one, same, other = (started(interactions, seed=seed).state() for seed in (0, 0, 1))
    assert np.array_equal(one["weights0"], same["weights0"])
    assert not np.array_equal(one["weights0"], other["weights0"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pep", "set", "sparserec"])
def test_stopped_at_any_epoch_it_ends_as_if_it_was_not(method: str, interactions: Interactions, tmp_path: Path) -> None:
    of_method = {"search_epochs": 2, "threshold": -3.0} if method == "pep" else {}
    request = TrainRequest.make("ncf", method, budget="50%", dimensions=8, **vars(OPTIONS), method_settings=of_method)
    steps: list[Step] = []
    whole = train_request(interactions, request, progress=steps.append)
    assert sum(table.n_values for table in tables_of(whole)) <= 2000
    assert whole.metrics["training"]["weights"] > 0
    resumes_to_the_bit(interactions, request, whole, steps, tmp_path)


def test_a_ticket_is_trained_from_the_network_that_was_drawn(interactions: Interactions) -> None:
    """PEP's search trains the network too; what is left is trained again from the start."""
    request: dict[str, Any] = {"backbone": "ncf", "method": "pep", "budget": "50%", "dimensions": 8}
    one, more = (
        train(
            interactions,
            **vars(replace(OPTIONS, max_epochs=1)),
            settings={"rate": 0.0},
            method_settings={"search_epochs": epochs, "threshold": -1.0},
            **request,
        )
        for epochs in (1, 3)
    )
    assert one.scorer is not None
    assert more.scorer is not None
    for name, array in one.scorer.arrays().items():
        assert np.array_equal(array, more.scorer.arrays()[name]), name
    objective = started(interactions, 8, batch=1000)
    drawn = objective.state()
    values = np.random.default_rng(0).standard_normal((500, 8), np.float32) / 10
    searched_mask(objective, SoftTable(values, "feature-dim", -5.0, 1e-3), 1, 1, seed=0, threads=1)
    assert not np.array_equal(objective.state()["weights1"], drawn["weights1"])
    objective.restore(drawn)
    assert objective.state().keys() == drawn.keys()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["csr", "ell", "csc", "bitmask"])
def test_layouts_score_as_the_network_does(layout: str, interactions: Interactions, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"backbone": "ncf", "method": "sparserec", "budget": "20%", "dimensions": D}
    run = train(interactions, **vars(OPTIONS), **wanted)
    done = export(from_run(run), tmp_path / "b", layout=layout, verify=False)
    model = Recommender.load(done.folder)
    assert evaluate(model, interactions)["ndcg@20"] == pytest.approx(run.metrics["test"]["ndcg@20"], rel=0.01)
    assert run.scorer is not None
    assert run.users is not None
    user, items = interactions.user_ids.tolist()[7], interactions.item_ids.tolist()
    exact = run.scorer.scores(run.users.dense()[7:8].astype(np.float64), run.items.dense().astype(np.float64))
    np.testing.assert_allclose(model.score(user=user, items=items), exact[0], rtol=1e-4, atol=1e-5)
