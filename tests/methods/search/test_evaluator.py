"""The evaluator: eval as in the papers, trainings from the full model or from scratch, nothing evaluated twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgerec.data import Interactions, SplitSpec, evaluate_vectors
from edgerec.data.split import Split
from edgerec.errors import DataError, RunError
from edgerec.methods import Job
from edgerec.methods.search import evaluator as evaluating
from edgerec.methods.search.evaluator import SizeEvaluator, eval_of, evaluation_of, halves, warm_state
from edgerec.models import SizePlan, Vectors, backbone
from edgerec.models.base import prefix_mask
from edgerec.training import Step
from tests.methods.search.conftest import MakeJob

BACKBONES = ("ials", "lightgcn", "mf", "ncf", "ngcf")


def plans(job: Job, n: int = 3, seed: int = 0) -> list[SizePlan]:
    rng = np.random.default_rng(seed)
    return [SizePlan(job.d, *(rng.integers(1, job.d, size) for size in job.train.shape)) for _ in range(n)]


def tiny(train: list[list[int]], validation: list[list[int]], n_items: int) -> Split:
    """A split of users' items by row."""

    def part(lists: list[list[int]]) -> Interactions:
        pointers = np.cumsum([0, *map(len, lists)])
        items = np.array([item for row in lists for item in row], np.int32)
        return Interactions(np.arange(len(lists)), np.arange(n_items), pointers, items)

    nothing = part([[] for _ in train])
    return Split(part(train), part(validation), nothing, SplitSpec("random", (0.5, 0.25, 0.25)))


def test_eval_is_the_mean_of_recall_and_ndcg_at_5_10_and_20() -> None:
    """One user's only positive stands first, another's seventh, a third has none and a fourth's are all found."""
    split = tiny([[0], [0], [0], [0]], [[1], [7], [], [1, 2]], 30)
    users = np.ones((4, 1), np.float32)
    items = -np.arange(30, dtype=np.float32)[:, None]
    found = evaluation_of(split, Vectors(users, items), 1).users
    seventh = 1 / np.log2(8)
    assert found[[0, 1, 3]] == pytest.approx([1.0, np.mean([0, (1 + seventh) / 2, (1 + seventh) / 2]), 1.0])
    assert np.isnan(found[2])
    assert evaluation_of(split, Vectors(users, items), 1).mean == pytest.approx(found[[0, 1, 3]].mean())


def test_eval_is_told_of_both_halves_too() -> None:
    """Each interaction is in one of them, and what ranks is the same."""
    split = tiny([[0], [0], [0]], [[1, 2, 29], [], [3]], 30)
    assert [part.indices.tolist() for part in halves(split.validation)] == [[1, 29], [2, 3]]
    users, items = np.ones((3, 1), np.float32), -np.arange(30, dtype=np.float32)[:, None]
    whole, first, second = evaluation_of(split, Vectors(users, items), 1).evals
    # The item 29 stands last, 1 first, 2 second and 3 third.
    found = (1 / 2 + 1 / (1 + 1 / np.log2(3))) / 2
    second_and_third = [(1 + 1 / np.log2(3)) / 2, (1 + 1 / np.log2(4)) / 2]
    assert first[0] == pytest.approx(found)
    assert second[[0, 2]] == pytest.approx(second_and_third)
    assert np.isnan(first[[1, 2]]).all()
    assert np.isnan([whole[1], second[1]]).all()
    assert whole[2] == second[2]


def test_its_mean_is_that_of_the_metrics(make_job: MakeJob) -> None:
    job = make_job()
    rng = np.random.default_rng(0)
    vectors = Vectors(*(rng.standard_normal((n, 4), np.float32) for n in job.train.shape))
    metrics = evaluate_vectors(vectors.users, vectors.items, job.split.train, job.split.validation)
    assert evaluation_of(job.split, vectors, 1).mean == pytest.approx(float(eval_of(metrics)), abs=1e-6)


