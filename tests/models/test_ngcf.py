"""NGCF: its layers and gradients against the paper's formula in plain numpy, its masks, what it leaves to ship."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgerec.api import train
from edgerec.data import Interactions, evaluate_vectors, split, synthetic
from edgerec.data.split import SplitSpec
from edgerec.errors import UnsupportedError
from edgerec.models import SizePlan, Vectors
from edgerec.models.base import prefix_mask
from edgerec.models.ngcf import NGCF, NGCFConfig, NGCFTrainer
from edgerec.models.propagation import Propagation, normalised_adjacency

TINY = Interactions.from_pairs([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 2, 3])
SIZES = SizePlan(6, np.array([1, 4, 6]), np.array([2, 5, 6, 3]))


def started(data: Interactions, sizes: SizePlan, **settings: Any) -> NGCFTrainer:
    return NGCF().trainer(data, sizes, NGCFConfig(**settings), seed=0, threads=1)


def adjacency(data: Interactions) -> np.ndarray:
    """(n, n) float64 D^-1/2 A D^-1/2."""
    R = data.matrix().toarray().astype(np.float64)
    A = np.block([[np.zeros((len(R), len(R))), R], [R.T, np.zeros((R.shape[1], R.shape[1]))]])
    root = 1 / np.sqrt(np.maximum(A.sum(axis=0), 1))
    return A * root[:, None] * root


def by_formula(data: Interactions, state: dict[str, Any], layers: int, d: int) -> np.ndarray:
    """(n, d) float64 the rows that score, by equation (7) of the paper, a dimension of every layer at a time."""
    A, E = adjacency(data), state["ego"].astype(np.float64)
    parts = [E]
    for layer in range(layers):
        of_sum, of_product = (state[f"layer{layer}.{kind}"].astype(np.float64) for kind in ("sum", "product"))
        mixed = (A @ E + E) @ of_sum + (A @ E * E) @ of_product
        E = np.where(mixed > 0, mixed, 0.2 * mixed)
        parts.append(E / np.maximum(np.linalg.norm(E, axis=1, keepdims=True), 1e-12))
    return np.stack([parts[place % len(parts)][:, place // len(parts)] for place in range(d)], 1)


@pytest.mark.parametrize(("layers", "d"), [(0, 3), (1, 6), (3, 12), (3, 10), (3, 1)])
def test_what_ships_is_the_papers_formula(random_data: Interactions, layers: int, d: int) -> None:
    """In what ships nothing is left out, however often training does; 10 dimensions are not shared evenly by 4."""
    trainer = started(random_data, SizePlan(d), layers=layers, dropout=0.5)
    for _ in range(2):
        trainer.epoch()
    vectors = trainer.vectors()
    expected = by_formula(random_data, trainer.state(), layers, d)
    np.testing.assert_allclose(np.concatenate([vectors.users, vectors.items]), expected, atol=1e-4)


@pytest.mark.parametrize("mask_at", ["output", "ego"])
@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_gradients_under_masks_are_those_of_finite_differences(loss: str, mask_at: str) -> None:
    """Of the ego rows and of all weights."""
    trainer = started(TINY, SIZES, loss=loss, mask_at=mask_at, dropout=0.0, layers=2)
    trainer._graph = Propagation(normalised_adjacency(TINY).astype(np.float64), 1, 1)
    batch = next(trainer.batches())
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 2), *[(2, 2)] * 4]
    inputs = [torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes]

    def objective(ego: torch.Tensor, *weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        trainer._weights = [(weights[0], weights[1]), (weights[2], weights[3])]
        return trainer._objective(ego, batch)

    assert torch.autograd.gradcheck(objective, inputs)


def test_a_step_moves_every_weight_against_its_gradient() -> None:
    """After one step of Adam its first moment is a tenth of torch's gradient of the whole objective."""
    trainer = started(TINY, SizePlan(6), dropout=0.0, layers=2, l2=0.1)
    batch = next(trainer.batches())
    ranking, decay = trainer._objective(trainer._ego, batch)
    gradients = torch.autograd.grad(ranking + 0.1 * decay, trainer._adam.tensors)
    assert float(trainer.step(batch)) == pytest.approx(float(ranking.detach()))
    for name, gradient in zip(trainer._adam.named, gradients, strict=True):
        np.testing.assert_allclose(trainer.state()[f"{name}.exp_avg"], 0.1 * gradient, rtol=1e-5, atol=1e-9)
        assert gradient.any()


