"""iALS against the equations of its paper, solved naively in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgerec.data import Interactions, synthetic
from edgerec.models import SizePlan, Vectors
from edgerec.models import row_solver as solver_module
from edgerec.models.ials import IALS, IALSConfig
from edgerec.models.row_solver import Penalties, RowSolver, weights_by_count
from edgerec_export import export, from_arrays


def naive_row(
    Y: np.ndarray, observed: np.ndarray, alpha: float, reg: float, size: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """(d,) the row's optimum within `size` dimensions by the normal equations."""
    Y = Y.astype(np.float64)
    confidence = np.ones(len(Y)) if weights is None else weights.astype(np.float64)
    confidence[observed] *= 1 + alpha
    A = (Y * confidence[:, None]).T @ Y + reg * np.eye(Y.shape[1])
    b = (Y * confidence[:, None])[observed].sum(axis=0)
    x = np.zeros(Y.shape[1])
    x[:size] = np.linalg.solve(A[:size, :size], b[:size])
    return x


def naive_loss(data: Interactions, vectors: Vectors, alpha: float, reg: float, item_exponent: float) -> float:
    """The objective over all cells, by interaction."""
    powers = 2 ** (np.floor(np.log2(np.maximum(data.item_counts(), 1))) + 0.5)
    factors = (powers / data.item_counts().mean()) ** item_exponent if item_exponent else np.ones(data.n_items)
    users, items = vectors.users.astype(np.float64), vectors.items.astype(np.float64)
    R = data.matrix().toarray()
    cells = (1 + alpha * R) * (R - users @ items.T) ** 2
    return float(cells.sum() + reg * ((users**2).sum() + factors @ (items**2).sum(1))) / len(data)


@pytest.mark.parametrize("block_floats", [1, 500, 1 << 19])
@pytest.mark.parametrize(("alpha", "reg"), [(0.0, 0.1), (3.0, 20.0), (40.0, 0.01)])
def test_rows_solve_the_normal_equations_within_their_sizes(
    random_data: Interactions,
    uneven: SizePlan,
    monkeypatch: pytest.MonkeyPatch,
    block_floats: int,
    alpha: float,
    reg: float,
) -> None:
    monkeypatch.setattr(solver_module, "_BLOCK_FLOATS", block_floats)
    Y = np.random.default_rng(0).standard_normal((random_data.n_items, 12)).astype(np.float32)
    for sizes in (None, uneven.users):
        solver = RowSolver(random_data.indptr, random_data.indices, random_data.n_items, 12, sizes)
        rows, _ = solver.solve(Y, alpha, reg)
        for user in range(random_data.n_users):
            size = 12 if sizes is None else int(sizes[user])
            expected = naive_row(Y, random_data.items_of(user), alpha, reg, size)
            np.testing.assert_allclose(rows[user], expected, rtol=2e-3, atol=2e-4)
            assert not rows[user, size:].any()


@pytest.mark.parametrize("exponents", [(0.5, 0.0), (0.0, 0.5), (0.7, 1.0)])
def test_penalties_and_weights_follow_the_counts(
    random_data: Interactions, uneven: SizePlan, exponents: tuple[float, float]
) -> None:
    """Penalties of items follow their interactions, rounded to powers of 2, and weights of users theirs."""
    columns = random_data.matrix().T.tocsr()
    counts, degrees = random_data.item_counts(), np.maximum(random_data.user_counts(), 1)
    of_items, of_users = exponents
    weights = degrees**-of_users * degrees.sum() / (degrees ** (1 - of_users)).sum()
    X = np.random.default_rng(0).standard_normal((random_data.n_users, 12)).astype(np.float32)
    penalties = Penalties.by_count(counts, of_items)
    shape = (columns.indptr, columns.indices, random_data.n_users, 12)
    rows, _ = RowSolver(*shape, uneven.items, penalties).solve(X, 3.0, 5.0, weights=weights_by_count(degrees, of_users))
    assert uneven.items is not None
    for item, count in enumerate(counts.tolist()):
        size, power = int(uneven.items[item]), 2 ** (np.floor(np.log2(max(count, 1))) + 0.5)
        reg = 5.0 * (power / counts.mean()) ** of_items if of_items else 5.0
        observed = columns.indices[columns.indptr[item] : columns.indptr[item + 1]]
        expected = naive_row(X, observed, 3.0, reg, size, weights)
        np.testing.assert_allclose(rows[item], expected, rtol=2e-3, atol=2e-4)


