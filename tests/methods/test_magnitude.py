"""Magnitude pruning as a method: what it keeps, what it counts, what it stores, and that it can be stopped anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import TrainRequest, train, train_request
from edgerec.budget import bundle_overhead
from edgerec.budget.budget import BLOCK_OVERHEAD
from edgerec.data import Interactions
from edgerec.errors import BudgetError, SettingError
from edgerec.methods.magnitude import Magnitude, prune
from edgerec.tables import SparseTable, Table
from edgerec.training import Run, Step
from edgerec.tune import tune
from tests.conftest import CommandLine
from tests.methods.stops import StoppedError, stop_after

DATA = "synthetic:300x200x9000"
WANTED: dict[str, Any] = {
    "method": "magnitude",
    "dimensions": 8,
    "seed": 3,
    "threads": 1,
    "max_epochs": 4,
}


def tables_of(run: Run) -> list[Table]:
    return [run.items, *([run.users] if run.users is not None else [])]


def same(a: Run, b: Run) -> bool:
    """To the bit."""
    pairs = zip(tables_of(a), tables_of(b), strict=True)
    return all(np.array_equal(s.dense(), t.dense()) for s, t in pairs) and (a.config, a.metrics, a.history) == (
        b.config,
        b.metrics,
        b.history,
    )


def resumes_to_the_bit(
    interactions: Interactions, request: TrainRequest, whole: Run, steps: Sequence[Step], folder: Path
) -> None:
    """Stopped after any of its steps and resumed, a run is the whole one, and leaves no checkpoint."""
    for number in range(len(steps)):
        out = folder / str(number)
        with pytest.raises(StoppedError):
            train_request(interactions, request, out=out, progress=stop_after(number))
        assert same(train_request(interactions, request, out=out, resume=True), whole)
        assert not list(out.glob("checkpoint*"))


@pytest.mark.slow
@pytest.mark.parametrize("split", ["random:80/20", "random:50/25/25"])
@pytest.mark.parametrize("backbone", sorted(Magnitude.backbones))
def test_it_is_the_dense_run_without_its_smallest_values(backbone: str, split: str, interactions: Interactions) -> None:
    """Trained on all of train where the split says so, and pruned with what was found before."""
    wanted = {**WANTED, "backbone": backbone, "split": split}
    run = train(interactions, budget="25%", **wanted)
    whole = train(interactions, **{**wanted, "method": "dense"})
    chosen = run.method_settings
    for table, full, setting in zip(
        tables_of(run), tables_of(whole), ("item_protected", "user_protected"), strict=False
    ):
        assert isinstance(table, SparseTable)
        assert np.array_equal(table.dense(), prune(full.dense(), full.n_rows * 2, chosen[setting]))
    assert run.config["epochs"] == whole.config["epochs"]
    assert run.config["chosen_settings"] == whole.config["chosen_settings"]


@pytest.mark.parametrize("backbone", ["ials", "svd"])
def test_a_whole_budget_prunes_nothing(backbone: str, interactions: Interactions) -> None:
    """On validation too, where the vectors are those that know nothing of it."""
    wanted = {**WANTED, "backbone": backbone}
    run = train(interactions, budget="100%", **wanted)
    whole = train(interactions, **{**wanted, "method": "dense"})
    assert run.metrics["validation"] == whole.metrics["validation"]
    assert run.metrics["test"] == pytest.approx(whole.metrics["test"], abs=1e-9)


def test_the_protection_is_the_best_that_was_tried(interactions: Interactions) -> None:
    run = train(interactions, budget="50%", **WANTED)
    for setting in ("item_protected", "user_protected"):
        tries = {entry[setting]: entry["ndcg@20"] for entry in run.history if setting in entry}
        assert set(tries) <= set(range(5))
        best = max(tries.values())
        assert run.method_settings[setting] == min(k for k, score in tries.items() if score == best)
    # The last search saw both tables pruned, as the validation metrics do.
    assert run.metrics["validation"]["ndcg@20"] == best


def test_a_fixed_protection_is_not_searched(interactions: Interactions) -> None:
    settings = {"item_protected": 2, "user_protected": 0, "user_share": 0.4}
    run = train(interactions, budget="50%", method_settings=settings, **WANTED)
    assert run.method_settings == settings
    assert "prune" not in {entry["phase"] for entry in run.history}
    assert run.items.sizes().min() >= 2
    assert run.users is not None
    assert run.users.n_values == 800
    assert run.items.n_values == 1200


def test_without_a_validation_part_no_row_is_emptied() -> None:
    """Two interactions a user: one trains, one tests."""
    users, order = np.divmod(np.arange(80), 2)
    few = Interactions.from_pairs(users, (users + 7 * order) % 40, timestamps=order)
    wanted = {**WANTED, "split": "leave-last-out"}
    run = train(few, budget="25%", **wanted)
    assert run.method_settings == {"item_protected": 1, "user_protected": 1, "user_share": None}
    assert "validation" not in run.metrics
    whole = train(few, **{**wanted, "method": "dense"})
    for table, full in zip(tables_of(run), tables_of(whole), strict=True):
        assert np.array_equal(table.sizes() > 0, full.dense().any(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["ials", "svd"])
@pytest.mark.parametrize(("precision", "dimensions"), [("fp32", 8), ("fp32", 64), ("int8", 64)])
@pytest.mark.parametrize("budget", ["15KiB", "17B/row"])
def test_a_budget_in_bytes_pays_for_positions(
    budget: str, precision: str, dimensions: int, backbone: str, interactions: Interactions
) -> None:
    """What is bought fits, as CSR or as bitmasks, and a value more would not."""
    wanted = {**WANTED, "backbone": backbone, "precision": precision, "dimensions": dimensions}
    tables = tables_of(train(interactions, budget=budget, **wanted))
    rows, values = (sum(getattr(table, name) for table in tables) for name in ("n_rows", "n_values"))
    users = interactions.user_ids if backbone == "ials" else None
    reserved = bundle_overhead(interactions.item_ids, users, precision) + 2 * BLOCK_OVERHEAD
    limit = 17 * rows if budget == "17B/row" else 15 * 1024 - reserved
    of_value = 4 if precision == "fp32" else 1

    def needed(count: int) -> int:
        csr = count * (of_value + 1) + 4 * (rows + len(tables))
        return min(csr, count * of_value + rows * dimensions // 8)

    assert needed(values) <= limit < needed(values + 1)


def test_a_tenth_is_a_tenth_of_the_values_and_where_they_stand(interactions: Interactions, tmp_path: Path) -> None:
    """One byte a column and four a row, in the file too."""
    run = train(interactions, budget="10%", out=tmp_path, **{**WANTED, "dimensions": 64})
    tables = tables_of(run)
    rows = sum(table.n_rows for table in tables)
    assert sum(table.n_values for table in tables) == rows * 64 // 10
    dense = rows * 64 * 4
    expected = dense / 10 * (1 + 1 / 4) + 4 * (rows + 2)
    assert run.nbytes == pytest.approx(expected, abs=8)
    stored = sum((tmp_path / f"{side}.npz").stat().st_size for side in ("items", "users"))
    assert run.nbytes < stored < run.nbytes + 2 * 1300
    again = Run.load(tmp_path)
    assert same(run, again)
    assert all(isinstance(table, SparseTable) for table in tables_of(again))
    assert run.items.arrays()["columns"].dtype == np.uint8


def test_budgets_that_cannot_be_kept_are_refused_before_training(interactions: Interactions) -> None:
    def never(step: Step) -> None:
        raise AssertionError("nothing should train")

    wanted = {**WANTED, "progress": never}
    for budget in ("4B/row", "9KiB", "10%"):
        with pytest.raises(BudgetError, match="smallest budget is") as caught:
            train(interactions, budget=budget, **wanted)
        smallest = str(caught.value).rpartition(" is ")[2]
        assert all(
            table.n_values >= table.n_rows for table in tables_of(train(interactions, budget=smallest, **WANTED))
        )
    with pytest.raises(BudgetError, match="at most 2"):
        train(interactions, budget="25%", method_settings={"item_protected": 3}, **wanted)
    with pytest.raises(BudgetError, match="user_share"):
        train(interactions, budget="25%", method_settings={"user_share": 1.0}, **wanted)
    with pytest.raises(SettingError, match="user_protected"):
        train(interactions, budget="25%", method_settings={"user_protected": -1}, **wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "split", "settings"),
    [
        ("ials", "random:80/20", {"alpha": 1.0}),
        ("svd", "random:50/25/25", {"a": 0.4, "b": 0.4, "c": 0.0, "steps": 8}),
    ],
)
def test_stopped_at_any_step_it_ends_as_if_it_was_not(
    backbone: str, split: str, settings: dict[str, float], interactions: Interactions, tmp_path: Path
) -> None:
    """One setting is open, so that its trials are steps too."""
    request = TrainRequest.make(backbone, budget="50%", split=split, settings=settings, **WANTED)
    steps: list[Step] = []
    whole = train_request(interactions, request, progress=steps.append)
    assert steps[-1].phase == "prune"
    resumes_to_the_bit(interactions, request, whole, steps, tmp_path)


def test_it_is_tuned_by_what_is_left_of_it(interactions: Interactions) -> None:
    study = tune(interactions, trials=2, budget="25%", **WANTED)
    run = train(interactions, budget="25%", **WANTED)
    assert study.trials[0].score == run.metrics["validation"]["ndcg@20"]
    assert study.trials[1].values["method_settings.user_share"] is not None


@pytest.mark.slow
def test_the_whole_path_from_the_command_line(tmp_path: Path, command_line: CommandLine) -> None:
    arguments = ("train", DATA, "--method", "magnitude", "--budget", "10%", "--dimensions", "32", "--out", "run")
    trained = command_line(*arguments, "--json", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    told = json.loads(trained.stdout)
    assert {"item_protected", "user_protected"} <= told["method settings"].keys()
    measured = command_line("evaluate", "run", "--data", DATA, "--json", cwd=tmp_path)
    assert json.loads(measured.stdout)[0]["ndcg@20"] == pytest.approx(told["metrics"]["test"]["ndcg@20"], abs=1e-6)
    inspected = json.loads(command_line("inspect", "run", "--json", cwd=tmp_path).stdout)
    assert inspected["items"]["kind"] == inspected["users"]["kind"] == "sparse"
    assert inspected["method settings"] == told["method settings"]
    exported = command_line(
        "export", "run", "--out", "bundle", "--layout", "ell", "--precision", "int8", "--json", cwd=tmp_path
    )
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["bytes"] < 0.4 * 4 * 32 * (
        inspected["items"]["rows"] + inspected["users"]["rows"]
    )
