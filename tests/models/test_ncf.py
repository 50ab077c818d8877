"""NCF: its gradients against torch's own of the plain formula, its network, its masks, what it leaves to ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgerec.api import train
from edgerec.data import Interactions, evaluate_vectors, split, synthetic
from edgerec.data.split import SplitSpec
from edgerec.errors import SettingError
from edgerec.models import SizePlan, Vectors
from edgerec.models import scorer as scorers
from edgerec.models.ncf import NCF, NCFConfig, NCFTrainer, products
from edgerec.models.scorer import NeuMFScorer
from edgerec.training import Checkpoint, Run
from edgerec.training.checkpoint import Snapshot


def started(data: Interactions, sizes: SizePlan, seed: int = 0, **settings: Any) -> NCFTrainer:
    return NCF().trainer(data, sizes, NCFConfig(**settings), seed=seed, threads=1)


def plain_loss(state: dict[str, torch.Tensor], m: int, triples: list[tuple[int, int, int]], l2: float) -> torch.Tensor:
    """BPR of NeuMF as the papers write it, one pair at a time."""

    def score(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        inner = torch.cat([p[m:], q[m:]]) @ state["weights0"] + state["biases0"]
        return (state["gmf"] * p[:m] * q[:m]).sum() + (inner.clamp(min=0) @ state["weights1"])[0]

    losses = []
    for u, i, j in triples:
        p, q, r = state["users"][u], state["items"][i], state["items"][j]
        rows = p.square().sum() + q.square().sum() + r.square().sum()
        losses.append(-torch.nn.functional.logsigmoid(score(p, q) - score(p, r)) + l2 * rows)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_step_follows_the_gradient_of_the_plain_formula(
    random_data: Interactions, uneven: SizePlan, share: float
) -> None:
    """After one step of Adam its first moment is a tenth of the gradient: in every table and weight, under masks."""
    trainer = started(random_data, uneven, negatives=1, l2=0.2, products=share)
    names = ("users", "items", "gmf", "weights0", "biases0", "weights1")
    before = {name: torch.from_numpy(trainer.state()[name]).double().requires_grad_() for name in names}
    triples = [(0, 3, 4), (70, 9, 3), (11, 49, 0), (0, 9, 4)]
    users, items, drawn = (torch.tensor(rows) for rows in zip(*triples, strict=True))
    loss = trainer._step(users, items, drawn[None], len(triples))
    m = products(random_data, uneven, share)
    plain_loss(before, m, triples, 0.2).backward()
    assert float(loss) == pytest.approx(float(plain_loss(before, m, triples, 0).detach()), rel=1e-5)
    assert uneven.users is not None
    assert uneven.items is not None
    for name in names:
        gradient = before[name].grad
        assert gradient is not None
        expected = 0.1 * gradient.numpy()
        if name in ("users", "items"):
            sizes = uneven.users if name == "users" else uneven.items
            expected = np.where(np.arange(12) < sizes[:, None], expected, 0)
        np.testing.assert_allclose(trainer.state()[f"{name}.exp_avg"], expected, rtol=1e-4, atol=1e-7)


def test_what_is_trained_is_what_ships(random_data: Interactions, uneven: SizePlan) -> None:
    """Drawn items are scored in training as the scorer scores them."""
    trainer = started(random_data, uneven)
    trainer.epoch()
    vectors = trainer.vectors()
    assert vectors.scorer is not None
    users, drawn = torch.arange(5), torch.arange(15).reshape(3, 5)
    got = trainer._of_drawn(torch.from_numpy(vectors.users[:5]), drawn, torch.from_numpy(vectors.items))
    exact = vectors.scorer.scores(vectors.users.astype(np.float64), vectors.items.astype(np.float64))
    np.testing.assert_allclose(got, exact[users, drawn], rtol=1e-4, atol=1e-5)


def test_planted_tastes_are_found_and_popularity_is_beaten() -> None:
    data = synthetic(n_users=300, n_items=200, n=9000, seed=1)
    parts = split(data, SplitSpec.parse("random:50/25/25"))
    trainer = started(parts.train, SizePlan(16), negatives=1)
    losses = [trainer.epoch()["loss"] for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    found = measured(trainer.vectors(), parts.train, parts.test)
    counts = parts.train.item_counts().astype(np.float32)[:, None]
    popular = evaluate_vectors(np.ones((300, 1), np.float32), counts, parts.train, parts.test)["ndcg@20"]
    assert found > 1.3 * popular


def measured(vectors: Vectors, seen: Interactions, test: Interactions) -> float:
    assert vectors.scorer is not None
    return evaluate_vectors(vectors.users, vectors.items, seen, test, scores=vectors.scorer.scores)["ndcg@20"]


def test_products_take_their_share_of_an_average_row(random_data: Interactions, uneven: SizePlan) -> None:
    assert uneven.users is not None
    assert uneven.items is not None
    mean = np.concatenate([uneven.users, uneven.items]).mean()
    assert products(random_data, uneven, 0.5) == round(0.5 * mean) == 3
    assert products(random_data, SizePlan(64), 0.5) == 32
    assert products(random_data, SizePlan(4), 1.0) == 3  # the perceptron keeps one
    assert products(random_data, SizePlan(1), 0.5) == 0


def test_the_network_is_told_bounded_and_has_its_own_step_size(random_data: Interactions) -> None:
    config = NCFConfig(hidden=8, rate=0.25)
    trainer = NCF().trainer(random_data, SizePlan(12), config, seed=0, threads=1)
    told = trainer.epoch()
    assert told["weights"] == 9 + 6 * 8 + 8 + 8 + 1
    assert told["weights"] <= NCF().extra_parameters(12, config)
    assert trainer._rates() == [config.lr * config.decay] * 2 + [config.lr * config.decay / 4] * 4


def test_scores_do_not_depend_on_how_much_is_held_at_once(
    random_data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = started(random_data, SizePlan(8))
    trainer.epoch()
    vectors = trainer.vectors()
    assert vectors.scorer is not None
    whole = vectors.scorer.scores(vectors.users, vectors.items)
    assert whole.dtype == np.float32
    monkeypatch.setattr(scorers, "_HIDDEN_AT_ONCE", 1)
    np.testing.assert_allclose(vectors.scorer.scores(vectors.users, vectors.items), whole, rtol=1e-5, atol=1e-6)


def test_arrays_make_the_same_again(random_data: Interactions) -> None:
    vectors = started(random_data, SizePlan(6)).vectors()
    again = Vectors.from_arrays(vectors.arrays())
    assert vectors.scorer is not None
    assert again.scorer is not None
    assert again.users.tobytes() == vectors.users.tobytes()
    for name, array in vectors.scorer.arrays().items():
        assert again.scorer.arrays()[name].tobytes() == array.tobytes()
    with pytest.raises((KeyError, ValueError)):
        NeuMFScorer.from_arrays({"gmf": np.ones(2, np.float32)})


def test_a_checkpoint_keeps_the_best_scorer(random_data: Interactions, tmp_path: Path) -> None:
    vectors = started(random_data, SizePlan(6)).vectors()
    Checkpoint(tmp_path, {}).save(Snapshot({}, {}, vectors))
    found = Checkpoint(tmp_path, {}).load()
    assert found is not None
    assert found.best is not None
    assert found.best.arrays().keys() == vectors.arrays().keys()


@pytest.mark.parametrize("split_by", ["random:80/20", "random:50/25/25"])
def test_a_killed_run_goes_on_to_the_same_bits(random_data: Interactions, tmp_path: Path, split_by: str) -> None:
    wanted: dict[str, Any] = {"backbone": "ncf", "method": "popularity", "budget": "40%", "dimensions": 8}
    wanted |= {"split": split_by, "max_epochs": 4, "threads": 1}

    def killed(step: Any) -> None:
        if step.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(random_data, out=tmp_path / "killed", progress=killed, **wanted)
    resumed = train(random_data, out=tmp_path / "killed", resume=True, **wanted)
    straight = train(random_data, out=tmp_path / "straight", **wanted)
    again = Run.load(tmp_path / "killed")
    for run in (resumed, again):
        assert run.metrics == straight.metrics
        assert run.scorer is not None
        assert straight.scorer is not None
        assert run.items.dense().tobytes() == straight.items.dense().tobytes()
        for name, array in straight.scorer.arrays().items():
            assert run.scorer.arrays()[name].tobytes() == array.tobytes()
    assert straight.metrics["training"]["weights"] > 0
    assert straight.encoder is None


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"products": 1.5}, {"rate": -1.0}, {"lr": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        NCFConfig(**wrong)