@pytest.mark.parametrize("mask_at", ["output", "ego"])
def test_masks_hold_where_they_cut(random_data: Interactions, uneven: SizePlan, mask_at: str) -> None:
    trainer = started(random_data, uneven, mask_at=mask_at, layers=3)
    told = [trainer.epoch() for _ in range(3)]
    assert uneven.users is not None
    assert uneven.items is not None
    sizes = np.concatenate([uneven.users, uneven.items])
    vectors, state = trainer.vectors(), trainer.state()
    assert not np.concatenate([vectors.users, vectors.items])[~prefix_mask(sizes, 12)].any()
    past_ego = ~prefix_mask(-(-sizes // 4), 3)
    for name in ("ego", "ego.exp_avg", "ego.exp_avg_sq"):
        assert state[name][past_ego].any() == (mask_at == "output")
    assert ("kept" in told[-1]) == (mask_at == "ego")
    if mask_at == "output":
        assert vectors.untruncated is None
        return
    assert vectors.untruncated is not None
    kept = sum(np.square(side).sum() for side in (vectors.users, vectors.items))
    whole = sum(np.square(side).sum() for side in (vectors.untruncated.users, vectors.untruncated.items))
    assert kept / whole == pytest.approx(told[-1]["kept"], rel=1e-5)
    again = Vectors.from_arrays(vectors.arrays())
    assert again.untruncated is not None
    assert np.array_equal(again.untruncated.items, vectors.untruncated.items)
    assert np.array_equal(again.items, vectors.items)


def test_a_row_cut_short_has_some_of_every_layer(random_data: Interactions) -> None:
    sizes = SizePlan(12, np.full(80, 4), np.full(50, 4))
    trainer = started(random_data, sizes, layers=3)
    trainer.epoch()
    full = by_formula(random_data, trainer.state(), 3, 12)
    parts = [by_formula(random_data, trainer.state(), layer, layer + 1)[:, layer] for layer in range(4)]
    np.testing.assert_allclose(full[:, :4], np.stack(parts, 1))
    np.testing.assert_allclose(trainer.vectors().items[:, :4], full[80:, :4], atol=1e-4)


def test_what_a_step_leaves_out_is_made_up_for(random_data: Interactions) -> None:
    trainer = started(random_data, SizePlan(8), dropout=0.4, layers=1)
    whole = trainer._output(trainer._ego, training=False).detach()
    rows = [trainer._output(trainer._ego, training=True).detach() for _ in range(3)]
    layer = torch.stack(rows)[:, :, 1::2]
    share = float((layer == 0).float().mean())
    assert 0.35 < share < 0.45
    assert torch.equal(rows[0][:, ::2], whole[:, ::2])  # the ego row is whole
    assert not torch.equal(rows[0], rows[1])


def test_planted_tastes_are_found_and_popularity_is_beaten() -> None:
    data = synthetic(n_users=300, n_items=200, n=9000, seed=1)
    parts = split(data, SplitSpec.parse("random:50/25/25"))
    trainer = started(parts.train, SizePlan(16))
    losses = [trainer.epoch()["loss"] for _ in range(12)]
    assert losses[-1] < losses[0]
    vectors = trainer.vectors()
    found = evaluate_vectors(vectors.users, vectors.items, parts.train, parts.test)["ndcg@20"]
    counts = parts.train.item_counts().astype(np.float32)[:, None]
    popular = evaluate_vectors(np.ones((300, 1), np.float32), counts, parts.train, parts.test)["ndcg@20"]
    assert found > 1.3 * popular


@pytest.mark.parametrize("settings", [{}, {"loss": "bpr", "start": "normal"}, {"mask_at": "ego"}, {"layers": 3}])
def test_restore_continues_to_the_same_bits(
    random_data: Interactions, uneven: SizePlan, settings: dict[str, Any]
) -> None:
    """What a step leaves out is drawn, and is the same too."""
    straight, resumed = (started(random_data, uneven, dropout=0.3, **settings) for _ in range(2))
    straight.epoch()
    resumed.restore(straight.state())
    for _ in range(2):
        assert resumed.epoch() == straight.epoch()
    for name, array in straight.state().items():
        assert array.tobytes() == resumed.state()[name].tobytes(), name


def test_a_killed_run_goes_on_to_the_same_bits(random_data: Interactions, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"backbone": "ngcf", "method": "popularity", "budget": "40%", "dimensions": 8}
    wanted |= {"max_epochs": 4, "threads": 1}

    def killed(step: Any) -> None:
        if step.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(random_data, out=tmp_path / "killed", progress=killed, **wanted)
    resumed = train(random_data, out=tmp_path / "killed", resume=True, **wanted)
    straight = train(random_data, out=tmp_path / "straight", **wanted)
    assert resumed.metrics == straight.metrics
    assert resumed.items.dense().tobytes() == straight.items.dense().tobytes()


def test_the_weights_are_counted_and_told(random_data: Interactions) -> None:
    assert started(random_data, SizePlan(12), layers=3).epoch()["weights"] == 3 * 2 * 3 * 3


def test_the_seed_and_the_threads_are_the_trainers_own(random_data: Interactions) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    NGCF().trainer(random_data, SizePlan(4), NGCFConfig(), seed=0, threads=2).epoch()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    "wrong", [{"loss": "mse"}, {"mask_at": "nowhere"}, {"start": "cold"}, {"layers": -1}, {"dropout": 1.0}]
)
def test_settings_that_do_not_exist_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="ngcf"):
        replace(NGCFConfig(), **wrong)
