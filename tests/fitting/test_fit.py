"""`edgerec fit`: the order of trials, that validation alone decides, and that nothing finished is repeated."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import edgerec
from edgerec.api import train
from edgerec.cli.app import group
from edgerec.data import Interactions, split, synthetic
from edgerec.errors import BenchError, BudgetError, BundleError, DataError, OutputError, RequestError, RunError
from edgerec.fitting import Exported, FitProgress, Fitted, FitTrial, Study, fit, fit_again
from edgerec.measure import evaluate
from edgerec.runtime import Recommender
from edgerec.runtime.patch import apply_patch
from edgerec_export import Source, export, from_run
from tests.conftest import CommandLine, interrupted

DATA = "synthetic:120x80x2400"
SIZE = 14_000


class KilledError(Exception):
    """Stands for whatever ends a process between two steps."""


@pytest.fixture(scope="module")
def data() -> Interactions:
    return edgerec.load_data(DATA)


@pytest.fixture(scope="module")
def done(data: Interactions, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Two recipes: both closed forms."""
    return fit(data, tmp_path_factory.mktemp("fit") / "app.bundle", max_bytes=SIZE, trials=2)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_customers_with_a_few_purchases_are_measured(tmp_path: Path) -> None:
    """Shares of the interactions would test few of them, and none of the rest would decide."""
    whole, rng = synthetic(n_users=400, n_items=60, n=4000, seed=3), np.random.default_rng(0)
    kept = np.concatenate(
        [rng.permutation(np.arange(*whole.indptr[[row, row + 1]]))[: 1 + row % 4] for row in range(whole.n_users)]
    )
    shop = Interactions.from_pairs(whole.user_rows()[kept], whole.indices[kept])
    notes: list[str] = []
    fitted = fit(shop, tmp_path / "a.bundle", max_bytes=SIZE, trials=1, progress=lambda state: notes.append(state.note))
    assert str(fitted.split) == "random:80/20"  # which tests most of those with two purchases or more
    assert fitted.study.command["validation"]["kind"] == "leave-one-out"
    assert (
        "most users have few interactions: random:80/20 measures the result, leave-one-out of the rest decides" in notes
    )
    pairs = shop.user_counts()[shop.user_rows()] < 3
    few = Interactions.from_pairs(shop.user_rows()[pairs], shop.indices[pairs])
    with pytest.raises(DataError, match=r"after leave-one-out no user has two interactions left.*try --split all"):
        fit(few, tmp_path / "b.bundle", max_bytes=SIZE, trials=1)
    timed = replace(few, timestamps=np.arange(len(few)))
    with pytest.raises(DataError, match=r"after leave-last-out no user has two interactions left.*try --split all"):
        fit(timed, tmp_path / "b.bundle", max_bytes=SIZE, trials=1, split="leave-last-out")
    assert fit(few, tmp_path / "b.bundle", max_bytes=SIZE, trials=1, split="all").test is None


def test_the_bundle_is_within_the_size_and_its_answers_are_measured(done: Fitted, data: Interactions) -> None:
    assert done.nbytes == sum(map(len, files(done.out).values())) <= SIZE
    assert done.test == evaluate(Recommender.load(done.out), data)
    study = done.study
    assert done.validation == max(study.mean(number, one) for number, one in study_bundles(study))
    assert {(one.trial, one.split) for one in study.repeats} == {(n, s) for n in (0, 1) for s in (1, 2, 3)}
    assert not done.interrupted


def study_bundles(study: Study) -> list[tuple[int, Exported]]:
    return [(number, one) for number, trial in enumerate(study.trials) for one in trial.bundles]


def test_the_commands_of_the_choice_build_the_same_bundle(done: Fitted, data: Interactions, tmp_path: Path) -> None:
    run = train(data, **done.recipe.train_kwargs(done.limit), split="random:80/20", threads=1)
    how: dict[str, Any] = {"precision": done.variant.precision, "users": done.variant.users}
    export(from_run(run), tmp_path / "b", max_bytes=done.limit, fit=True, **how)
    assert files(tmp_path / "b") == files(done.out)


