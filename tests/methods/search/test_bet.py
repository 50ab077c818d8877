"""BET as a method: what it asks for, in which turns, what it keeps, and that it can be stopped anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import TrainRequest, train, train_request
from edgerec.budget import Budget, SizeBudget
from edgerec.data import Interactions
from edgerec.errors import RunError, SettingError, UnsupportedError
from edgerec.methods.bet.predictor import Predictor
from edgerec.methods.bet.search import BET, VARIANTS, BETConfig, BETSearch
from edgerec.methods.search import evaluator as evaluating
from edgerec.methods.search.history import FILE_NAME, RETRAIN, read_history
from edgerec.methods.search.sampler import Action, Sampler
from edgerec.training import FitOptions, Run, Step
from edgerec_export import export, from_run
from tests.conftest import CommandLine, interrupted
from tests.methods.stops import StoppedError, stop_after

D = 16
QUICK: dict[str, Any] = {"iterations": 7, "candidates": 6, "epochs": 1, "retrain": 2, "include_uniform_baseline": False}
WANTED: dict[str, Any] = {
    "method": "bet",
    "budget": "25%",
    "dimensions": D,
    "method_settings": QUICK,
    "seed": 3,
    "threads": 1,
    "max_epochs": 3,
}
TIMES = ("seconds",)
"""What of an entry differs from run to run."""


def entries(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in e.items() if k not in TIMES} for e in read_history(folder / FILE_NAME)]


def same(a: Run, b: Run) -> bool:
    """To the bit."""
    tables = [(a.items, b.items), *([(a.users, b.users)] if a.users is not None and b.users is not None else [])]
    return all(np.array_equal(x.dense(), y.dense()) for x, y in tables) and (a.config, a.metrics, a.history) == (
        b.config,
        b.metrics,
        b.history,
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each training that evaluates an action."""
    made: list[int] = []
    answer = evaluating._answer
    monkeypatch.setattr(evaluating, "_answer", lambda shared, plan: (made.append(1), answer(shared, plan))[1])
    return made


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_there_are_as_many_fine_tunings_as_iterations(
    variant: str, interactions: Interactions, asked: list[int], tmp_path: Path
) -> None:
    """T, not m T: of the candidates one an iteration is evaluated."""
    settings = {"iterations": 12, "candidates": 6, "epochs": 1, "variant": variant}
    train(interactions, **{**WANTED, "method_settings": settings}, out=tmp_path)
    assert len(asked) == 12
    found = read_history(tmp_path / FILE_NAME)
    assert [entry["iteration"] for entry in found[:12]] == list(range(12))
    assert len(found) == 12 + {"default": 5 + 1, "paper": 5, "authors_code": 3}[variant]
    turns = [entry["strategy"] for entry in found[:12]]
    swapped = ["nearest", "random"] if variant == "authors_code" else ["random", "nearest"]
    # Before anything is evaluated there is nothing to predict from.
    first = ["random"] * 5 if variant == "default" else ["random", "greedy", "greedy", *swapped]
    assert turns == [*first, "greedy", "greedy", "greedy", *swapped, "greedy", "greedy"]


def test_without_a_predictor_all_is_random(interactions: Interactions, tmp_path: Path) -> None:
    train(interactions, **{**WANTED, "method_settings": {**QUICK, "selection": "random"}}, out=tmp_path)
    assert {entry["strategy"] for entry in entries(tmp_path)} == {"random", RETRAIN}


