"""NGCF in sparse form: its gradients are the dense trainer's, its weights train beside the table, B values ship."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgerec.api import TrainRequest, train_request
from edgerec.data import Interactions, synthetic
from edgerec.methods.sparse.lightgcn_ngcf import NGCFObjective
from edgerec.methods.sparse.table import whole
from edgerec.methods.sparse.trainer import SparseTrainer, trainer_of
from edgerec.models import SizePlan, Vectors
from edgerec.models.ngcf import NGCF, NGCFConfig
from edgerec.training import FitOptions, Step
from tests.methods.test_dst import plan_for
from tests.methods.test_magnitude import resumes_to_the_bit, tables_of
from tests.methods.test_sparserec import Largest, random_table

D = 16
EVERYTHING = np.arange(500)
OPTIONS = FitOptions(seed=3, threads=1, max_epochs=3)
CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "bpr, ego": {"loss": "bpr", "mask_at": "ego"},
    "no layer": {"layers": 0},
    "three layers": {"layers": 3},
    "two layers, unevenly": {"layers": 2},
}


def started(data: Interactions, d: int = D, values: int | None = None, **settings: Any) -> NGCFObjective:
    config = NGCFConfig(**{"start": "normal", "users": 20, "negatives": 30, "batch": 200, **settings})
    return NGCFObjective(data, d, config, 1, None, values=values)


def first_batch(objective: Any, table: Any) -> Any:
    return next(iter(objective.batches(table, torch.Generator().manual_seed(0))))


def shipped(vectors: Vectors) -> np.ndarray:
    return np.concatenate([vectors.users, vectors.items])


@pytest.mark.parametrize("settings", CONFIGS.values(), ids=CONFIGS.keys())
def test_it_has_the_gradients_of_the_dense_trainer(settings: dict[str, Any], interactions: Interactions) -> None:
    """Of ego rows and of every layer's weights, under the mask of what ships."""
    objective = started(interactions, dropout=0.0, values=2500, **settings)
    table = random_table(500, objective.width, min(2500, 500 * objective.width))
    batch = first_batch(objective, table)
    dense = NGCF().trainer(interactions, SizePlan(D), objective._config, seed=1, threads=1)
    weights = {name: torch.from_numpy(array).requires_grad_() for name, array in objective.state().items()}
    dense._weights = [
        (weights[f"layer{layer}.sum"], weights[f"layer{layer}.product"]) for layer in range(objective._config.layers)
    ]
    objective.refresh_mask(table)
    output = shipped(objective.vectors(table))
    assert output.shape == (500, D)
    assert np.count_nonzero(output) == 2500
    if objective._config.mask_at == "output":
        dense._mask = torch.from_numpy(output != 0)
    ego = torch.from_numpy(table.rows(EVERYTHING)).requires_grad_()
    ranking, decay = dense._objective(ego, batch)
    expected, *of_weights = torch.autograd.grad(ranking + objective._config.l2 * decay, [ego, *weights.values()])
    loss, found = objective.gradient(table, batch, EVERYTHING)
    assert loss == pytest.approx(float(ranking.detach()), rel=1e-5)
    np.testing.assert_allclose(whole(found), expected.numpy(), rtol=1e-3, atol=1e-6 * float(expected.abs().max()))
    objective.step(0.01)
    assert len(of_weights) == 2 * objective._config.layers
    for name, gradient in zip(weights, of_weights, strict=True):
        moment = 10 * objective.state()[f"{name}.exp_avg"]
        np.testing.assert_allclose(moment, gradient.numpy(), rtol=1e-3, atol=1e-6 * float(gradient.abs().max()))
        assert moment.any()


