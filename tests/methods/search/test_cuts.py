"""BET and CIESS on the SVD: widths and bits within the bytes, resumption, and bundles that answer as evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerec.api import TrainRequest, train, train_request
from edgerec.data import Interactions, metrics_per_user, split, top_k_of_vectors
from edgerec.errors import BudgetError, RunError, UnsupportedError
from edgerec.measure import bundle_rankings, evaluate
from edgerec.methods.bet.cuts import CutAction, CutSampler
from edgerec.methods.ciess.cuts import Tiers
from edgerec.methods.search.cuts import CutEvaluator
from edgerec.methods.search.evaluator import eval_of, halves
from edgerec.methods.search.history import FILE_NAME, RETRAIN, read_history
from edgerec.models.svd import SVDConfig
from edgerec.runtime import Recommender
from edgerec.tables import CodedTable
from edgerec.training import Run, Step
from edgerec_export import export, from_run
from tests.methods.search.conftest import MakeJob
from tests.methods.search.test_bet import entries, same
from tests.methods.stops import StoppedError, stop_after
from tests.methods.test_ahead import AHEAD, planted

QUICK: dict[str, Any] = {"actions": 12, "users": 60, "finalists": 4, "retrain": 2}
AGENTS: dict[str, Any] = {"iterations": 4, "tiers": 6, "updates": 2, "batch": 32, "memory": 5}
WANTED: dict[str, Any] = {
    "backbone": "svd",
    "method": "bet",
    "budget": "4B/row",
    "precision": "auto",
    "dimensions": 16,
    "method_settings": QUICK,
    "seed": 3,
    "threads": 1,
}
PLANTED: dict[str, Any] = {"dimensions": 32, "budget": "2B/row"}


@pytest.fixture(params=["bet", "ciess"])
def wanted(request: pytest.FixtureRequest) -> dict[str, Any]:
    own = {**QUICK, **(AGENTS if request.param == "ciess" else {})}
    return {**WANTED, "method": request.param, "method_settings": own}


def bytes_of(run: Run) -> int:
    assert isinstance(run.items, CodedTable)
    return int((run.items.sizes() * run.items.row_codes.bits).sum()) // 8


@given(st.integers(0, 10_000), st.sampled_from([(8, 4, 2), (4,), (2,), ()]), st.sampled_from([1, 1.5, 4, 9]))
@settings(max_examples=60, deadline=None)
def test_cuts_keep_to_the_bytes_and_follow_popularity(seed: int, bits: tuple[int, ...], mean: float) -> None:
    rng = np.random.default_rng(seed)
    counts, d, n = rng.integers(0, 500, 150), 16, 150
    total = min(int(mean * n), n * (d * bits[0] // 8 if bits else d))
    sampler = CutSampler(counts, d, bits, (total,) * 4, {"power": 0.5, "c": 0.0}, frozenset({"c"}))
    for action in (one := sampler.draw(rng), sampler.near(one, rng), CutAction.from_json({**vars(one)})):
        cut = sampler.cut_of(action)
        assert action.c == 0  # as the user gave it
        sizes = cut.plan.items
        assert sizes is not None
        taken = sizes if cut.bits is None else sizes * cut.bits.astype(int) / 8
        assert np.array_equal(taken, np.rint(taken))  # rows fill whole bytes
        assert taken.sum() <= total
        assert np.unique(taken).size <= action.widths
        assert (np.diff(taken[np.argsort(counts, kind="stable")]) >= 0).all() or (np.diff(np.sort(counts)) == 0).any()
        assert 1 <= sizes.min() <= sizes.max() <= d
        assert cut.bits is None or set(np.unique(cut.bits).tolist()) <= set(bits)


def test_one_decomposition_is_evaluated_as_it_is_trained(make_job: MakeJob, interactions: Interactions) -> None:
    job = make_job("svd", budget="4B/row", precision="auto", settings={"a": 0.4, "b": 0.4, "c": 0.0, "power": 0.5})
    sampler, config = CutSampler.of(job, 4), SVDConfig(0.4, 0.4, 0.0, 0.5)
    evaluator = CutEvaluator(job, config, 1000)
    found = {evaluator.evaluate(sampler.cut_of(sampler.draw(np.random.default_rng(n)))) for n in range(6)}
    assert len(found) > 3
    cut = sampler.cut_of(sampler.draw(np.random.default_rng(1)))
    trainer: Any = cut.start(job)(job.split.train, cut.plan, config, seed=1, threads=1, device="cpu")
    trainer.epoch()
    vectors, second = trainer.vectors(), halves(job.split.validation)[1]
    rows = np.flatnonzero(second.user_counts())
    best = top_k_of_vectors(vectors.users, vectors.items, rows, 20, seen=(job.split.train,))
    assert evaluator.evaluate(cut, 1) == pytest.approx(float(eval_of(metrics_per_user(best, second, rows=rows)).mean()))


def test_the_bundle_answers_as_the_run_is_measured(
    wanted: dict[str, Any], interactions: Interactions, tmp_path: Path
) -> None:
    run = train(interactions, **wanted)
    assert isinstance(run.items, CodedTable)
    assert run.users is None
    assert bytes_of(run) <= 4 * interactions.n_items
    assert bytes_of(run) >= 3.9 * interactions.n_items
    done = export(from_run(run), tmp_path / "b.edgerec", precision="auto", users=False)
    assert done.verification is not None
    parts = split(interactions, TrainRequest.make(**wanted).split)
    users = np.flatnonzero(parts.test.user_counts())
    with Recommender.load(done.folder) as model:
        answers = bundle_rankings(model, parts.train_all, parts.train_all, users, 20)
        order = [interactions.item_ids.tolist().index(item) for item in model.item_ids(range(model.n_items))]
    items, encoder = run.items, run.encoder
    assert encoder is not None
    # Sums of products of codes are exact, and ties go to the first row of the bundle.
    scales = items.row_codes.scales()[order]
    vectors = encoder.users(parts.train_all, items.dense())[users]
    rounded = np.rint(vectors / (np.abs(vectors).max(1, keepdims=True) / np.float32(127)))
    scores = (rounded @ np.rint(items.dense()[order] / scales[:, None]).T).astype(np.float32) * scales
    scores[parts.train_all.matrix().toarray()[users][:, order] > 0] = -np.inf
    expected = np.array(order)[np.argsort(-scores, axis=1, kind="stable")[:, :20]]
    assert np.array_equal(answers, expected)


@pytest.mark.parametrize(("precision", "bits"), [("int4", 4), ("int2", 2), ("int8", 8)])
def test_a_precision_is_that_of_every_row(
    precision: str, bits: int, wanted: dict[str, Any], interactions: Interactions
) -> None:
    run = train(interactions, **{**wanted, "precision": precision, "budget": "25%"})
    assert isinstance(run.items, CodedTable)
    assert np.unique(run.items.row_codes.bits).tolist() == [bits]
    assert run.items.n_values <= 4 * interactions.n_items


def test_a_budget_in_bytes_holds_for_the_bundle(
    wanted: dict[str, Any], interactions: Interactions, tmp_path: Path
) -> None:
    run = train(interactions, **{**wanted, "budget": "20KiB"})
    assert export(from_run(run), tmp_path / "b", precision="auto", users=False).nbytes <= 20 << 10


@pytest.mark.slow
def test_it_is_resumed_to_the_bit_wherever_it_stops(
    wanted: dict[str, Any], interactions: Interactions, tmp_path: Path
) -> None:
    request = TrainRequest.make(**wanted)
    steps: list[Step] = []
    whole = train_request(interactions, request, out=tmp_path / "whole", progress=steps.append)
    search = [number for number, step in enumerate(steps) if step.phase == "search"]
    assert [steps[number].epoch for number in search] == list(range(1, 13))
    for number in (2, search[0], search[7], search[-1], len(steps) - 1):
        out = tmp_path / str(number)
        with pytest.raises(StoppedError):
            train_request(interactions, request, out=out, progress=stop_after(number))
        assert same(train_request(interactions, request, out=out, resume=True), whole)
        assert entries(out) == entries(tmp_path / "whole")
        assert not (out / "search").exists()


def test_one_size_for_all_is_trained_with_the_best(
    wanted: dict[str, Any], interactions: Interactions, tmp_path: Path
) -> None:
    run = train(interactions, **wanted, out=tmp_path)
    full = [entry for entry in read_history(tmp_path / FILE_NAME) if entry["strategy"] == RETRAIN]
    assert len(full) == (2 + 1) + (3 + 1)
    sizes = [entry["action"].get("shares", entry["action"].get("bits")) for entry in full[3:6]]
    assert sizes == ([[1, 1], [0, 1], [0, 0]] if wanted["method"] == "bet" else [8, 4, 2])
    best = max(full, key=lambda entry: entry["eval"])
    chosen = run.config["chosen_settings"]
    assert (chosen["power"], chosen["c"]) == (best["action"]["power"], best["action"]["c"])


@pytest.fixture(scope="module")
def one_size() -> float:
    """The best NDCG@20 of bundles of one size for all on the planted data, in any precision."""
    data, found = planted(), []
    for precision in ("int8", "int4", "int2"):
        run = train(data, **{**WANTED, **PLANTED, "method": "uniform", "precision": precision, "method_settings": {}})
        with TemporaryDirectory() as scratch:
            done = export(from_run(run), Path(scratch) / "b.edgerec", precision=precision, users=False)
            with Recommender.load(done.folder) as model:
                found.append(evaluate(model, data)["ndcg@20"])
    return max(found)


def test_it_is_ahead_of_one_size_where_few_items_need_many_dimensions(wanted: dict[str, Any], one_size: float) -> None:
    settings = {**wanted["method_settings"], "actions": 60, "include_uniform_baseline": False}
    run = train(planted(), **{**wanted, **PLANTED, "method_settings": settings})
    assert run.metrics["test"]["ndcg@20"] > AHEAD * one_size


def test_tiers_hold_items_as_popular_and_lines_lead_from_one_to_the_next() -> None:
    counts = np.random.default_rng(0).zipf(1.5, 500).clip(max=400)
    tiers = Tiers(counts, 8)
    assert tiers.sizes.sum() == 500
    assert (np.diff(tiers.of_items[np.argsort(counts, kind="stable")]) >= 0).all()
    for count in np.unique(counts):
        assert np.unique(tiers.of_items[counts == count]).size == 1
    sizes = tuple(range(1, tiers.sizes.size + 1))
    rows = np.exp(tiers.rows(sizes))
    assert (np.diff(rows[np.argsort(counts, kind="stable")]) >= 0).all()
    assert (rows.min(), rows.max()) == (1, pytest.approx(sizes[-1]))


@pytest.mark.parametrize("cut", [{"action": {"bytes": [1, 2]}}, {"shown": [1.0]}])
def test_a_damaged_history_is_refused(cut: dict[str, Any], interactions: Interactions, tmp_path: Path) -> None:
    request = TrainRequest.make(**{**WANTED, "method": "ciess", "method_settings": {**QUICK, **AGENTS}})

    def stop(step: Step) -> None:
        if step.phase == "search" and step.epoch == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_request(interactions, request, out=tmp_path, progress=stop)
    path = tmp_path / FILE_NAME
    first, *rest = path.read_text().splitlines(keepends=True)
    entry = json.loads(first)
    entry["action"] |= cut.get("action", {})
    path.write_text(json.dumps({**entry, **cut, "action": entry["action"]}) + "\n" + "".join(rest))
    with pytest.raises(RunError, match="damaged"):
        train_request(interactions, request, out=tmp_path, resume=True)


def test_what_cannot_be_is_refused(interactions: Interactions) -> None:
    with pytest.raises(UnsupportedError, match="--method bet or ciess with --backbone svd"):
        TrainRequest.make("svd", "popularity", budget="8B/row", precision="auto")
    for change, error, said in (
        ({"budget": "25%"}, BudgetError, "budget in bytes"),
        ({"budget": "0.5B/row"}, BudgetError, "smallest budget"),
        ({"budget": "10%", "precision": "int2"}, BudgetError, "1B/row"),
    ):
        with pytest.raises(error, match=said):
            train(interactions, **{**WANTED, **change})