def test_rows_that_vanish_are_zeros_and_can_be_exported(tmp_path: Path) -> None:
    """A user and an item that only know each other, in tables with too few dimensions for them."""
    most = synthetic(n_users=60, n_items=40, n=1200, seed=1)
    pairs = np.append(most.user_rows(), 60), np.append(most.indices, 40)
    data = Interactions.from_pairs(*pairs)
    trainer = IALS().trainer(data, SizePlan(1), IALSConfig(alpha=3.0, reg=20.0), seed=0)
    for _ in range(12):
        trainer.epoch()
    users, items = trainer.vectors().users, trainer.vectors().items
    assert not users[60].any()
    assert not items[40].any()
    assert users[:60].any(1).all()
    export(from_arrays(items, users), tmp_path / "b.bundle", verify=False)


def test_a_row_without_observations_is_zero() -> None:
    Y = np.ones((2, 3), np.float32)
    rows, _ = RowSolver(np.array([0, 0, 2]), np.array([0, 1]), 2, 3).solve(Y, 1.0, 1.0)
    assert not rows[0].any()
    assert rows[1].all()


@pytest.mark.parametrize(("full", "exponent"), [(True, 0.0), (False, 0.0), (True, 0.5), (False, 0.5)])
def test_the_loss_is_the_objective_and_never_rises(
    random_data: Interactions, uneven: SizePlan, full: bool, exponent: float
) -> None:
    config = IALSConfig(alpha=5.0, reg=2.0, item_exponent=exponent)
    trainer = IALS().trainer(random_data, SizePlan(12) if full else uneven, config, seed=0)
    previous = naive_loss(random_data, trainer.vectors(), 5.0, 2.0, exponent)
    for _ in range(12):
        told = trainer.epoch()["loss"]
        loss = naive_loss(random_data, trainer.vectors(), 5.0, 2.0, exponent)
        assert told == pytest.approx(loss, rel=1e-5)
        assert loss <= previous + 1e-6
        previous = loss


def test_users_are_the_fold_in_of_their_histories(random_data: Interactions) -> None:
    trainer = IALS().trainer(random_data, SizePlan(8), IALSConfig(alpha=2.0, reg=1.0), seed=0)
    trainer.epoch()
    vectors = trainer.vectors()
    expected = naive_row(vectors.items, random_data.items_of(5), 2.0, 1.0, 8)
    np.testing.assert_allclose(vectors.users[5], expected, atol=1e-5)


@pytest.mark.parametrize(("start", "epochs"), [("svd", 5), ("normal", 20)])
def test_a_planted_low_rank_is_recovered(start: str, epochs: int) -> None:
    groups = np.arange(120) % 3
    users, items = np.nonzero(groups[:, None] == (np.arange(90) % 3)[None])
    data = Interactions.from_pairs(users, items)
    trainer = IALS().trainer(data, SizePlan(3), IALSConfig(alpha=1.0, reg=1e-3, start=start), seed=0)
    for _ in range(epochs):
        trainer.epoch()
    vectors = trainer.vectors()
    np.testing.assert_allclose(vectors.users @ vectors.items.T, data.matrix().toarray(), atol=1e-3)


def test_threads_do_not_change_a_bit(
    random_data: Interactions, uneven: SizePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solver_module, "_BLOCK_FLOATS", 600)  # many blocks, so that threads interleave
    results = []
    for threads in (1, 2, 5):
        trainer = IALS().trainer(random_data, uneven, IALSConfig(), seed=0, threads=threads)
        told = [trainer.epoch() for _ in range(3)]
        results.append((told, trainer.vectors().users.tobytes(), trainer.vectors().items.tobytes()))
    assert results[0] == results[1] == results[2]
