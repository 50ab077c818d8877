"""Dynamic sparse training: the number of values never changes, what should grow does, and it can be stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.api import TrainRequest, train, train_request
from edgerec.data import Interactions
from edgerec.errors import BudgetError, SettingError, UnsupportedError
from edgerec.methods.sparse.growth import Accumulator, LastBatch, at_random, most, weakest
from edgerec.methods.sparse.masks import random_mask
from edgerec.methods.sparse.mf_ncf import MFObjective
from edgerec.methods.sparse.plan import SparsePlan
from edgerec.methods.sparse.sparserec import SparseRecConfig
from edgerec.methods.sparse.table import ActiveTable, Floats, active_at
from edgerec.methods.sparse.trainer import SparseTrainer, trainer_of
from edgerec.models.mf import MFConfig
from edgerec.tables import SparseTable
from edgerec.training import FitOptions, Run, Step
from tests.methods.test_magnitude import resumes_to_the_bit, tables_of

METHODS = ("set", "rigl", "sparserec")
OPTIONS = FitOptions(seed=3, threads=1, max_epochs=4)
D = 8


def table_of(mask: np.ndarray, seed: int = 0) -> ActiveTable:
    """Random values and moments on a mask (n, d)."""
    values = np.random.default_rng(seed).standard_normal(int(mask.sum()), np.float32)
    table = ActiveTable(values, np.nonzero(mask)[1], np.concatenate([[0], np.cumsum(mask.sum(1))]), mask.shape[1])
    table.first, table.second = values * 2, values**2
    return table


def drawn_mask(n: int, d: int, count: int, seed: int = 0) -> np.ndarray:
    found = random_mask(((0, n),), (count,), d, np.random.default_rng(seed))
    mask = np.zeros((n, d), bool)
    mask[np.repeat(np.arange(n), np.diff(found.pointers)), found.columns] = True
    return mask


def plan_for(data: Interactions, **changes: Any) -> SparsePlan:
    n = data.n_users + data.n_items
    return replace(
        SparsePlan(((0, n),), (2 * n,), "random", "accumulated", "sampled", n // 4, 0.1, 0.5, 0.0, 5, 10, 5), **changes
    )


def trainer_for(data: Interactions, plan: SparsePlan, d: int = D, seed: int = 0) -> SparseTrainer:
    rows = plan.rows if plan.backward == "sampled" else None
    objective = MFObjective(data, d, MFConfig(batch=1000), 1, rows)
    return trainer_of(data, objective, plan, seed=seed, threads=1)


@settings(max_examples=25, deadline=None)
@given(
    mask_init=st.sampled_from(["random", "nmf"]),
    grow=st.sampled_from(["random", "last-batch", "accumulated"]),
    backward=st.sampled_from(["dense", "sampled"]),
    fraction=st.floats(0, 1),
    every=st.integers(1, 9),
    a_row=st.integers(1, D),
    seed=st.integers(0, 1 << 40),
)
def test_the_number_of_values_never_changes(
    interactions: Interactions,
    mask_init: str,
    grow: str,
    backward: str,
    fraction: float,
    every: int,
    a_row: int,
    seed: int,
) -> None:
    """Whatever the settings, after every step; values stand in order, and every row keeps one."""
    n = interactions.n_users + interactions.n_items
    plan = plan_for(
        interactions,
        counts=(a_row * n,),
        mask_init=mask_init,
        grow=grow,
        backward=backward,
        fraction=fraction,
        every=every,
    )
    trainer = trainer_for(interactions, plan, seed=seed)
    counted, step = [], trainer.table.step

    def watched(*args: Any, **wanted: Any) -> None:
        step(*args, **wanted)
        counted.append(trainer.table.values.size)

    trainer.table.step = watched  # type: ignore[method-assign]
    trainer.epoch()
    table = trainer.table
    assert set(counted) == {a_row * n}
    arrays = (table.values, table.columns, table.first, table.second)
    assert {array.size for array in arrays} == {a_row * n} == {int(table.pointers[-1])}
    assert np.diff(table.pointers).min() >= 1
    SparseTable(table.values, table.columns, table.pointers, D)
    assert trainer.accumulator is None or trainer.accumulator.sums.size <= table.values.size


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 30), d=st.integers(2, 20), seed=st.integers(0, 1 << 30), share=st.floats(0, 1))
def test_replacing_moves_nothing_else(n: int, d: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    mask = drawn_mask(n, d, n + int(share * (n * d - n)), seed)
    table = table_of(mask, seed)
    before = {name: np.zeros((n, d), np.float32) for name in ("values", "first", "second")}
    for name, full in before.items():
        full[mask] = getattr(table, name)
    rows, columns = at_random(table, 0, n, int(rng.integers(0, n * d)), rng)
    dropped = weakest(table, 0, n, rows.size)
    rows, columns = rows[: dropped.size], columns[: dropped.size]
    gone = np.nonzero(mask)[0][dropped], np.nonzero(mask)[1][dropped]
    assert not mask[rows, columns].any()
    table.replace(dropped, rows, columns)
    mask[gone], mask[rows, columns] = False, True
    assert np.array_equal(active_at(table.columns, table.pointers, table.d, np.arange(n)), mask)
    for name, full in before.items():
        full[gone] = 0
        assert np.array_equal(getattr(table, name), full[mask])


def test_the_weakest_go_and_every_row_keeps_its_largest() -> None:
    mask = drawn_mask(40, 6, 120)
    table = table_of(mask)
    full = np.abs(table.rows(np.arange(40)))
    best = np.zeros_like(mask)
    best[np.arange(40), full.argmax(1)] = True
    expected = np.sort(full[mask & ~best])[:30]
    assert np.array_equal(np.sort(np.abs(table.values[weakest(table, 0, 40, 30)])), expected)
    assert weakest(table, 0, 40, 1000).size == 80


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=40), data=st.data())
def test_the_most_are_the_largest_and_of_equals_the_first(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(sizes)))
    expected = sorted(range(len(sizes)), key=lambda n: (-sizes[n], n))[:count]
    assert np.flatnonzero(most(np.array(sizes), count)).tolist() == sorted(expected)


def test_sums_are_of_inactive_values_and_keep_the_strongest() -> None:
    """With a slot for every value nothing is forgotten; with fewer, each row's strongest stay."""
    rng = np.random.default_rng(0)
    mask = drawn_mask(20, 6, 40)
    table = table_of(mask)
    whole, some = Accumulator(20, 6, 6), Accumulator(20, 6, 2)
    expected = np.zeros((20, 6), np.float32)
    for _ in range(5):
        rows = np.sort(rng.choice(20, 8, replace=False))
        gradients = rng.standard_normal((8, 6), np.float32)
        for accumulator in (whole, some):
            accumulator.add(table, rows, 0, gradients)
        expected[rows] += np.where(mask[rows], 0, gradients)
    rows, columns = whole.strongest(0, 20, 7)
    found = np.zeros_like(mask)
    found[rows, columns] = True
    assert np.array_equal(found, most(np.abs(expected).reshape(-1), 7).reshape(mask.shape))
    assert not mask[some.strongest(0, 20, 99)].any()
    assert np.bincount(some.strongest(0, 20, 99)[0]).max() <= 2
    one = Accumulator(20, 6, 2)
    gradients = rng.standard_normal((20, 6), np.float32)
    one.add(table, np.arange(20), 0, gradients)
    strongest = np.sort(np.abs(np.where(mask, 0, gradients)), axis=1)[:, -2:]
    assert np.allclose(np.sort(np.abs(one.sums), axis=1), strongest)


