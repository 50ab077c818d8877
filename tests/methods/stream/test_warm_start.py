"""A segment's training: exact solves of the rows that are asked for, from what was kept, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgerec.budget import Budget
from edgerec.data import Stream
from edgerec.errors import SettingError, UnsupportedError
from edgerec.methods.stream.policy import SegmentContext, size_budget
from edgerec.methods.stream.warm_start import PastSegment, StreamTraining
from edgerec.models import SizePlan, Vectors, backbone
from edgerec.models.ials import IALSConfig, IALSRefit, IALSTrainer
from edgerec.models.lightgcn import LightGCNConfig
from tests.methods.stream.conftest import D

CONFIG = IALSConfig(alpha=4.0, reg=1.0)


def training(refit: str = "touched") -> StreamTraining:
    return StreamTraining(backbone("ials"), CONFIG, threads=1, refit=refit)


def plan_of(stream: Stream, number: int, budget: str = "50%") -> SizePlan:
    segment = stream.segment(number)
    return SegmentContext(segment, size_budget(Budget.parse(budget), segment.known, D), None).uniform_sizes()


def test_a_refit_of_all_rows_is_the_trainers_own_epoch(rise_and_fall: Stream) -> None:
    known = rise_and_fall.segment(2).known
    plan = plan_of(rise_and_fall, 2)
    rng = np.random.default_rng(0)
    start = Vectors(*(rng.standard_normal((n, D)).astype(np.float32) for n in known.shape), None, None)  # type: ignore[misc]
    rows = (np.arange(known.n_users), np.arange(known.n_items))
    refit = IALSRefit(known, plan, CONFIG, start, rows, threads=1)
    trainer = IALSTrainer(known, plan, CONFIG, 0, 1)
    trainer.restore(refit.state())
    for _ in range(2):
        refit.epoch()
        trainer.epoch()
    assert refit.vectors().items == pytest.approx(trainer.vectors().items, abs=1e-4)
    assert refit.vectors().users == pytest.approx(trainer.vectors().users, abs=1e-4)


@pytest.mark.parametrize("refit", ["active", "touched", "all"])
def test_rows_that_are_not_asked_for_stay_to_the_bit(rise_and_fall: Stream, refit: str) -> None:
    first, then = rise_and_fall.segment(3), rise_and_fall.segment(4)
    own = training(refit)
    plans = plan_of(rise_and_fall, 3), plan_of(rise_and_fall, 4)
    carry = own.carry_of(own.trained(first, plans[0], None), first, plans[0])
    assert plans[1].users is not None
    plans[1].users[:3] = 2  # three rows that are away have another size
    vectors = own.trained(then, plans[1], carry).vectors()
    places = np.searchsorted(then.known.user_ids, first.known.user_ids)
    kept = np.minimum(carry.users.table.sizes(), plans[1].users[places])
    same = np.array(
        [
            np.array_equal(now[:size], old[:size])
            for now, old, size in zip(vectors.users[places], carry.users.table.dense(), kept, strict=True)
        ]
    )
    active = then.positives.user_counts()[places] > 0
    resized = carry.users.resized(then.known.user_ids, plans[1].users)[places]
    assert 0 < active.sum() < active.size
    assert resized[:3].all()
    asked = {"active": active, "touched": active | resized, "all": np.ones_like(active)}[refit]
    assert same[~asked].all()
    assert not same[asked].any()
    for row, size in zip(vectors.users, plans[1].users, strict=True):
        assert not row[size:].any()


def test_a_rehearsal_is_what_the_segment_would_have_been(rise_and_fall: Stream) -> None:
    segment, own = rise_and_fall.segment(1), training()
    before = rise_and_fall.segment(0)
    first, plan = plan_of(rise_and_fall, 0), plan_of(rise_and_fall, 1)
    carry = own.carry_of(own.trained(before, first, None), before, first)
    vectors = own.trained(segment, plan, carry).vectors()
    metrics = segment.measure(vectors.users, vectors.items, threads=1)
    metric = PastSegment(own, segment, carry).evaluate(plan)
    assert metric.shape == (np.count_nonzero(segment.test.user_counts()),)
    assert metric.mean() == pytest.approx((metrics["recall@20"] + metrics["ndcg@20"]) / 2, abs=1e-12)
    assert metric.mean() > 0.1


def test_a_full_refit_is_a_training_from_the_start(rise_and_fall: Stream) -> None:
    segment, before, own = rise_and_fall.segment(1), rise_and_fall.segment(0), training("full")
    first, plan = plan_of(rise_and_fall, 0), plan_of(rise_and_fall, 1)
    carry = own.carry_of(own.trained(before, first, None), before, first)
    trainer = backbone("ials").trainer(segment.known, plan, CONFIG, seed=0, threads=1)
    trainer.epoch()
    assert np.array_equal(own.trained(segment, plan, carry).vectors().items, trainer.vectors().items)


def test_lightgcn_goes_on_from_its_ego_rows(rise_and_fall: Stream) -> None:
    first, then = rise_and_fall.segment(0), rise_and_fall.segment(1)
    config = LightGCNConfig(layers=2, lr=0.05, horizon=20)
    own = StreamTraining(backbone("lightgcn"), config, threads=1, first=10, following=4)
    plans = plan_of(rise_and_fall, 0), plan_of(rise_and_fall, 1)
    carry = own.carry_of(own.trained(first, plans[0], None), first, plans[0])
    start = own.start(then, carry)(then.known, plans[1], config, seed=0, threads=1, device="cpu")
    at_first = start.state()["ego"]
    places = np.searchsorted(then.known.user_ids, first.known.user_ids)
    kept = np.minimum(carry.users.table.sizes(), plans[1].users[places])  # type: ignore[index]
    for row, old, size in zip(at_first[places], carry.users.table.dense(), kept, strict=True):
        assert np.array_equal(row[:size], old[:size])
    warm, again = (own.trained(then, plans[1], carry).vectors() for _ in range(2))
    assert np.array_equal(warm.items, again.items)  # to the bit
    noise = replace(config, start="normal")
    cold = own.start(then, None)(then.known, plans[1], noise, seed=0, threads=1, device="cpu")
    assert start.epoch()["loss"] < 0.9 * cold.epoch()["loss"]


def test_partial_refits_take_two_passes() -> None:
    assert [training("full").epochs(number) for number in (0, 1)] == [1, 1]
    assert [training("touched").epochs(number) for number in (0, 1)] == [1, 2]
    assert StreamTraining(backbone("ials"), CONFIG, refit="touched", first=3, following=5).epochs(1) == 5


def test_settings_that_only_validation_can_choose_are_typical() -> None:
    assert StreamTraining(backbone("ials"), IALSConfig(reg=5.0)).config == IALSConfig(alpha=3.0, reg=5.0)


def test_what_cannot_follow_a_stream_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="ials, lightgcn"):
        StreamTraining(backbone("svd"), None)
    with pytest.raises(SettingError):
        StreamTraining(backbone("ials"), CONFIG, refit="some")