def test_validation_is_a_part_of_the_training_data_alone(done: Fitted, data: Interactions, tmp_path: Path) -> None:
    """The score is of bundles that never saw the test part: on each split of the rest, and their mean."""
    parts = split(data, "random:80/20")
    how: dict[str, Any] = {"precision": done.variant.precision, "users": done.variant.users}
    scores = []
    for seed in range(4):
        training: dict[str, Any] = {**done.recipe.train_kwargs(SIZE), "split": "random:90/10", "seed": seed}
        run = train(parts.train_all, **training, threads=1)
        export(from_run(run), tmp_path / str(seed), max_bytes=SIZE, fit=True, **how)
        scores.append(evaluate(Recommender.load(tmp_path / str(seed)), parts.train_all)["ndcg@20"])
    assert np.mean(scores) == pytest.approx(done.validation)


def test_workers_try_the_same_recipes_at_the_same_time(done: Fitted, data: Interactions, tmp_path: Path) -> None:
    """The first two do not depend on each other's results; what remains of a kill is no folder of a worker."""
    notes: list[str] = []
    out = tmp_path / "app.bundle"
    how: dict[str, Any] = {"max_bytes": SIZE, "trials": 2, "workers": 2}
    found = fit(data, out, **how, progress=lambda state: notes.append(state.doing))
    assert found.study.command == done.study.command  # so that a search continues with other workers
    assert {trial.recipe for trial in found.study.trials} == {trial.recipe for trial in done.study.trials}
    assert "svd 128 and ials 128" in notes
    assert files(out) == files(done.out)
    assert found.test == done.test
    assert sorted(path.name for path in (tmp_path / "app.fit").iterdir() if path.name[0] != ".") == ["best", "fit.json"]
    with pytest.raises(RequestError, match="leave --workers out"):
        fit(data, out, **how, max_ms=5.0)