def test_a_row_may_grow_by_more_than_its_share_of_the_budget(interactions: Interactions) -> None:
    """By the last batch, which says wherever its gradients are largest."""
    n = interactions.n_users + interactions.n_items
    trainer = trainer_for(interactions, plan_for(interactions, counts=(2 * n,), grow="last-batch", fraction=0.5))
    grown: list[int] = []
    replaced = trainer.table.replace

    def watched(dropped: Any, rows: Any, columns: Any) -> None:
        grown.append(int(np.bincount(rows).max()))
        replaced(dropped, rows, columns)

    trainer.table.replace = watched  # type: ignore[method-assign]
    trainer.epoch()
    assert max(grown) > 2


@given(slots=st.integers(1, 24), width=st.integers(1, 24), seed=st.integers(0, 1 << 32))
def test_what_grows_does_not_depend_on_the_parts_that_gradients_come_in(slots: int, width: int, seed: int) -> None:
    """Of a step whose gradients come a few dimensions at a time the same sums are kept as of one that has them all, and
    the same gradients are the strongest, which are those of all inactive values, wherever they stand."""
    rng = np.random.default_rng(seed)
    n, d, bounds, counts = 20, 24, ((0, 8), (8, 20)), (5, 30)
    mask = drawn_mask(n, d, 60)
    table = table_of(mask)
    whole, parted = Accumulator(n, d, slots), Accumulator(n, d, slots)
    for _ in range(4):
        rows = np.sort(rng.choice(n, 15, replace=False))
        gradients = rng.standard_normal((15, d), np.float32)
        once, last = LastBatch(bounds, counts, d), LastBatch(bounds, counts, d)
        for of_all in (whole, once):
            of_all.add(table, rows, 0, gradients)
        for of_part in (parted, last):
            for start in range(0, d, width):
                of_part.add(table, rows, start, gradients[:, start : start + width])
        assert np.allclose(spread(whole, d), spread(parted, d))
        assert np.diff(np.sort(parted.columns.astype(int), axis=1), axis=1).min(initial=1) > 0
        sizes = np.zeros((n, d), np.float32)
        sizes[rows] = np.abs(np.where(mask[rows], 0, gradients))
        for (start, stop), count in zip(bounds, counts, strict=True):
            found = np.zeros_like(mask)
            found[last.strongest(start, stop, count)] = True
            again = once.strongest(start, stop, count)
            assert found[again].all()
            assert found.sum() == again[0].size == min(count, np.count_nonzero(sizes[start:stop]))
            assert sizes[found].min() >= np.where(found, 0, sizes)[start:stop].max()


