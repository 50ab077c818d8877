"""CIESS stopped at any point, between evaluations and inside one, ends as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import TrainRequest, train_request
from edgerec.budget import Budget
from edgerec.data import Interactions
from edgerec.errors import RunError
from edgerec.methods.search.evaluator import SizeEvaluator
from edgerec.methods.search.history import FILE_NAME, read_history
from edgerec.training import Checkpoint, Run, Snapshot, Step
from tests.methods.search.test_ciess import SPLIT, request
from tests.methods.stops import StoppedError, stop_after


def same(a: Run, b: Run) -> bool:
    """To the bit."""
    assert a.users is not None
    assert b.users is not None
    return (
        np.array_equal(a.users.dense(), b.users.dense())
        and np.array_equal(a.items.dense(), b.items.dense())
        and (a.config, a.metrics, a.history) == (b.config, b.metrics, b.history)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("parallel_episodes", "split"), [(1, SPLIT), (2, "random:80/20")])
def test_stopped_at_any_point_it_ends_as_one_that_was_not(
    parallel_episodes: int, split: str, interactions: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = request(split=split, parallel_episodes=parallel_episodes)
    steps: list[Step] = []
    whole = train_request(interactions, wanted, progress=steps.append)
    assert {step.phase for step in steps} >= {"full", "search", "choose"}
    searching = [key for key in range(len(steps)) if steps[key].phase == "search"]
    for number in (0, searching[1], searching[4], searching[-2], len(steps) - 2):
        out = tmp_path / str(number)
        with pytest.raises(StoppedError):
            train_request(interactions, wanted, out=out, progress=stop_after(number))
        assert same(train_request(interactions, wanted, out=out, resume=True), whole)
        evaluation = [entry for entry in read_history(out / FILE_NAME) if entry["strategy"] != "retrain"]
        assert [entry["iteration"] for entry in evaluation] == list(range(len(evaluation)))
        allowed = Budget.parse("20%").values(500, 16) / (500 * 16)
        assert [entry["within"] for entry in evaluation] == [
            entry["density"] <= allowed + 1e-12 for entry in evaluation
        ]

    # And inside an evaluation.
    out, evaluator = tmp_path / "inside", SizeEvaluator.each
    calls = iter(range(3))

    def dying(self: SizeEvaluator, plans: Any) -> Any:
        if next(calls, None) is None:
            raise StoppedError
        return evaluator(self, plans)

    monkeypatch.setattr(SizeEvaluator, "each", dying)
    with pytest.raises(StoppedError):
        train_request(interactions, wanted, out=out)
    monkeypatch.undo()
    assert same(train_request(interactions, wanted, out=out, resume=True), whole)


def test_stopped_with_a_search_that_was_there_it_goes_on(interactions: Interactions, tmp_path: Path) -> None:
    """Before any evaluation; with another command it does not."""
    shared = {"search": str(tmp_path / "searches"), "budgets": "20%,10%"}
    wanted = request(**shared)
    whole = train_request(interactions, wanted)

    def stop(step: Step) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train_request(interactions, wanted, out=tmp_path / "run", progress=stop)
    with pytest.raises(RunError, match="another command"):
        train_request(interactions, request("10%", **shared), out=tmp_path / "run", resume=True)
    assert same(train_request(interactions, wanted, out=tmp_path / "run", resume=True), whole)


def stopped_in_the_search(interactions: Interactions, wanted: TrainRequest, out: Path) -> None:
    """After five of six visits."""

    def stop(step: Step) -> None:
        if step.phase == "search" and step.epoch == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_request(interactions, wanted, out=out, progress=stop)


def test_visits_are_appended_and_networks_are_stored_now_and_then(
    interactions: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgerec.methods.ciess.search._NETWORKS_EVERY", 2)
    wanted, saved, save = request(memory=2), list[str](), Checkpoint.save

    def counted(self: Checkpoint, snapshot: Snapshot) -> None:
        saved.append(self.path.name)
        save(self, snapshot)

    monkeypatch.setattr(Checkpoint, "save", counted)
    stopped_in_the_search(interactions, wanted, tmp_path)
    assert saved.count("checkpoint-1.npz") == 2
    parts = [path.stat().st_size for path in sorted((tmp_path / "search").glob("visits-*.npz"))]
    assert len(parts) == 5
    assert np.ptp(parts) < 100  # digits of figures
    assert same(train_request(interactions, wanted, out=tmp_path, resume=True), train_request(interactions, wanted))


def test_a_search_of_an_older_version_is_refused(
    interactions: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgerec.methods.ciess.search._NETWORKS_EVERY", 2)
    stopped_in_the_search(interactions, request(), tmp_path)
    path = tmp_path / "search" / "checkpoint-1.npz"
    with np.load(path) as file:
        arrays = dict(file)
    key = json.loads(arrays["loop"].tobytes())["key"]
    np.savez(path, **{**arrays, "loop": np.frombuffer(json.dumps({"key": key, "loop": {}}).encode(), np.uint8)})
    with pytest.raises(RunError, match="older EdgeRec"):
        train_request(interactions, request(), out=tmp_path, resume=True)


def test_missing_visits_are_found(interactions: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_in_the_search(interactions, request(), tmp_path)
    (tmp_path / "search" / "visits-000002.npz").unlink()
    with pytest.raises(RunError, match=r"visits-000003\.npz is damaged"):
        train_request(interactions, request(), out=tmp_path, resume=True)