def test_vectors_that_diverged_are_worth_nothing(make_job: MakeJob) -> None:
    job = make_job()
    vectors = Vectors(*(np.full((n, 4), np.nan, np.float32) for n in job.train.shape))
    assert evaluation_of(job.split, vectors, 1).mean == 0


@pytest.mark.parametrize("name", BACKBONES)
def test_full_sizes_without_training_are_worth_as_much_as_the_full_model(name: str, make_job: MakeJob) -> None:
    """A fine-tuning begins with the tables of the full model."""
    job = make_job(name)
    with SizeEvaluator(job, "fine-tune", epochs=0) as evaluator:
        full = evaluator.full()
        (same,) = evaluator.evaluate([SizePlan(job.d, *(np.full(n, job.d) for n in job.train.shape))])
    assert np.allclose(same.users, full.users, atol=0.02, equal_nan=True)
    assert same.mean == pytest.approx(full.mean, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "mask_at"), [*((name, None) for name in BACKBONES), ("lightgcn", "ego"), ("ngcf", "ego")]
)
def test_a_warm_state_is_the_full_ones_cut_to_its_sizes(name: str, mask_at: str | None, make_job: MakeJob) -> None:
    job = make_job(name, settings={"mask_at": mask_at} if mask_at else None)
    (plan,) = plans(job, 1)
    model, train = backbone(name), job.split.train
    full = model.trainer(train, SizePlan(job.d), job.config, seed=0, threads=1)
    full.epoch()
    fresh = model.trainer(train, plan, job.config, seed=1, threads=1)
    state = warm_state(fresh.state(), full.state(), plan, train, job.config)
    assert set(state) == set(fresh.state())
    assert not any(".exp_avg" in array for array in state)
    fresh.restore(state)
    fresh.epoch()
    vectors = fresh.vectors()
    assert plan.users is not None
    assert plan.items is not None
    for rows, sizes in ((vectors.users, plan.users), (vectors.items, plan.items)):
        assert not rows[~prefix_mask(sizes, job.d)].any()
    if name in ("ials", "mf"):
        inside = prefix_mask(plan.items, job.d)
        assert np.array_equal(state["items"][inside], full.state()["items"][inside])


def test_neumfs_branches_move_together(make_job: MakeJob) -> None:
    """Products and perceptron of few dimensions score as the full ones do whose dimensions they are."""
    job = make_job("ncf")
    model, train = backbone("ncf"), job.split.train
    full = model.trainer(train, SizePlan(16), job.config, seed=0, threads=1)
    full.epoch()
    plan = SizePlan(16, *(np.full(n, 6) for n in train.shape))
    small = model.trainer(train, plan, job.config, seed=1, threads=1)
    state = warm_state(small.state(), full.state(), plan, train, job.config)
    small.restore(state)
    whole, cut = full.vectors(), small.vectors()
    assert whole.scorer is not None
    assert cut.scorer is not None
    products, kept = whole.scorer.gmf.size, cut.scorer.gmf.size
    assert (products, kept) == (12, 4)
    left = [*range(kept), *range(products, products + 2)]

    def only(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(np.isin(np.arange(16), left), rows, np.float32(0))

    expected = whole.scorer.scores(only(whole.users), only(whole.items))
    assert np.allclose(cut.scorer.scores(cut.users, cut.items), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "mask_at"), [("ials", None), ("lightgcn", None), ("lightgcn", "ego"), ("ngcf", "ego")]
)
def test_a_fresh_training_is_that_of_the_backbone(name: str, mask_at: str | None, make_job: MakeJob) -> None:
    """Singular vectors are computed once for all, and change nothing by it."""
    job = make_job(name, settings={"mask_at": mask_at} if mask_at else None)
    (plan,) = plans(job, 1)
    with SizeEvaluator(job, "fresh", epochs=2) as evaluator:
        (one,) = evaluator.evaluate([plan])
    trainer = backbone(name).trainer(job.split.train, plan, job.config, seed=job.seed, threads=1)
    for _ in range(2):
        trainer.epoch()
    expected = evaluation_of(job.split, trainer.vectors().with_history(job.split.train), 1)
    assert np.array_equal(one.users, expected.users, equal_nan=True)