def test_turns_choose_by_their_rule(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Greedy takes the highest prediction, nearest the smallest distance, of candidates that are drawn anew."""
    looked: list[tuple[str, int]] = []
    predict, distances = Predictor.predict, BETSearch._distances

    def watched(self: Any, members: Any) -> Any:
        found = predict(self, members)
        looked.append(("predicted", int(found.argmax())))
        return found

    def watched_distances(self: Any, members: Any) -> Any:
        found = distances(self, members)
        looked.append(("near", int(found.argmin())))
        return found

    monkeypatch.setattr(Predictor, "predict", watched)
    monkeypatch.setattr(BETSearch, "_distances", watched_distances)
    settings = {**QUICK, "iterations": 10, "candidates": 20}
    train(interactions, **{**WANTED, "method_settings": settings}, out=tmp_path)
    found = entries(tmp_path)[5:10]
    kinds = [kind for kind, _ in looked[5:]]
    assert kinds == ["predicted", "predicted", "predicted", "predicted", "predicted", "near"]
    chosen = [looked[5][1], looked[6][1], looked[7][1], 0, looked[10][1]]
    counts = interactions.user_counts(), interactions.item_counts()
    sampler = Sampler(*counts, SizeBudget(*interactions.shape, 1000, D))
    for number, (entry, at) in enumerate(zip(found, chosen, strict=True), 5):
        rng = np.random.default_rng([3, 0, number])
        drawn = [sampler.draw(rng) for _ in range(20)]
        assert Action.from_json(entry["action"]) == drawn[at]


def test_what_is_judged_and_what_ships_keep_the_budget(interactions: Interactions, tmp_path: Path) -> None:
    run = train(interactions, **WANTED, out=tmp_path)
    rows = interactions.n_users + interactions.n_items
    allowed = Budget.parse("25%").values(rows, D)
    assert run.users is not None
    assert run.items.n_values + run.users.n_values == allowed
    assert all(entry["density"] == allowed / (rows * D) for entry in entries(tmp_path))
    assert run.items.sizes().min() >= 1
    assert run.items.sizes().max() <= D


def test_one_size_for_all_is_trained_beside_the_best(interactions: Interactions, tmp_path: Path) -> None:
    run = train(
        interactions, **{**WANTED, "method_settings": {**QUICK, "include_uniform_baseline": True}}, out=tmp_path
    )
    full = read_history(tmp_path / FILE_NAME)[7:]
    assert [list(entry["action"]) for entry in full[2:]] == [["uniform"]]
    assert max(full, key=lambda entry: entry["eval"]) == full[2]
    assert run.users is not None
    assert np.ptp(np.concatenate([run.users.sizes(), run.items.sizes()])) == 0


@pytest.mark.parametrize("split", ["random:50/25/25", "random:80/20"])
def test_the_best_of_those_trained_in_full_ships(split: str, interactions: Interactions, tmp_path: Path) -> None:
    settings = {**QUICK, "retrain": 4}
    run = train(interactions, **{**WANTED, "method_settings": settings}, split=split, out=tmp_path)
    found = read_history(tmp_path / FILE_NAME)
    evaluation, full = found[:7], found[7:]
    assert [entry["iteration"] for entry in full] == [
        entry["iteration"] for entry in sorted(evaluation, key=lambda entry: -entry["fitness"])[:4]
    ]
    assert [entry["strategy"] for entry in full] == [RETRAIN] * 4
    best = max(full, key=lambda entry: entry["eval"])
    counts = (run.user_counts, run.item_counts)
    rows = interactions.n_users + interactions.n_items
    budget = SizeBudget(*interactions.shape, Budget.parse("25%").values(rows, D), D)
    sampler = Sampler(*(np.asarray(side, np.int64) for side in counts), budget)
    plan = sampler.plan(Action.from_json(best["action"]))
    assert np.array_equal(run.items.sizes(), plan.items)
    validation = run.metrics["validation"]
    means = [(validation[f"recall@{k}"] + validation[f"ndcg@{k}"]) / 2 for k in (5, 10, 20)]
    assert np.mean(means) == pytest.approx(best["eval"])


def test_progress_tells_the_best_so_far(interactions: Interactions) -> None:
    steps: list[Step] = []
    train(interactions, **WANTED, settings={"alpha": 3.0, "reg": 20.0}, progress=steps.append)
    search = [step for step in steps if step.phase == "search"]
    assert [(step.epoch, step.max_epochs) for step in search] == [(number, 7) for number in range(1, 8)]
    fitness = [step.values["fitness"] for step in search]
    assert [step.values["best"] for step in search] == np.maximum.accumulate(fitness).tolist()
    assert steps[0].phase == "full"


@pytest.mark.slow
def test_open_settings_are_chosen_before_what_was_judged_is_trained(interactions: Interactions, tmp_path: Path) -> None:
    """Stopped after all evaluations, it needs nothing of the full-size model but its settings."""
    request = TrainRequest.make("ials", settings={"alpha": None}, **WANTED)
    steps: list[Step] = []
    whole = train_request(interactions, request, progress=steps.append)
    last = max(number for number, step in enumerate(steps) if step.phase == "search")
    with pytest.raises(StoppedError):
        train_request(interactions, request, out=tmp_path, progress=stop_after(last))
    assert len(entries(tmp_path)) == QUICK["iterations"]
    assert same(train_request(interactions, request, out=tmp_path, resume=True), whole)


def test_a_budget_in_bytes_holds_for_the_bundle(interactions: Interactions, tmp_path: Path) -> None:
    run = train(interactions, **{**WANTED, "budget": "30KiB"})
    done = export(from_run(run), tmp_path / "bundle", layout="mixed")
    assert done.nbytes <= 30 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["ials", "mf"])
def test_it_is_resumed_to_the_bit_wherever_it_stops(backbone: str, interactions: Interactions, tmp_path: Path) -> None:
    request = TrainRequest.make(backbone, **WANTED)
    steps: list[Step] = []
    whole = train_request(interactions, request, out=tmp_path / "whole", progress=steps.append)
    search = [number for number, step in enumerate(steps) if step.phase == "search"]
    # Inside the full model's training, before, inside and behind a cycle of five actions, and in the last trainings.
    places = [search[2], 1, search[0], search[4], search[6], len(steps) - 3, len(steps) - 1]
    for number in places if backbone == "ials" else places[:2]:
        out = tmp_path / str(number)
        with pytest.raises(StoppedError):
            train_request(interactions, request, out=out, progress=stop_after(number))
        assert same(train_request(interactions, request, out=out, resume=True), whole)
        assert entries(out) == entries(tmp_path / "whole")
        assert not list(out.glob("checkpoint*"))
        assert not (out / "search").exists()


def test_a_stop_inside_a_judgement_loses_that_judgement_alone(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = train(interactions, **WANTED)
    made: list[int] = []
    answer = evaluating._answer

    def stop_in_third(shared: Any, plan: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            raise StoppedError
        return answer(shared, plan)

    monkeypatch.setattr(evaluating, "_answer", stop_in_third)
    with pytest.raises(StoppedError):
        train(interactions, **WANTED, out=tmp_path)
    assert len(entries(tmp_path)) == 2
    with (tmp_path / FILE_NAME).open("ab") as stream:
        stream.write(b'{"iteration": 2, "acti')
    assert same(train(interactions, **WANTED, out=tmp_path, resume=True), whole)
    assert len(made) == 7 + 1


@pytest.mark.slow
def test_workers_change_nothing(interactions: Interactions, tmp_path: Path) -> None:
    one = train(interactions, **WANTED, out=tmp_path / "one")
    two = train(interactions, **WANTED, out=tmp_path / "two", workers=2)
    assert same(one, two)
    assert entries(tmp_path / "one") == entries(tmp_path / "two")


def test_an_unfinished_search_is_no_run_and_another_command_no_part_of_it(
    interactions: Interactions, tmp_path: Path
) -> None:
    def stop(step: Step) -> None:
        if step.phase == "search":
            raise StoppedError

    with pytest.raises(StoppedError):
        train(interactions, **WANTED, out=tmp_path, progress=stop)
    with pytest.raises(RunError, match="unfinished"):
        Run.load(tmp_path)
    with pytest.raises(RunError, match="--resume"):
        train(interactions, **WANTED, out=tmp_path)
    with pytest.raises(RunError, match="another command"):
        train(interactions, **{**WANTED, "budget": "30%"}, out=tmp_path, resume=True)
    # A method that keeps nothing in the search's folder leaves it alone too.
    other = {**WANTED, "method": "uniform", "method_settings": {}}
    with pytest.raises(RunError, match="another command"):
        train(interactions, **other, out=tmp_path, resume=True)

    def stop_behind(step: Step) -> None:
        if step.phase not in ("full", "search"):
            raise StoppedError

    # Everything is evaluated, and nothing else is left of the first command.
    with pytest.raises(StoppedError):
        train(interactions, **WANTED, out=tmp_path, resume=True, progress=stop_behind)
    assert len(entries(tmp_path)) == QUICK["iterations"]
    with pytest.raises(RunError, match="another command"):
        train(interactions, **{**WANTED, "budget": "30%"}, out=tmp_path, resume=True)
    run = train(interactions, **other, out=tmp_path, overwrite=True)
    assert run.config["method"] == "uniform"
    assert not (tmp_path / FILE_NAME).exists()


def test_a_search_that_is_made_anew_has_a_new_history(interactions: Interactions, tmp_path: Path) -> None:
    train(interactions, **WANTED, out=tmp_path)
    before = entries(tmp_path)
    train(interactions, **{**WANTED, "seed": 4}, out=tmp_path, overwrite=True)
    assert len(entries(tmp_path)) == len(before)
    assert entries(tmp_path) != before


@pytest.mark.slow
def test_the_proxy_searches_and_the_backbone_ships(
    interactions: Interactions, asked: list[int], tmp_path: Path
) -> None:
    settings = {**QUICK, "proxy": "ials"}
    run = train(interactions, backbone="mf", **{**WANTED, "method_settings": settings}, out=tmp_path)
    own = train(interactions, backbone="ials", **WANTED, out=tmp_path / "ials")
    assert run.config["backbone"] == "mf"
    assert [e["action"] for e in entries(tmp_path)[:5]] == [e["action"] for e in entries(tmp_path / "ials")[:5]]
    assert not np.array_equal(run.items.dense(), own.items.dense())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"proxy": "svd"}, "proxy must be one of backbone, ials"),
        ({"turns": "greedy,lucky"}, "turns must be one of greedy, random, nearest"),
        ({"selection": "best"}, "selection"),
        ({"iterations": 0}, "iterations"),
        ({"candidates": 0}, "candidates"),
        ({"epochs": 0}, "epochs"),
        ({"retrain": 0}, "retrain"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        BETConfig(**settings)


def test_a_variant_is_a_whole_config_that_other_settings_change() -> None:
    chosen = TrainRequest.make("ials", "bet", budget="25%", method_settings={"variant": "paper", "updates": 9})
    assert chosen.method_config == replace(VARIANTS["paper"], updates=9)
    assert TrainRequest.make("ials", "bet", budget="25%").method_config == VARIANTS["default"] == BETConfig()
    with pytest.raises(SettingError, match="variant must be one of default, paper, authors_code, got 'mine'"):
        TrainRequest.make("ials", "bet", budget="25%", method_settings={"variant": "mine"})


def test_workers_are_for_searches(interactions: Interactions) -> None:
    with pytest.raises(UnsupportedError, match="no search"):
        train(interactions, method="uniform", budget="25%", workers=2)
    assert BET.name == "bet"


class TestCommandLine:
    COMMAND = ("train", "synthetic:300x200x9000@1", "--dimensions", str(D), "--budget", "25%", "--threads", "1")
    SEARCH = ("--method", "bet", *(x for n, v in QUICK.items() for x in ("--method-set", f"{n}={v}")))

    @pytest.mark.slow
    def test_a_search_that_ctrl_c_stops_goes_on(
        self, interactions: Interactions, tmp_path: Path, command_line: CommandLine
    ) -> None:
        arguments = [*self.COMMAND, *self.SEARCH, "--method-set", "proxy=ials", "--backbone", "mf", "--epochs", "2"]
        out = ["--out", str(tmp_path / "run"), "--workers", "2", "--json"]
        stopped = interrupted([*arguments, *out], (tmp_path / "run" / FILE_NAME).exists)
        assert stopped.returncode == 130
        assert "--resume" in stopped.stderr
        assert "Traceback" not in stopped.stderr
        resumed = command_line(*arguments, *out, "--resume")
        assert resumed.returncode == 0, resumed.stderr
        options = FitOptions(seed=0, threads=1, max_epochs=2)
        settings = {**QUICK, "proxy": "ials"}
        asked = {**WANTED, "backbone": "mf", "method_settings": settings, **vars(options)}
        whole = train(interactions, **asked, out=tmp_path / "whole")
        assert json.loads(resumed.stdout)["metrics"] == whole.metrics
        assert entries(tmp_path / "run") == entries(tmp_path / "whole")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--method", "popularity", "--method-set", "proxy=ials"], "popularity has no setting proxy"),
            (["--method", "popularity", "--method-set", "variant=paper"], "popularity has no setting variant"),
            (["--method", "bet", "--method-set", "variant=mine"], "variant must be one of default, paper"),
            (["--method", "popularity", "--workers", "2"], "no use for workers"),
            (["--method", "bet", "--workers", "some"], "give a number"),
        ],
    )
    def test_options_that_do_not_fit_are_refused(
        self, options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from edgerec.cli.app import run
        from edgerec.errors import EdgeRecError

        with pytest.raises(EdgeRecError, match=said):
            run([*self.COMMAND, "--out", str(tmp_path / "run"), *options])
        assert not (tmp_path / "run").exists()
