"""SparseRec's claims: the factorisation's mask, sums over batches, and gradients of sampled rows alone."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgerec.api import TrainRequest
from edgerec.data import Interactions, synthetic
from edgerec.errors import SettingError
from edgerec.methods.sparse.growth import Accumulator
from edgerec.methods.sparse.lightgcn_ngcf import LightGCNObjective
from edgerec.methods.sparse.masks import Mask, mask_of_largest, nmf, nmf_rows, random_mask
from edgerec.methods.sparse.mf_ncf import MFObjective
from edgerec.methods.sparse.table import ActiveTable, GradientBlocks, whole
from edgerec.methods.sparse.trainer import RowSampler
from edgerec.models import SizePlan
from edgerec.models.lightgcn import LightGCN, LightGCNConfig
from edgerec.models.losses import draw
from edgerec.models.mf import MFConfig
from tests.conftest import CommandLine
from tests.methods.test_dst import plan_for, trainer_for

D = 16


def full(mask: Mask) -> np.ndarray:
    """(n, d) bool."""
    n = mask.pointers.size - 1
    found = np.zeros((n, mask.d), bool)
    found[np.repeat(np.arange(n), np.diff(mask.pointers)), mask.columns] = True
    return found


def random_table(n: int, d: int, count: int, seed: int = 0) -> ActiveTable:
    rng = np.random.default_rng(seed)
    mask = random_mask(((0, n),), (count,), d, rng)
    return ActiveTable(rng.standard_normal(count, np.float32) / 10, mask.columns, mask.pointers, d)


def test_the_factorisation_is_not_negative_and_comes_nearer(interactions: Interactions) -> None:
    matrix = interactions.matrix()
    errors = []
    for iterations in (1, 10, 100):
        w, h = np.split(nmf(matrix, D, iterations, np.random.default_rng(0)), [matrix.shape[0]])
        assert min(w.min(), h.min()) >= 0
        assert np.allclose(np.linalg.norm(w, axis=0), np.linalg.norm(h, axis=0), rtol=1e-3)
        errors.append(float(np.square(matrix.toarray() - w @ h.T).sum()))
    assert errors[0] > errors[1] > errors[2]
    # As near as what the planted tastes leave: the truncated SVD is the nearest of all of that rank.
    singular = np.linalg.svd(matrix.toarray(), compute_uv=False)
    assert errors[2] < 1.2 * float(np.square(singular[D:]).sum())


def test_its_mask_joins_users_with_their_items(interactions: Interactions) -> None:
    n, count = interactions.n_users + interactions.n_items, 2000
    rows = nmf_rows(interactions, D, 50, np.random.default_rng(0))
    factored = full(mask_of_largest(rows, count))
    scattered = full(random_mask(((0, n),), (count,), D, np.random.default_rng(0)))
    overlaps, popularity = [], np.concatenate([interactions.user_counts(), interactions.item_counts()])
    for mask in (factored, scattered):
        assert mask.sum() == count
        assert mask.sum(1).min() >= 1
        users, items = np.split(mask, [interactions.n_users])
        overlaps.append((users[interactions.user_rows()] & items[interactions.indices]).sum(1).mean())
    assert overlaps[0] > 1.5 * overlaps[1]
    items = slice(interactions.n_users, None)
    assert np.corrcoef(factored[items].sum(1), popularity[items])[0, 1] > 0.5


def objectives(data: Interactions) -> list[Any]:
    return [
        MFObjective(data, D, MFConfig(batch=200, negatives=2), 1, None),
        LightGCNObjective(data, D, LightGCNConfig(users=20, negatives=30), 1, None),
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_rows_have_the_gradient_that_they_have_among_all(which: int, interactions: Interactions) -> None:
    objective = objectives(interactions)[which]
    table = random_table(500, D, 2500)
    batch = next(iter(objective.batches(table, torch.Generator().manual_seed(0))))
    rows = objective.active_rows(batch)
    loss, parts = objective.gradient(table, batch, rows)
    dense = whole(parts)
    chosen = np.sort(np.random.default_rng(1).choice(rows.size, rows.size // 5, replace=False))
    again, some = objective.gradient(table, batch, rows[chosen])
    assert again == loss
    assert np.allclose(whole(some), dense[chosen], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("which", [0, 1])
def test_the_sampled_gradient_is_right_on_average(which: int, interactions: Interactions) -> None:
    objective = objectives(interactions)[which]
    table = random_table(500, D, 2500)
    batch = next(iter(objective.batches(table, torch.Generator().manual_seed(0))))
    rows = objective.active_rows(batch)
    dense = whole(objective.gradient(table, batch, rows)[1])
    sampler = RowSampler(np.concatenate([interactions.user_counts(), interactions.item_counts()]), 0.1)
    sampler.update(rows, np.linalg.norm(dense, axis=1))
    chances = sampler.chances(rows, rows.size // 4)
    assert chances.sum() == pytest.approx(rows.size // 4)
    total, generator, draws = np.zeros_like(dense), torch.Generator().manual_seed(0), 3000
    for _ in range(draws):
        chosen = draw(torch.from_numpy(chances), generator).numpy()
        assert abs(chosen.size - rows.size // 4) <= 1
        total[chosen] += dense[chosen] / chances[chosen, None].astype(np.float32)
    error = np.abs(total / draws - dense)
    assert (error <= 6 * np.abs(dense) * np.sqrt((1 / chances - 1) / draws)[:, None] + 1e-3 * np.abs(dense)).all()


@pytest.mark.parametrize(
    "config",
    [
        LightGCNConfig(start="normal"),
        LightGCNConfig(start="normal", loss="bpr", mask_at="ego"),
        LightGCNConfig(start="normal", layers=1),
        LightGCNConfig(start="normal", layers=0),
    ],
)
def test_lightgcn_has_the_gradient_of_the_dense_trainer(config: LightGCNConfig, interactions: Interactions) -> None:
    everything = np.arange(500)
    table = random_table(500, D, 2500)
    objective = LightGCNObjective(interactions, D, config, 1, None)
    batch = next(iter(objective.batches(table, torch.Generator().manual_seed(0))))
    trainer = LightGCN().trainer(interactions, SizePlan(D), config, seed=0, threads=1)
    objective.refresh_mask(table)
    if config.mask_at == "output":
        vectors = objective.vectors(table)
        shipped = np.concatenate([vectors.users, vectors.items])
        assert np.count_nonzero(shipped) == table.count
        trainer._mask = torch.from_numpy(shipped != 0)
    ego = torch.from_numpy(table.rows(everything)).requires_grad_()
    ranking, decay = trainer._objective(ego, batch)
    (expected,) = torch.autograd.grad(ranking + config.decay * decay, [ego])
    loss, found = objective.gradient(table, batch, everything)
    assert loss == pytest.approx(float(ranking.detach()), rel=1e-6)
    assert np.allclose(whole(found), expected.numpy(), rtol=1e-4, atol=1e-9)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation made."""

    found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.found = max(self.found, tensor.untyped_storage().nbytes() // 4)
        return made


with Largest():  # the first use imports modules of torch, whose memory is not a training's
    torch.zeros(1)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_no_array_of_all_rows_is_made_for_gradients(which: int) -> None:
    """Nor for the graph's products, of which a few dimensions exist at once: there a step goes without also where all
    rows have a gradient."""
    data = synthetic(n_users=4000, n_items=3000, n=40_000, seed=0)
    n, d = 7000, 128
    objective: Any = (
        MFObjective(data, d, MFConfig(batch=100), 1, None),
        LightGCNObjective(data, d, LightGCNConfig(loss="bpr", batch=100, start="normal"), 1, None),
    )[which]
    table = random_table(n, d, n * d // 10)
    batch = next(iter(objective.batches(table, torch.Generator().manual_seed(0))))
    rows = objective.active_rows(batch)
    assert rows.size == n if which == 1 else rows.size < n // 10
    accumulator = Accumulator(n, d, d // 10)

    def kept(parts: GradientBlocks) -> GradientBlocks:
        for start, part in parts:
            accumulator.add(table, rows, start, part)
            yield start, part

    def step() -> None:
        table.step(rows, kept(objective.gradient(table, batch, rows)[1]), 0.01, lazy=which == 0)

    step()
    tracemalloc.start()
    try:
        with Largest() as largest:
            step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert largest.found < n * d // 4
    assert peak < n * d * 4


def share_of_last_batch(interactions: Interactions, grow: str) -> float:
    """Of what grows in an epoch, how much stands in rows that had a gradient in the step before."""
    trainer = trainer_for(interactions, plan_for(interactions, grow=grow, every=40, fraction=0.2, rows=60))
    shares: list[float] = []
    last = np.empty(0, np.int64)
    table = trainer.table
    step, replace = table.step, table.replace

    def stepped(rows: Any, *args: Any, **wanted: Any) -> None:
        nonlocal last
        last = rows
        assert last.size <= 60
        step(rows, *args, **wanted)

    def replaced(dropped: Any, rows: Any, columns: Any) -> None:
        shares.append(float(np.isin(rows, last).mean()))
        replace(dropped, rows, columns)

    table.step, table.replace = stepped, replaced  # type: ignore[method-assign]
    trainer.epoch()
    return float(np.mean(shares))


def test_what_grows_does_not_follow_the_last_batch_where_sums_are_kept(interactions: Interactions) -> None:
    """Of what grows by the last batch alone, all stands in its rows; by sums, about as much as rows are in it."""
    shares = {}
    for grow in ("last-batch", "accumulated"):
        shares[grow] = share_of_last_batch(interactions, grow)
    assert shares["last-batch"] == 1
    assert shares["accumulated"] < 2 * 60 / 500 + 0.1


@pytest.mark.slow
def test_the_claims_are_switches_of_the_command_line(tmp_path: Path, command_line: CommandLine) -> None:
    arguments = ["train", "synthetic:300x200x9000", "--backbone", "mf", "--method", "sparserec", "--budget", "10%"]
    arguments += ["--dimensions", "32", "--epochs", "2", "--out", "run"]
    for setting in ("mask_init=random", "grow=last-batch", "backward=dense"):
        arguments += ["--method-set", setting]
    trained = command_line(*arguments, "--json", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    told = json.loads(trained.stdout)["method settings"]
    assert (told["mask_init"], told["grow"], told["backward"]) == ("random", "last-batch", "dense")
    exported = command_line("export", "run", "--out", "bundle", "--layout", "csr", "--json", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr


@pytest.mark.parametrize("setting", ["mask_init", "grow", "backward"])
def test_the_switches_are_for_sparserec(setting: str) -> None:
    with pytest.raises(SettingError, match=f"the method rigl has no setting {setting}"):
        TrainRequest.make("mf", "rigl", budget="10%", method_settings={setting: "random"})
