"""LightGCN: its propagation and gradients against plain formulas, its masks, its two losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from edgerec.data import Interactions, split
from edgerec.errors import UnsupportedError
from edgerec.models import SizePlan, losses
from edgerec.models.base import prefix_mask
from edgerec.models.lightgcn import LightGCN, LightGCNConfig, LightGCNTrainer
from edgerec.models.losses import Batch, bpr, by_interaction, by_user, softmax
from edgerec.models.propagation import Propagation, normalised_adjacency
from edgerec.training.fit import Fit, FitOptions, validate

TINY = Interactions.from_pairs([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 2, 3])


def started(data: Interactions, sizes: SizePlan, threads: int = 1, **settings: Any) -> LightGCNTrainer:
    return LightGCN().trainer(data, sizes, LightGCNConfig(**settings), seed=0, threads=threads)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def dense_propagation(data: Interactions, layers: int) -> np.ndarray:
    """(n, n) float64 the mean of the powers 0..layers of D^-1/2 A D^-1/2."""
    R = data.matrix().toarray().astype(np.float64)
    A = np.block([[np.zeros((len(R), len(R))), R], [R.T, np.zeros((R.shape[1], R.shape[1]))]])
    root = 1 / np.sqrt(np.maximum(A.sum(axis=0), 1))
    A *= root[:, None] * root
    return sum(np.linalg.matrix_power(A, power) for power in range(layers + 1)) / (layers + 1)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_propagation_is_the_mean_of_the_powers(random_data: Interactions, layers: int, threads: int) -> None:
    values = np.random.default_rng(0).standard_normal((130, 5))
    got = Propagation(normalised_adjacency(random_data), layers, threads)(values)
    np.testing.assert_allclose(got, dense_propagation(random_data, layers) @ values, atol=1e-6)


def test_threads_do_not_change_a_bit_of_a_product(random_data: Interactions) -> None:
    graph, values = normalised_adjacency(random_data), np.random.default_rng(0).standard_normal((130, 5), np.float32)
    results = [Propagation(graph, 3, threads)(values).tobytes() for threads in (1, 2, 200)]
    assert len(set(results)) == 1


def test_an_item_that_nobody_took_keeps_only_its_own_share() -> None:
    data = TINY.select(TINY.indices != 3)
    values = np.ones((7, 2), np.float32)
    np.testing.assert_allclose(Propagation(normalised_adjacency(data), 3, 1)(values)[-1], 0.25)


def test_the_gradient_of_a_propagation_is_that_of_finite_differences() -> None:
    graph = normalised_adjacency(TINY).astype(np.float64)
    values = torch.randn(7, 3, dtype=torch.float64, generator=generator(), requires_grad=True)
    assert torch.autograd.gradcheck(Propagation(graph, 3, 2).differentiable, [values])


@pytest.mark.parametrize("mask_at", ["output", "ego"])
@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_gradients_under_masks_are_those_of_finite_differences(loss: str, mask_at: str) -> None:
    sizes = SizePlan(3, np.array([1, 2, 3]), np.array([2, 1, 3, 1]))
    trainer = started(TINY, sizes, loss=loss, mask_at=mask_at)
    trainer._propagation = Propagation(normalised_adjacency(TINY).astype(np.float64), 3, 1)
    batch = next(trainer.batches())
    ego = torch.randn(7, 3, dtype=torch.float64, generator=generator(), requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: trainer._objective(rows, batch), [ego])


def test_bpr_is_the_papers_formula() -> None:
    table = torch.randn(7, 3, generator=generator())
    batch = Batch(torch.tensor([0, 2]), torch.tensor([3, 5]), torch.tensor([6, 4]))
    e = table.numpy().astype(np.float64)
    margins = [e[u] @ (e[i] - e[j]) for u, i, j in ((0, 3, 6), (2, 5, 4))]
    assert float(bpr(table, batch)) == pytest.approx(np.mean([np.log1p(np.exp(-margin)) for margin in margins]))


def test_softmax_is_the_papers_formula() -> None:
    table = torch.randn(7, 3, generator=generator())
    batch = Batch(torch.tensor([2, 2, 0]), torch.tensor([3, 5, 4]), torch.tensor([6, 4]), torch.tensor([0.7, -0.1]))
    e = table.numpy().astype(np.float64)
    scores = e @ e.T / 0.5
    each = [
        np.log(np.exp(scores[u, i]) + np.exp(scores[u, [6, 4]] + [0.7, -0.1]).sum()) - scores[u, i]
        for u, i in ((2, 3), (2, 5), (0, 4))
    ]
    assert float(softmax(table, batch, 0.5)) == pytest.approx(np.mean(each))


def test_the_gradient_of_the_softmax_over_several_blocks_is_that_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(losses, "_BLOCK", 2)
    monkeypatch.setattr(losses, "_PAIRS", 3)
    table = torch.randn(12, 3, dtype=torch.float64, generator=generator(), requires_grad=True)
    rows = ([4, 4, 1, 0, 3, 3, 2], [5, 6, 7, 8, 9, 5, 6], [10, 11, 5])
    batch = Batch(*map(torch.tensor, rows), shifts=torch.tensor([0.3, -0.2, 1.0]))
    assert torch.autograd.gradcheck(lambda rows: softmax(rows, batch, 0.5), [table])
    blocks = softmax(table, batch, 0.5)
    monkeypatch.setattr(losses, "_BLOCK", 99)
    assert float(blocks.detach()) == pytest.approx(float(softmax(table, batch, 0.5).detach()))


def test_an_epoch_takes_every_interaction_once(random_data: Interactions) -> None:
    expected = sorted(zip(random_data.user_rows().tolist(), (random_data.indices + 80).tolist(), strict=True))
    for batches in (by_user(random_data, 7, 20, generator()), by_interaction(random_data, 50, generator())):
        taken = []
        for batch in batches:
            taken += zip(batch.users.tolist(), batch.items.tolist(), strict=True)
            assert 80 <= batch.negatives.min() <= batch.negatives.max() < 130
        assert sorted(taken) == expected


def test_shared_negatives_are_different_items_and_all_where_enough_are_asked() -> None:
    few, all_of_them = (next(by_user(TINY, 8, n, generator())).negatives.tolist() for n in (2, 99))
    assert len(set(few)) == 2
    assert sorted(all_of_them) == [3, 4, 5, 6]


@pytest.mark.parametrize("negatives", [3, 20, 45, 50])
def test_shifts_make_up_for_negatives_drawn_by_popularity(random_data: Interactions, negatives: int) -> None:
    drawn, total, rows = generator(), torch.zeros(50, dtype=torch.float64), 0
    for _ in range(2000):
        batch = next(by_user(random_data, 7, negatives, drawn, 0.5))
        assert len(batch.negatives.unique()) == len(batch.negatives) == negatives
        total[batch.negatives - 80] += batch.shifts.exp()
        rows += 1
    np.testing.assert_allclose(total / rows, negatives / 50, rtol=0.35 if negatives == 3 else 0.1)
    assert (batch.shifts.unique().numel() > 1) == (negatives < 50)


def test_users_without_interactions_are_passed_over() -> None:
    data = TINY.select(TINY.user_rows() != 1)
    assert sorted({user for batch in by_user(data, 8, 2, generator()) for user in batch.users.tolist()}) == [0, 2]


@pytest.mark.parametrize("settings", [{"loss": "bpr"}, {"loss": "bpr", "start": "normal"}, {"start": "normal"}])
def test_left_out_pairs_of_a_checkerboard_are_found(checkerboard: Any, settings: dict[str, Any]) -> None:
    trainer = started(checkerboard.data, SizePlan(4), **settings)
    for _ in range(25):
        trainer.epoch()
    vectors = trainer.vectors()
    scores = vectors.users @ vectors.items.T
    for row, taken, held_out in zip(scores, checkerboard.taken, checkerboard.held_out, strict=True):
        assert row[held_out].min() > row[~taken].max()


def test_what_ships_is_the_propagated_table(random_data: Interactions, uneven: SizePlan) -> None:
    trainer = started(random_data, uneven)
    trainer.epoch()
    vectors, ego = trainer.vectors(), trainer.state()["ego"]
    assert uneven.users is not None
    assert uneven.items is not None
    mask = prefix_mask(np.concatenate([uneven.users, uneven.items]), 12)
    expected = np.where(mask, dense_propagation(random_data, 3) @ ego, 0)
    np.testing.assert_allclose(np.concatenate([vectors.users, vectors.items]), expected, atol=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_masks_on_ego_rows_hold_in_training_and_in_what_ships(
    random_data: Interactions, uneven: SizePlan, loss: str
) -> None:
    trainer = started(random_data, uneven, mask_at="ego", loss=loss)
    told = [trainer.epoch() for _ in range(3)]
    assert uneven.users is not None
    assert uneven.items is not None
    past = ~prefix_mask(np.concatenate([uneven.users, uneven.items]), 12)
    state, vectors = trainer.state(), trainer.vectors()
    for name in ("ego", "ego.exp_avg", "ego.exp_avg_sq"):
        assert not state[name][past].any()
    assert not np.concatenate([vectors.users, vectors.items])[past].any()
    full = dense_propagation(random_data, 3) @ state["ego"]
    unturned = np.square(full[~past]).sum() / np.square(full).sum()
    shipped = (np.square(vectors.users).sum() + np.square(vectors.items).sum()) / np.square(full).sum()
    assert told[-1]["kept"] == pytest.approx(shipped, rel=1e-4)
    assert unturned - 1e-6 <= told[-1]["kept"] < 1


def test_turning_changes_no_score_where_nothing_is_cut(random_data: Interactions) -> None:
    sizes = SizePlan(6, np.full(80, 6), np.full(50, 6))
    trainer = started(random_data, sizes, mask_at="ego")
    assert trainer.epoch()["kept"] == pytest.approx(1)
    vectors = trainer.vectors()
    full = dense_propagation(random_data, 3) @ trainer.state()["ego"]
    np.testing.assert_allclose(vectors.users @ vectors.items.T, full[:80] @ full[80:].T, atol=1e-4)


@pytest.mark.parametrize("settings", [{"loss": "bpr"}, {"mask_at": "ego", "start": "normal"}, {"popular": 0.5}])
def test_restore_continues_to_the_same_bits(
    random_data: Interactions, uneven: SizePlan, settings: dict[str, Any]
) -> None:
    straight, resumed = (started(random_data, uneven, **settings) for _ in range(2))
    straight.epoch()
    resumed.restore(straight.state())
    for _ in range(2):
        assert resumed.epoch() == straight.epoch()
    for name, array in straight.state().items():
        assert array.tobytes() == resumed.state()[name].tobytes(), name


def test_the_step_size_falls_to_a_hundredth(random_data: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = started(random_data, SizePlan(4), lr=0.1, horizon=4)
    sizes: list[float] = []
    monkeypatch.setattr(trainer._adam, "step", lambda gradients, lr: sizes.append(lr))
    for epoch in range(6):
        trainer.epoch()
        del sizes[epoch + 1 :]
    np.testing.assert_allclose(sizes, [0.1, 0.075, 0.05, 0.025, 0.001, 0.001])


def test_the_seed_and_the_threads_are_the_trainers_own(random_data: Interactions) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    started(random_data, SizePlan(4), threads=2).epoch()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    "wrong", [{"loss": "mse"}, {"mask_at": "nowhere"}, {"start": "cold"}, {"layers": -1}, {"popular": 2.0}]
)
def test_settings_that_do_not_exist_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="lightgcn"):
        replace(LightGCNConfig(), **wrong)


def test_an_open_weight_decay_is_chosen_by_short_trainings_with_the_whole_schedule(random_data: Interactions) -> None:
    parts = split(random_data, "random:60/20/20")
    result = Fit(LightGCN(), parts, SizePlan(4), LightGCNConfig(), FitOptions(max_epochs=10, threads=1)).run()
    trials = [entry for entry in result.history if entry["phase"] == "settings"]
    assert result.config == LightGCNConfig(l2=max(trials, key=lambda entry: float(entry["ndcg@20"]))["l2"])

    def score(l2: float) -> float:
        trainer = started(parts.train, SizePlan(4), l2=l2, horizon=2)
        trainer.epoch(), trainer.epoch()
        return validate(parts, trainer.vectors(), FitOptions(threads=1))["ndcg@20"]

    assert [entry["ndcg@20"] for entry in trials] == [pytest.approx(score(entry["l2"])) for entry in trials]