@pytest.mark.slow
def test_workers_judge_as_this_process_does(make_job: MakeJob) -> None:
    """A training on one thread, here and there, to the bit."""
    job = make_job("mf")
    wanted = plans(job)
    with (
        SizeEvaluator(job, "fresh", epochs=2) as alone,
        SizeEvaluator(replace(job, workers=2), "fresh", epochs=2) as many,
    ):
        here, there = (evaluator.evaluate(wanted) for evaluator in (alone, many))
    assert all(np.array_equal(a.users, b.users, equal_nan=True) for a, b in zip(here, there, strict=True))
    assert len({a.mean for a in here}) == 3


def test_the_oracle_judges_in_the_backbones_place(make_job: MakeJob) -> None:
    own, swapped = make_job("ials"), make_job("mf", max_epochs=None)
    with (
        SizeEvaluator(replace(own, options=swapped.options), "fresh", epochs=1) as one,
        SizeEvaluator(swapped, "fresh", proxy="ials", epochs=1) as other,
    ):
        assert one.full().mean == other.full().mean
        assert one.evaluate(plans(own))[1].mean == other.evaluate(plans(own))[1].mean


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry a training from now on."""
    made: list[int] = []
    answer = evaluating._answer

    def count(shared: Any, plan: Any) -> Any:
        made.append(1)
        return answer(shared, plan)

    monkeypatch.setattr(evaluating, "_answer", count)
    return made


def test_nothing_is_asked_twice(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    job = make_job(folder=tmp_path)
    wanted = plans(job, 4)
    with SizeEvaluator(job, "fresh", epochs=1) as evaluator:
        before = evaluator.evaluate([*wanted, wanted[0]])
        assert before[4] is before[0]
        assert len(made) == 4
    with SizeEvaluator(
        replace(job, options=replace(job.options, seed=job.options.seed + 1)), "fresh", epochs=1
    ) as evaluator:
        evaluator.evaluate([wanted[0]])  # another seed is another training
        assert len(made) == 5
    next(iter((tmp_path / "search").glob("judged-*"))).write_bytes(b"torn")
    with SizeEvaluator(job, "fresh", epochs=1) as evaluator:
        after = evaluator.evaluate(wanted)
    assert len(made) <= 6
    assert all(np.array_equal(a.users, b.users, equal_nan=True) for a, b in zip(before, after, strict=False))


class KilledError(Exception):
    """Stands for whatever ends a process."""


def test_the_full_model_goes_on_from_its_last_epoch(make_job: MakeJob, tmp_path: Path) -> None:
    whole = SizeEvaluator(make_job("mf"), "fresh").full()
    epochs: list[int] = []

    def stop(step: Step) -> None:
        assert step.phase == "full"
        epochs.append(step.epoch)
        raise KilledError

    for _ in range(4):
        with pytest.raises(KilledError):
            SizeEvaluator(replace(make_job("mf", folder=tmp_path), progress=stop), "fresh").full()
    assert epochs == [1, 2, 3, 4]
    job = replace(make_job("mf", folder=tmp_path), progress=stop)
    assert np.array_equal(SizeEvaluator(job, "fresh").full().users, whole.users, equal_nan=True)
    with pytest.raises(RunError, match="another command"):
        SizeEvaluator(make_job("mf", folder=tmp_path, dimensions=8), "fresh").full()


def test_a_split_that_holds_nothing_back_is_refused(make_job: MakeJob) -> None:
    job = make_job()
    nothing = job.split.validation.select(np.zeros(len(job.split.validation), np.bool_))
    with pytest.raises(DataError, match=r"leaves no validation part to search on; try --split random:60/20/20"):
        SizeEvaluator(replace(job, split=replace(job.split, validation=nothing)), "fresh")
