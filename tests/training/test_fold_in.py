"""New items in a trained run: their rows are those of iALS's own item step, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgerec
from edgerec.data import Interactions, synthetic
from edgerec.errors import RequestError, UnsupportedError
from edgerec.models.encoder import LeastSquaresEncoder
from edgerec.runtime import Recommender
from edgerec.runtime.patch import apply_patch
from edgerec.tables import DenseTable, PrefixTable, SparseTable
from edgerec.training import Run
from edgerec.training.fold_in import fold_in
from edgerec_export import diff, export, from_run

NEW = (9001, 9002, 9003)
"""Items that the runs below do not know."""


@pytest.fixture(scope="module")
def data() -> Interactions:
    return synthetic(n_users=120, n_items=80, n=3000, seed=1)


def trained(data: Interactions, method: str = "dense", backbone: str = "ials", **wanted: object) -> Run:
    return edgerec.train(data, backbone=backbone, method=method, dimensions=8, **wanted)


def first_interactions(data: Interactions) -> tuple[Interactions, dict[int, list[int]]]:
    """Some users meet each new item, one whom nobody knows among them; known items are met again."""
    rng = np.random.default_rng(0)
    met = {item: rng.choice(data.user_ids, 5 + 10 * number, replace=False).tolist() for number, item in enumerate(NEW)}
    pairs = [(user, item) for item, users in met.items() for user in users]
    pairs += [(777_777, NEW[0]), (int(data.user_ids[0]), int(data.item_ids[0]))]
    users, items = np.array(pairs).T
    return Interactions.from_pairs(users, items), met


def solved(run: Run, users: list[int], size: int) -> np.ndarray:
    """(size,) the row that minimises the loss, by the normal equations of iALS over all users."""
    assert run.users is not None
    assert isinstance(run.encoder, LeastSquaresEncoder)
    vectors = run.users.dense()[:, :size].astype(np.float64)
    of = vectors[np.isin(run.user_ids, users)]
    alpha, reg = run.encoder.alpha, run.encoder.reg
    left = vectors.T @ vectors + alpha * of.T @ of + reg * np.eye(size)
    return np.linalg.solve(left, (1 + alpha) * of.sum(0))


@pytest.mark.parametrize(
    ("method", "kind"), [("dense", DenseTable), ("popularity", PrefixTable), ("magnitude", SparseTable)]
)
def test_new_rows_solve_the_item_step_and_old_ones_stay(data: Interactions, method: str, kind: type) -> None:
    run = trained(data, method, **({} if method == "dense" else {"budget": "50%"}))
    first, met = first_interactions(data)
    folded = fold_in(run, first)
    assert isinstance(folded.run.items, kind)
    assert (folded.items, folded.unknown) == (3, 1)
    assert folded.interactions == sum(map(len, met.values()))
    made, known = folded.run.items.dense(), run.items.n_rows
    assert np.array_equal(made[:known], run.items.dense())
    assert folded.run.item_ids.tolist() == [*run.item_ids.tolist(), *NEW]
    for row, users in zip(made[known:], met.values(), strict=True):
        kept = np.flatnonzero(row)
        if method == "magnitude":  # the largest values of the whole solution
            whole = solved(run, users, 8)
            assert set(kept) == set(np.argsort(-np.abs(whole))[: kept.size])
            np.testing.assert_allclose(row[kept], whole[kept], atol=1e-4)
        else:
            assert kept.size > 0
            np.testing.assert_allclose(row[: kept[-1] + 1], solved(run, users, kept[-1] + 1), atol=1e-4)


def test_a_row_is_as_wide_as_those_of_items_that_were_met_as_often(data: Interactions) -> None:
    run = trained(data, "popularity", budget="50%")
    assert run.item_counts is not None
    assert isinstance(run.items, PrefixTable)
    first, met = first_interactions(data)
    table = fold_in(run, first).run.items
    assert isinstance(table, PrefixTable)
    for size, users in zip(table.sizes()[-3:], met.values(), strict=True):
        nearest = np.abs(run.item_counts.astype(int) - len(users))
        assert size in run.items.sizes()[nearest == nearest.min()]


def test_a_patch_brings_the_new_items_and_no_other_row(data: Interactions, tmp_path: Path) -> None:
    run = trained(data)
    old = export(from_run(run), tmp_path / "old", layout="dense", precision="int8", verify=False).folder
    folded = fold_in(run, first_interactions(data)[0]).run
    new = export(from_run(folded), tmp_path / "new", like=old, verify=False).folder
    changes = diff(old, new, tmp_path / "patch").changes["item"]
    assert (changes.inserted, changes.deleted, changes.moved, changes.changed) == (3, 0, 0, 0)
    apply_patch(old, tmp_path / "patch")
    model = Recommender.load(old)
    assert folded.users is not None
    scores = folded.users.dense() @ folded.items.dense()[-3:].T
    for user, expected in zip(folded.user_ids.tolist(), scores, strict=True):
        assert model.score(user, NEW) == pytest.approx(expected, abs=0.02)


def test_what_cannot_be_folded_in(data: Interactions) -> None:
    first, _ = first_interactions(data)
    with pytest.raises(UnsupportedError, match="runs of ials take new items without training, got svd"):
        fold_in(trained(data, backbone="svd"), first)
    run = trained(data)
    with pytest.raises(RequestError, match="0 items that the run does not know"):
        fold_in(run, data)
    strangers = Interactions.from_pairs(np.array([777_777]), np.array([9001]))
    with pytest.raises(RequestError, match="1 items that the run does not know, and no interaction of a known user"):
        fold_in(run, strangers)
    with pytest.raises(RequestError, match=r"item ids .* differ in kind"):
        fold_in(run, Interactions.from_pairs(np.array([1]), np.array(["film"])))