def spread(accumulator: Accumulator, d: int) -> Floats:
    """(n_rows, d) the sums where they belong."""
    found = np.zeros((accumulator.sums.shape[0], d), np.float32)
    np.put_along_axis(found, accumulator.columns.astype(np.int64), accumulator.sums, 1)
    return found


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_each_table_keeps_its_share(method: str, interactions: Interactions) -> None:
    wanted: dict[str, Any] = {"backbone": "mf", "dimensions": D, **vars(OPTIONS), "budget": "50%"}
    run = train(interactions, method=method, method_settings={"user_share": 0.7, "fraction": 0.2}, **wanted)
    assert run.users is not None
    assert run.users.n_values <= 1400
    assert run.items.n_values <= 600
    assert run.users.n_values > 2 * run.items.n_values


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize("method", METHODS)
def test_stopped_at_any_epoch_it_ends_as_if_it_was_not(
    method: str, backbone: str, interactions: Interactions, tmp_path: Path
) -> None:
    request = TrainRequest.make(backbone, method, budget="50%", dimensions=D, **vars(OPTIONS))
    steps: list[Step] = []
    whole = train_request(interactions, request, progress=steps.append)
    assert [step.epoch for step in steps if step.phase == "choose"] == list(range(1, (OPTIONS.max_epochs or 0) + 1))
    resumes_to_the_bit(interactions, request, whole, steps, tmp_path)


def test_a_resumed_trainer_has_all_that_it_had(interactions: Interactions) -> None:
    """Mask, values, moments, sums and importances, to the bit."""
    plan = plan_for(interactions, every=1000)
    went_on, resumed = trainer_for(interactions, plan), trainer_for(interactions, plan, seed=0)
    went_on.epoch()
    assert went_on.accumulator is not None
    assert went_on.accumulator.sums.any()
    resumed.restore(went_on.state())
    for trainer in (went_on, resumed):
        trainer.epoch()
    mine, theirs = went_on.state(), resumed.state()
    assert mine.keys() == theirs.keys() >= {"values", "columns", "pointers", "first", "second", "sums", "importance"}
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_what_it_stores_is_about_its_budget(tmp_path: Path, interactions: Interactions) -> None:
    """At 10 % of the values, a byte each for its column and 4 a row come on top."""
    sizes = {}
    for method, budget in (("dense", None), *((name, "10%") for name in METHODS)):
        out = tmp_path / method
        train(interactions, backbone="mf", method=method, budget=budget, dimensions=64, **vars(OPTIONS), out=out)
        sizes[method] = sum((out / f"{side}.npz").stat().st_size for side in ("items", "users"))
    for method in METHODS:
        run = Run.load(tmp_path / method)
        assert all(isinstance(table, SparseTable) for table in tables_of(run))
        assert sum(table.n_values for table in tables_of(run)) <= 3200
        assert sizes[method] < 0.17 * sizes["dense"]


def test_what_cannot_be_is_refused(interactions: Interactions) -> None:
    wanted: dict[str, Any] = {"backbone": "mf", "dimensions": D, **vars(OPTIONS)}
    with pytest.raises(BudgetError, match="smallest budget is"):
        train(interactions, method="rigl", budget="5%", **wanted)
    with pytest.raises(BudgetError, match="--budget"):
        train(interactions, method="set", **wanted)
    with pytest.raises(SettingError, match="fraction"):
        train(interactions, method="set", budget="50%", method_settings={"fraction": 1.5}, **wanted)
    with pytest.raises(SettingError, match="random, last-batch, accumulated"):
        train(interactions, method="sparserec", budget="50%", method_settings={"grow": "never"}, **wanted)
    with pytest.raises(SettingError, match="one of random, nmf"):
        SparseRecConfig(mask_init=None)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="lightgcn, mf"):
        train(interactions, method="sparserec", backbone="svd", budget="50%")
    with pytest.raises(UnsupportedError, match="CPU"):
        train(interactions, method="rigl", backbone="mf", budget="50%", device="cuda")