@pytest.fixture(scope="module")
def short(data: Interactions, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """One recipe."""
    return fit(data, tmp_path_factory.mktemp("short") / "app.bundle", max_bytes=SIZE, trials=1)


@pytest.mark.parametrize("step", [2, 9])
def test_a_killed_fit_continues_to_the_same_bundle(
    step: int, short: Fitted, data: Interactions, tmp_path: Path
) -> None:
    seen: list[str] = []

    def kill(state: FitProgress) -> None:
        seen.append(state.doing)
        if len(seen) == step:
            raise KilledError

    out = tmp_path / "app.bundle"
    with pytest.raises(KilledError):
        fit(data, out, max_bytes=SIZE, trials=1, progress=kill)
    again = fit(data, out, max_bytes=SIZE, trials=1)
    assert files(out) == files(short.out)
    assert again.test == short.test
    assert len(again.study.trials) == 1
    assert not any((tmp_path / "app.fit" / name).exists() for name in ("trial", "final", "bundle"))


def test_a_finished_fit_is_returned_and_more_trials_continue_it(
    done: Fitted, data: Interactions, tmp_path: Path
) -> None:
    out = tmp_path / "app.bundle"
    for path in (done.out, done.out.with_name("app.fit")):
        shutil.copytree(path, tmp_path / path.name)
    finished: list[FitTrial] = []

    def collect(state: FitProgress) -> None:
        finished.extend(filter(None, [state.finished]))

    again = fit(data, out, max_bytes=SIZE, trials=2, progress=collect)
    assert (again.test, finished) == (done.test, [])
    longer = fit(data, out, max_bytes=SIZE, trials=3, progress=collect)
    assert len(finished) == 1
    assert longer.study.trials[:2] == done.study.trials
    assert longer.study.repeats[: len(done.study.repeats)] == done.study.repeats


def test_ctrl_c_writes_the_best_so_far(data: Interactions, tmp_path: Path) -> None:
    def stop(state: FitProgress) -> None:
        if state.trials == 1 and state.finished is None and state.step is not None and state.doing.startswith("ials"):
            raise KeyboardInterrupt

    fitted = fit(data, tmp_path / "app.bundle", max_bytes=SIZE, trials=9, progress=stop)
    assert fitted.interrupted
    assert [trial.recipe.backbone for trial in fitted.study.trials] == ["svd"]
    assert fitted.nbytes <= SIZE
    assert Recommender.load(fitted.out).n_items == 80


def test_ctrl_c_before_the_first_bundle_ends_without_one(data: Interactions, tmp_path: Path) -> None:
    def stop(state: FitProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(data, tmp_path / "app.bundle", max_bytes=SIZE, trials=9, progress=stop)
    assert not (tmp_path / "app.bundle").exists()


@pytest.mark.parametrize(("users", "name"), [(True, "app.edgerec"), (False, "app.bundle")])
def test_a_size_that_is_too_small_is_refused_before_training_with_one_that_suffices(
    users: bool, name: str, data: Interactions, tmp_path: Path
) -> None:
    def never(state: FitProgress) -> None:
        raise AssertionError(state.doing)

    with pytest.raises(BudgetError, match=r"does not fit 1024 bytes, and certainly fits \d+") as refusal:
        fit(data, tmp_path / name, max_bytes="1KiB", users=users, progress=never)
    assert list(tmp_path.iterdir()) == []
    assert refusal.value.smallest is not None
    fitted = fit(data, tmp_path / name, max_bytes=refusal.value.smallest, users=users, trials=1)
    assert fitted.nbytes <= refusal.value.smallest
    assert bool(Recommender.load(fitted.out).n_users) == users


def test_without_a_size_the_knee_is_chosen(data: Interactions, tmp_path: Path) -> None:
    fitted = fit(data, tmp_path / "app.bundle", trials=1)
    study, (trial,) = fitted.study, fitted.study.trials
    best = max(map(study.score, trial.bundles))
    smallest = min((one for one in trial.bundles if study.score(one) >= 0.99 * best), key=lambda one: one.nbytes)
    assert fitted.validation == study.score(smallest)
    assert fitted.limit == (smallest.max_bytes or smallest.nbytes)
    assert fitted.nbytes <= fitted.limit
    assert len({one.max_bytes for one in trial.bundles}) > 3


def test_final_trains_on_everything_and_is_not_measured(data: Interactions, tmp_path: Path) -> None:
    fitted = fit(data, tmp_path / "app.bundle", max_bytes=SIZE, trials=1, final=True)
    assert fitted.test is None
    assert Recommender.load(fitted.out).manifest.about["split"]["kind"] == "all"
    with pytest.raises(DataError, match="none can test it"):
        evaluate(Recommender.load(fitted.out), data)


def test_a_run_on_everything_has_no_test_metrics(data: Interactions) -> None:
    run = train(data, backbone="ials", dimensions=8, split="all", threads=1)
    assert set(run.metrics) == {"validation"}
    assert run.item_counts is not None
    assert run.item_counts.sum() == len(data)


def test_published_data_are_validated_by_a_random_part(tmp_path: Path) -> None:
    whole = synthetic(n_users=60, n_items=50, n=1200, seed=3)
    folder = tmp_path / "data"
    folder.mkdir()
    parts = split(whole, "random:80/20")
    for name, part in (("train", parts.train_all), ("test", parts.test)):
        lines = [" ".join(map(str, [user, *part.items_of(user)])) for user in range(part.n_users)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    fitted = fit(edgerec.load_data(str(folder)), tmp_path / "app.bundle", max_bytes=SIZE, trials=1, split="published")
    assert fitted.test is not None


def test_other_options_are_refused_and_overwrite_starts_again(done: Fitted, data: Interactions, tmp_path: Path) -> None:
    out = tmp_path / "app.bundle"
    shutil.copytree(done.out.with_name("app.fit"), tmp_path / "app.fit")
    with pytest.raises(RunError, match=r"other options \(users\).*--overwrite"):
        fit(data, out, max_bytes=SIZE, trials=1, users=False)
    assert len(fit(data, out, max_bytes=SIZE, trials=1, users=False, overwrite=True).study.trials) == 1
    (tmp_path / "app.fit" / "fit.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        fit(data, out, max_bytes=SIZE, trials=1, users=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "auc"}, "no metric 'auc'"),
        ({"ids": "none"}, "raw or hash64"),
        ({"minutes": 0.0}, "above 0"),
        ({"max_ms": 1e-6, "trials": 1}, "longer than --max-ms"),
    ],
)
def test_unusable_options_are_refused(
    options: dict[str, Any], message: str, data: Interactions, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=message):
        fit(data, tmp_path / "app.bundle", max_bytes=SIZE, **options)


def test_a_strangers_folder_is_not_used(data: Interactions, tmp_path: Path) -> None:
    (tmp_path / "app.fit").mkdir()
    (tmp_path / "app.fit" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"app\.fit"):
        fit(data, tmp_path / "app.bundle", max_bytes=SIZE, trials=1)
    assert (tmp_path / "app.fit" / "letter.txt").read_text() == "dear"


def test_the_command_writes_a_page_with_commands(command_line: CommandLine, tmp_path: Path) -> None:
    words = ["fit", DATA, "--max-bytes", "14KB", "--trials", "2", "--no-users", "--min-user", "2"]
    done = command_line(*words, "--out", tmp_path / "app.bundle", "--json")
    found = json.loads(done.stdout)
    assert found["bytes"] <= 14_000
    assert len(found["trials"]) == 2
    assert found["trials"][0]["bundles"][0]["nbytes"] <= 14_000
    page = (tmp_path / "app.report.html").read_text()
    assert "reaches ndcg@20" in page
    assert "item values" in page
    assert page.count("Latest of a user:") == 5
    assert "<svg" in page
    for line in found["commands"]:
        words = shlex.split(line)
        assert "--min-user" in words or words[1] == "export"
        command = group.get_command(None, words[1])  # type: ignore[arg-type]
        assert command is not None
        command.make_context(words[1], words[2:])
    text = command_line(*words_of_fit(tmp_path))
    assert "the same bundle by parts" in text.stdout


def words_of_fit(folder: Path) -> list[str]:
    """The same command again, which has nothing left to do."""
    return [
        "fit",
        DATA,
        "--max-bytes",
        "14KB",
        "--trials",
        "2",
        "--no-users",
        "--min-user",
        "2",
        "--out",
        str(folder / "app.bundle"),
    ]


def test_ctrl_c_at_the_command_line_writes_the_bundle(tmp_path: Path) -> None:
    out = tmp_path / "app.bundle"
    record = tmp_path / "app.fit" / "fit.json"

    def has_a_bundle() -> bool:
        return record.exists() and "nbytes" in record.read_text()

    stopped = interrupted(["fit", DATA, "--max-bytes", "14KB", "--minutes", "5", "--out", out], has_a_bundle)
    assert "the best so far was written" in stopped.stderr, stopped.stderr
    assert (out / "manifest.json").exists()


def test_help_names_the_command_first() -> None:
    assert "fit" in CliRunner().invoke(group, ["--help"]).output.partition("train")[0]


def test_next_week_repeats_the_choice_within_the_limit_and_makes_the_patch(short: Fitted, tmp_path: Path) -> None:
    newer = synthetic(n_users=120, n_items=80, n=2500, seed=0)
    found = fit_again(newer, tmp_path / "week2.bundle", short.out, patch=tmp_path / "week2.patch")
    assert found.nbytes <= SIZE
    about = Recommender.load(found.out).manifest.about
    assert (about["backbone"], about["dimensions"]) == (short.recipe.backbone, short.recipe.dimensions)
    assert about["settings"] == Recommender.load(short.out).manifest.about["chosen_settings"]
    assert found.test == evaluate(Recommender.load(found.out), newer)
    assert not (tmp_path / "week2.fit").exists()
    device = tmp_path / "device.bundle"
    shutil.copytree(short.out, device)
    apply_patch(device, tmp_path / "week2.patch")
    assert files(found.out).items() <= files(device).items()  # a device keeps the files of the version before


def test_next_week_needs_a_bundle_that_records_its_training(source: Source, data: Interactions, tmp_path: Path) -> None:
    export(source, tmp_path / "own.bundle")
    with pytest.raises(BundleError, match="does not record a training"):
        fit_again(data, tmp_path / "new.bundle", tmp_path / "own.bundle")
    with pytest.raises(OutputError, match="is an input"):
        fit_again(data, tmp_path / "own.bundle", tmp_path / "own.bundle")


def test_options_of_a_search_are_refused_with_like(short: Fitted, tmp_path: Path) -> None:
    words = ["fit", DATA, "--like", str(short.out), "--out", str(tmp_path / "b"), "--trials", "2", "--no-users"]
    done = CliRunner().invoke(group, words)
    assert "leave --trials, --users out" in str(done.exception)
    done = CliRunner().invoke(group, ["fit", DATA, "--patch", str(tmp_path / "p"), "--out", str(tmp_path / "b")])
    assert "give the older one by --like" in str(done.exception)


def test_new_items_may_take_a_larger_size_and_a_refused_call_continues(short: Fitted, tmp_path: Path) -> None:
    newer = synthetic(n_users=120, n_items=110, n=3000, seed=0)
    out = tmp_path / "week2.bundle"
    with pytest.raises(BudgetError, match="--max-bytes") as refusal:
        fit_again(newer, out, short.out, max_bytes=short.nbytes - 2000)
    assert (tmp_path / "week2.fit" / "final" / "run.json").exists()
    assert refusal.value.smallest is not None
    assert fit_again(newer, out, short.out, max_bytes=refusal.value.smallest).nbytes <= refusal.value.smallest


def test_the_time_ends_an_export_too(data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour passes while the second training's first bundle is measured: its other bundles are not exported."""
    calls, finished, passed = list[Path](), list[FitTrial](), [0.0]
    for module in ("search", "trial"):
        monkeypatch.setattr(f"edgerec.fitting.{module}.time", SimpleNamespace(monotonic=lambda: passed[0]))

    def latency(path: Path) -> float:
        calls.append(path)
        passed[0] = 3600.0 if finished else 0.0
        return 1.0

    def progress(state: FitProgress) -> None:
        finished.extend([state.finished] if state.finished else [])

    found = fit(data, tmp_path / "app.bundle", max_bytes=SIZE, minutes=5, latency=latency, progress=progress)
    first = found.study.trials[0]
    assert [found.recipe] == [trial.recipe for trial in found.study.trials]
    assert len(calls) == len(first.bundles) + 1


def test_a_device_decides_what_is_fast_enough(data: Interactions, tmp_path: Path) -> None:
    """The slower bundle here is any with users; when the device is lost, the same call continues."""
    calls: list[int] = []

    def latency(path: Path) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise BenchError("the device is lost; connect it again")
        return 9.0 if Recommender.load(path).n_users else 1.0

    how: dict[str, Any] = {"max_bytes": SIZE, "max_ms": 5.0, "trials": 2, "latency": latency, "split": "time:80/20"}
    with pytest.raises(BenchError, match="is lost"):
        fit(data, tmp_path / "app.bundle", **how)
    fitted = fit(data, tmp_path / "app.bundle", **how)
    assert not fitted.variant.users
    assert {one.ms for _, one in study_bundles(fitted.study)} == {1.0, 9.0}
    with pytest.raises(RequestError, match="no recipe gave a bundle within the limits"):
        fit(data, tmp_path / "other.bundle", **{**how, "max_ms": 0.5})
