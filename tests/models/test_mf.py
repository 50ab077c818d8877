"""BPR matrix factorisation: its gradient, its optimiser under masks, its hard negatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgerec.data import Interactions
from edgerec.models import SizePlan
from edgerec.models.mf import MF, MFConfig, MFTrainer


def started(data: Interactions, sizes: SizePlan, config: MFConfig, seed: int = 0) -> MFTrainer:
    return MF().trainer(data, sizes, config, seed=seed, threads=1)


def test_a_step_follows_the_papers_gradient() -> None:
    """One pair and a far negative: the first step of Adam moves each value by lr against its gradient's sign."""
    data = Interactions.from_pairs([0], [0]).select(np.ones(1, bool))
    data = Interactions(data.user_ids, np.array([0, 1]), data.indptr, data.indices)
    config = MFConfig(lr=0.01, negatives=1, l2=0.2)
    trainer = started(data, SizePlan(3), config)
    p, items = trainer.vectors().users[0].astype(np.float64), trainer.vectors().items.astype(np.float64)
    trainer._step(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1]]), 1)
    wrong = 1 / (1 + np.exp(p @ (items[0] - items[1])))
    gradients = {
        "users": -wrong * (items[0] - items[1])[None] + 2 * 0.2 * p,
        "items": wrong * np.stack([-p, p]) + 2 * 0.2 * items,
    }
    state = trainer.state()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(state[f"{name}.exp_avg"], 0.1 * gradient, rtol=1e-4, atol=1e-7)


def test_the_hardest_negative_is_taken(random_data: Interactions) -> None:
    trainer = started(random_data, SizePlan(4), MFConfig())
    p = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    drawn = torch.arange(15).reshape(3, 5)
    scores = p.numpy() @ trainer.vectors().items.T
    scores[random_data.matrix()[:5].toarray() > 0] = -np.inf
    expected = [max(drawn[:, n].tolist(), key=lambda item: scores[n, item]) for n in range(5)]
    items = torch.from_numpy(trainer.vectors().items)
    assert trainer._hardest(p, torch.arange(5), drawn, items).tolist() == expected


def test_adams_moments_stay_zero_past_a_size(random_data: Interactions, uneven: SizePlan) -> None:
    trainer = started(random_data, uneven, MFConfig())
    for _ in range(3):
        trainer.epoch()
    assert uneven.items is not None
    past = np.arange(12) >= uneven.items[:, None]
    for name in ("items", "items.exp_avg", "items.exp_avg_sq"):
        assert not trainer.state()[name][past].any()


def test_the_loss_falls(random_data: Interactions) -> None:
    trainer = started(random_data, SizePlan(8), MFConfig(negatives=1))
    losses = [trainer.epoch()["loss"] for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("threads", [1, 2])
def test_torchs_thread_count_is_left_as_it_was(random_data: Interactions, threads: int) -> None:
    before = torch.get_num_threads()
    MF().trainer(random_data, SizePlan(4), MFConfig(), seed=0, threads=threads).epoch()
    assert torch.get_num_threads() == before


def test_the_seed_is_the_trainers_own(random_data: Interactions) -> None:
    state = torch.get_rng_state()
    started(random_data, SizePlan(4), MFConfig()).epoch()
    assert torch.equal(torch.get_rng_state(), state)
