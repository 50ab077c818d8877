"""What every backbone promises, whichever it is."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from edgerec.data import Interactions
from edgerec.errors import TableError, UnsupportedError
from edgerec.models import BACKBONES, Backbone, SizePlan, Trainer, Vectors, backbone
from edgerec.models.base import prefix_mask


@pytest.fixture(params=BACKBONES)
def model(request: pytest.FixtureRequest) -> Backbone:
    return backbone(request.param)


def plan_for(model: Backbone, sizes: SizePlan) -> SizePlan:
    return sizes if model.user_table else replace(sizes, users=None)


def start(model: Backbone, data: Interactions, sizes: SizePlan, seed: int = 3) -> Trainer:
    return model.trainer(data, plan_for(model, sizes), model.config(), seed=seed, threads=1)


def fit(model: Backbone, data: Interactions, sizes: SizePlan, epochs: int = 3, seed: int = 3) -> Vectors:
    trainer = start(model, data, sizes, seed)
    for _ in range(epochs):
        trainer.epoch()
    return trainer.vectors()


@pytest.mark.slow
def test_left_out_pairs_of_a_checkerboard_are_found(model: Backbone, checkerboard: Any) -> None:
    vectors = fit(model, checkerboard.data, SizePlan(4), epochs=25)
    if vectors.sparse_items is not None and vectors.encoder is not None:
        items = vectors.sparse_items.dense()
        vectors = replace(vectors, users=vectors.encoder.users(checkerboard.data, items), items=items)
    scores = vectors.scorer.scores(vectors.users, vectors.items) if vectors.scorer else vectors.users @ vectors.items.T
    for row, taken, held_out in zip(scores, checkerboard.taken, checkerboard.held_out, strict=True):
        assert row[held_out].min() > row[~taken].max()


def test_shapes_and_dtypes(model: Backbone, random_data: Interactions) -> None:
    vectors = fit(model, random_data, SizePlan(6), epochs=1)
    d = 0 if model.sparse_rows else 6
    assert vectors.users.shape == (random_data.n_users, d)
    assert vectors.items.shape == (random_data.n_items, d)
    if vectors.sparse_items is not None:
        assert vectors.sparse_items.sizes().max() == 6
    assert vectors.users.dtype == vectors.items.dtype == np.float32
    assert (vectors.encoder is None) == model.user_table


def test_more_dimensions_than_users_or_items(model: Backbone, random_data: Interactions) -> None:
    vectors = fit(model, random_data, SizePlan(90), epochs=1)
    assert vectors.items.shape == (random_data.n_items, 0 if model.sparse_rows else 90)
    assert np.isfinite(vectors.users).all()
    assert np.isfinite(vectors.items).all()


def test_values_past_a_size_are_exactly_zero(model: Backbone, random_data: Interactions, uneven: SizePlan) -> None:
    vectors = fit(model, random_data, uneven)
    assert uneven.users is not None
    assert uneven.items is not None
    inside = prefix_mask(uneven.items, 12)
    if vectors.sparse_items is not None:
        assert (vectors.sparse_items.sizes() <= uneven.items).all()
        return
    assert not vectors.items[~inside].any()
    assert np.count_nonzero(vectors.items[inside]) > 0.9 * inside.sum()
    if model.user_table:
        assert not vectors.users[~prefix_mask(uneven.users, 12)].any()


def test_masked_values_stay_zero_in_the_state(model: Backbone, random_data: Interactions, uneven: SizePlan) -> None:
    if model.name in ("svd", "lightgcn", "ngcf", "neighbours"):
        pytest.skip("they keep full rows, or pairs, and cut what they make of them")
    trainer = start(model, random_data, uneven)
    trainer.epoch()
    sizes = uneven.users if model.user_table else uneven.items
    assert sizes is not None
    outside = ~prefix_mask(sizes, 12)
    per_row = [array for array in trainer.state().values() if array.shape == outside.shape]
    assert per_row
    assert not any(array[outside].any() for array in per_row)


def test_the_same_seed_gives_the_same_bits(model: Backbone, random_data: Interactions) -> None:
    one, two = (fit(model, random_data, SizePlan(8)).arrays() for _ in range(2))
    assert {name: array.tobytes() for name, array in one.items()} == {name: two[name].tobytes() for name in two}


def test_another_seed_gives_other_bits(model: Backbone, random_data: Interactions) -> None:
    if model.sparse_rows:
        pytest.skip("it has no random choice")
    one, two = (fit(model, random_data, SizePlan(8), seed=seed) for seed in (0, 1))
    assert one.items.tobytes() != two.items.tobytes()


def test_restore_continues_to_the_same_bits(model: Backbone, random_data: Interactions, uneven: SizePlan) -> None:
    straight, killed = start(model, random_data, uneven), start(model, random_data, uneven)
    for trainer in (straight, killed):
        trainer.epoch()
    state = {name: array.copy() for name, array in killed.state().items()}
    killed.epoch()  # must not reach into what state() handed out
    resumed = start(model, random_data, uneven)
    resumed.restore(state)
    assert resumed.vectors().items.tobytes() == straight.vectors().items.tobytes()
    for _ in range(2):
        assert resumed.epoch() == straight.epoch()
    for name, array in straight.state().items():
        assert array.tobytes() == resumed.state()[name].tobytes(), name


def test_a_state_holds_plain_arrays_of_its_own(model: Backbone, random_data: Interactions) -> None:
    trainer = start(model, random_data, SizePlan(4))
    trainer.epoch()
    before = trainer.state()
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in before.values())
    kept = {name: array.copy() for name, array in before.items()}
    trainer.epoch()
    assert all((before[name] == kept[name]).all() for name in kept)


def test_vectors_are_copies(model: Backbone, random_data: Interactions) -> None:
    trainer = start(model, random_data, SizePlan(4))
    trainer.epoch()
    trainer.vectors().items[:] = 7
    assert not (trainer.vectors().items == 7).any()


def test_every_open_setting_has_values_to_try_and_a_typical_one(model: Backbone) -> None:
    everything_open = model.config(**{f.name: None for f in fields(model.config) if "None" in str(f.type)})
    for config in (model.config(), everything_open):
        axes, closed = model.open_axes(config), model.closed(config)
        assert all(getattr(closed, f.name) is not None for f in fields(closed))
        assert all(getattr(closed, name) in values for name, values in axes.items())
        assert not model.open_axes(closed)
        for name, values in axes.items():
            for value in values:
                replace(closed, **{name: value})


def test_sizes_that_do_not_fit_are_refused(model: Backbone, random_data: Interactions) -> None:
    with pytest.raises(TableError, match=r"50 rows need \(50,\)"):
        model.trainer(random_data, SizePlan(4, None, np.ones(3, np.int64)), model.config(), seed=0)
    with pytest.raises(TableError, match=r"from 5 to 5; they must lie in 1\.\.4"):
        model.trainer(random_data, SizePlan(4, None, np.full(50, 5)), model.config(), seed=0)


def test_an_unknown_device_is_refused(model: Backbone, random_data: Interactions) -> None:
    with pytest.raises(UnsupportedError, match="abacus"):
        model.trainer(random_data, SizePlan(4), model.config(), seed=0, device="abacus")