@pytest.mark.parametrize("layers", [1, 2])
def test_rows_have_the_gradient_that_they_have_among_all(layers: int, interactions: Interactions) -> None:
    """What a step leaves out belongs to the step: it is the same when the step is asked again."""
    told = []
    for share in (1, 5):
        objective = started(interactions, layers=layers, dropout=0.3)
        table = random_table(500, objective.width, 1500)
        objective.refresh_mask(table)
        batch = first_batch(objective, table)
        rows = np.sort(np.random.default_rng(1).choice(500, 500 // share, replace=False))
        loss, gradients = objective.gradient(table, batch, rows)
        objective.step(0.01)
        told.append((loss, rows, whole(gradients), objective.state()))
    (loss, _, dense, all_state), (again, rows, some, state) = told
    assert again == loss
    assert np.allclose(some, dense[rows], rtol=1e-5, atol=1e-8)
    assert np.array_equal(state["layer0.product"], all_state["layer0.product"])


def test_steps_leave_out_different_values_and_what_ships_none(interactions: Interactions) -> None:
    objective = started(interactions, dropout=0.4, mask_at="ego")
    table = random_table(500, objective.width, 1500)
    batches = iter(objective.batches(table, torch.Generator().manual_seed(0)))
    rows = [objective._forward(table, EVERYTHING, batch)[0] for batch in (next(batches), next(batches), None)]
    assert 0.3 < (rows[0][:, 1::2] == 0).mean() < 0.5
    assert not np.array_equal(rows[0] == 0, rows[1] == 0)
    assert (rows[2][:, 1::2] != 0).all()
    assert np.array_equal(rows[0][:, ::2], rows[2][:, ::2])  # the ego row is whole


@pytest.mark.slow
def test_no_array_of_all_rows_is_made_for_gradients() -> None:
    """With one layer; with more, a layer's input is needed in full."""
    data = synthetic(n_users=4000, n_items=3000, n=40_000, seed=0)
    n, d = 7000, 256
    objective = started(data, d, values=n * d // 10, loss="bpr", batch=100)
    table = random_table(n, objective.width, n * d // 10)
    batch = first_batch(objective, table)
    rows = objective.active_rows(batch)
    assert rows.size == n

    def step() -> None:
        table.step(rows, objective.gradient(table, batch, rows)[1], 0.01, lazy=False)

    step()
    tracemalloc.start()
    try:
        with Largest() as largest:
            step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert largest.found < n * objective.width // 4
    assert peak < n * objective.width * 4


def trainer_for(data: Interactions, **changes: Any) -> SparseTrainer:
    plan = plan_for(data, **changes)
    return trainer_of(data, started(data, 8, sum(plan.counts)), plan, seed=0, threads=1)


@pytest.mark.parametrize(("count", "held"), [(1500, 1500), (3000, 2000)])
@pytest.mark.parametrize("grow", ["random", "accumulated"])
def test_the_number_of_values_never_changes(grow: str, count: int, held: int, interactions: Interactions) -> None:
    """Of the table after every step, and of what ships: an ego row is half as wide, and may hold fewer values."""
    trainer = trainer_for(interactions, grow=grow, counts=(count,))
    counted, step = [], trainer.table.step

    def watched(*args: Any, **wanted: Any) -> None:
        step(*args, **wanted)
        counted.append((trainer.table.count, int(trainer.table.pointers[-1]), trainer.table.first.size))

    trainer.table.step = watched  # type: ignore[method-assign]
    told = trainer.epoch()
    assert trainer.table.d == 4
    assert set(counted) == {(held, held, held)}
    assert (told["changed"] > 0) == (held < 2000)
    assert told["weights"] == 2 * 4 * 4
    output = shipped(trainer.vectors())
    assert output.shape == (500, 8)
    assert np.count_nonzero(output) == count
    assert np.count_nonzero(output, axis=1).min() >= 1


def test_a_resumed_trainer_has_all_that_it_had(interactions: Interactions) -> None:
    """The weights with their moments among it, and what ships."""
    went_on, resumed = (trainer_for(interactions, counts=(1500,)) for _ in range(2))
    went_on.epoch()
    resumed.restore(went_on.state())
    assert np.array_equal(shipped(resumed.vectors()), shipped(went_on.vectors()))
    for trainer in (went_on, resumed):
        trainer.epoch()
    mine, theirs = went_on.state(), resumed.state()
    assert mine.keys() == theirs.keys() >= {"values", "kept_columns", "layer0.sum", "layer0.product.exp_avg"}
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pep", "set", "sparserec"])
def test_stopped_at_any_epoch_it_ends_as_if_it_was_not(method: str, interactions: Interactions, tmp_path: Path) -> None:
    of_method = {"search_epochs": 2, "threshold": -3.0} if method == "pep" else {}
    request = TrainRequest.make("ngcf", method, budget="60%", dimensions=8, **vars(OPTIONS), method_settings=of_method)
    steps: list[Step] = []
    whole = train_request(interactions, request, progress=steps.append)
    assert sum(table.n_values for table in tables_of(whole)) == 2400
    resumes_to_the_bit(interactions, request, whole, steps, tmp_path)
