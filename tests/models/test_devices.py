"""Training on a GPU: on one where it is present, and everywhere on a device that is emulated on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgerec import train
from edgerec.data import Interactions
from edgerec.data import interactions as interactions_module
from edgerec.errors import UnsupportedError
from edgerec.models import BACKBONES, SizePlan, Trainer, Vectors, backbone, scaled_matrix
from edgerec.models import row_solver as solver_module
from edgerec.models.low_rank import truncated_svd
from edgerec.models.row_solver import Penalties, RowSolver, weights_by_count
from edgerec.request import TrainRequest
from tests.models.emulated import DEVICE, emulated

SLOW = {"marks": pytest.mark.slow}
CASES = (
    pytest.param("ials", {"item_exponent": 0.5, "user_exponent": 0.5}, False),
    pytest.param("ials", {"start": "normal"}, True),
    pytest.param("lae", {"encoder": "sum"}, True),
    pytest.param("lae", {"encoder": "sum", "bits": 4}, False),
    pytest.param("lae", {"encoder": "least_squares", "bits": 4, "user_exponent": 0.25}, False),
    pytest.param("lightgcn", {}, False),
    pytest.param("lightgcn", {"loss": "bpr", "mask_at": "ego"}, False),
    pytest.param("mf", {}, False, **SLOW),
    pytest.param("ncf", {}, False, **SLOW),
    pytest.param("ngcf", {"start": "normal", "layers": 2}, True),
    pytest.param("svd", {}, True),
)


def started(name: str, settings: dict[str, Any], data: Interactions, sizes: SizePlan, device: str) -> Trainer:
    model = backbone(name)
    plan = sizes if model.user_table else SizePlan(sizes.d, None, sizes.items)
    return model.trainer(data, plan, model.config(**settings), seed=3, threads=1, device=device)


def trained(*how: Any) -> Vectors:
    """Train for an epoch, and for another after a restart from the state."""
    trainer, again = started(*how), started(*how)
    trainer.epoch()
    again.restore(trainer.state())
    again.epoch()
    return again.vectors()


@pytest.mark.parametrize(("name", "settings", "full"), CASES)
def test_a_device_trains_as_the_cpu_and_mixes_no_devices(
    name: str,
    settings: dict[str, Any],
    full: bool,
    random_data: Interactions,
    uneven: SizePlan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    how = (name, settings, random_data, SizePlan(12) if full else uneven)
    expected = trained(*how, "cpu")
    with emulated(monkeypatch):
        found = trained(*how, "cuda")
    for side in ("users", "items"):
        table = getattr(expected, side)
        np.testing.assert_allclose(getattr(found, side), table, rtol=1e-4, atol=1e-4 * np.abs(table).max())


def test_the_emulated_device_refuses_what_a_gpu_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.ones(3)
    with emulated(monkeypatch):
        there = here.to(DEVICE)
        assert ((there * 2 + torch.tensor(1.0)).cpu() == 3).all()
        for mixed in (lambda: there + here, lambda: here[there.long()], lambda: there @ here):
            with pytest.raises(RuntimeError, match="two devices"):
                mixed()
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        with pytest.raises(RuntimeError, match="generator of the CPU"):
            torch.rand(3, generator=torch.Generator(), device=DEVICE)


@pytest.mark.parametrize("floats", [1, 500, 1 << 24])
@pytest.mark.parametrize(("alpha", "reg"), [(0.0, 0.1), (3.0, 20.0), (40.0, 0.01)])
def test_rows_by_cholesky_are_those_of_the_cpu(
    random_data: Interactions,
    uneven: SizePlan,
    monkeypatch: pytest.MonkeyPatch,
    floats: int,
    alpha: float,
    reg: float,
) -> None:
    monkeypatch.setattr(solver_module, "_DEVICE_FLOATS", floats)
    columns, d = random_data.by_item(), 12
    users = np.random.default_rng(0).standard_normal((random_data.n_users, d)).astype(np.float32)
    penalties = Penalties.by_count(random_data.item_counts(), 0.5)
    for sizes, own, exponent in ((None, None, 0.0), (uneven.items, penalties, 0.5)):
        weights = weights_by_count(random_data.user_counts(), exponent)
        how = (columns.indptr, columns.indices, random_data.n_users, d, sizes, own)
        expected, fit = RowSolver(*how).solve(users, alpha, reg, 1, weights=weights)
        with emulated(monkeypatch):
            found, fit_there = RowSolver(*how, "cuda").solve(users, alpha, reg, weights=weights)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        assert fit_there == pytest.approx(fit, rel=1e-4)


def test_the_svd_of_parts_on_a_device_is_that_of_the_cpu(
    random_data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = scaled_matrix(random_data, 0.4, 0.4)
    expected = truncated_svd(matrix, 12, np.random.default_rng(0))
    monkeypatch.setattr(interactions_module, "SHARD", 100)
    with emulated(monkeypatch):
        found = truncated_svd(matrix, 12, np.random.default_rng(0), device="cuda")
    for got, array in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, array, rtol=1e-4, atol=1e-4 * np.abs(array).max())


def test_a_device_that_is_absent_and_methods_without_one_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UnsupportedError, match="no device 'cuda' here: leave it out"):
        TrainRequest.make("svd", device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UnsupportedError, match="no device 'cuda:2' here: choose cpu, cuda or cuda:0, cuda:1"):
        TrainRequest.make("svd", device="cuda:2")
    for method in ("set", "rigl", "sparserec", "pep"):
        with pytest.raises(UnsupportedError, match=f"the method {method} trains sparse tables, on the CPU only"):
            TrainRequest.make("mf", method, budget="50%", device="cuda")
    assert TrainRequest.make("mf", "magnitude", budget="50%", device="cuda:1").options.device == "cuda:1"


def gpus() -> int:
    """Return the number of GPUs; skip the test, with a line that says so, if there is none."""
    if not torch.cuda.is_available():
        pytest.skip("NOT TESTED: training on a GPU: torch finds none here")
    return torch.cuda.device_count()


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "neighbours"])
def test_metrics_of_a_gpu_are_within_the_spread_of_seeds(name: str, interactions: Interactions) -> None:
    gpus()
    how: dict[str, Any] = {"backbone": name, "dimensions": 16, "threads": 1, "max_epochs": 5}
    seeds = [train(interactions, seed=seed, **how).metrics["test"]["ndcg@20"] for seed in range(3)]
    found = train(interactions, device="cuda", **how).metrics["test"]["ndcg@20"]
    assert found == pytest.approx(seeds[0], abs=max(max(seeds) - min(seeds), 0.005))


def test_a_second_gpu_trains_as_the_first(interactions: Interactions) -> None:
    if gpus() < 2:
        pytest.skip("NOT TESTED: training on the second of several GPUs: torch finds one here")
    how: dict[str, Any] = {"backbone": "ials", "dimensions": 16, "threads": 1, "max_epochs": 2}
    first, second = (train(interactions, device=f"cuda:{number}", **how) for number in range(2))
    assert second.metrics["test"]["ndcg@20"] == pytest.approx(first.metrics["test"]["ndcg@20"], abs=0.005)
