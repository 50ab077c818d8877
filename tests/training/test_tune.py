"""Tuning: the defaults come first, validation alone decides, and a stopped study goes on to the same trials."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from edgerec.api import train
from edgerec.cli.train import command as train_command
from edgerec.cli.tune import _show, command
from edgerec.data import Interactions, split
from edgerec.errors import DataError, MissingExtraError, RunError, UnsupportedError
from edgerec.methods import METHODS, method
from edgerec.models import backbone
from edgerec.training import FitOptions, Run
from edgerec.tune import BACKBONE_SPACES, METHOD_SPACES, Range, Study, Trial, tune
from tests.conftest import CommandLine, interrupted

DATA = "synthetic:300x200x9000"
WANTED: dict[str, Any] = {
    "backbone": "ials",
    "method": "popularity",
    "budget": "50%",
    "dimensions": 8,
    "seed": 3,
    "threads": 1,
    "max_epochs": 3,
}


class StoppedError(Exception):
    """Stands for whatever ends a process between two trials."""


@pytest.mark.parametrize("name", ["ials", "svd"])
@pytest.mark.parametrize("part", ["random:80/20", "random:50/25/25"])
def test_the_first_trial_is_what_train_reports(name: str, part: str, interactions: Interactions) -> None:
    wanted = {**WANTED, "backbone": name, "split": part}
    study = tune(interactions, trials=4, **wanted)
    run = train(interactions, **wanted)
    first = study.trials[0]
    assert first.score == run.metrics["validation"]["ndcg@20"]
    assert first.epochs == run.config["epochs"]
    searched = {name.removeprefix("settings."): value for name, value in first.values.items() if "method" not in name}
    assert searched
    assert searched.items() <= run.config["chosen_settings"].items()
    assert study.best.score is not None
    assert study.best.score >= first.score
    assert len(study.trials) == 4


def test_the_test_part_is_never_looked_at(interactions: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgerec.training.fit as home

    parts, asked, real = split(interactions, "random:80/20"), [], home.evaluate_fit

    def watched(vectors: Any, history: Any, seen: Any, truth: Interactions, **more: Any) -> dict[str, float]:
        asked.append(truth.fingerprint())
        return real(vectors, history, seen, truth, **more)

    def refused(*anything: Any, **more: Any) -> dict[str, float]:
        raise AssertionError

    monkeypatch.setattr(home, "evaluate_fit", watched)
    monkeypatch.setattr("edgerec.api.measure_vectors", refused)
    tune(interactions, trials=2, **{**WANTED, "seed": 0, "threads": 1, "max_epochs": 2})
    assert set(asked) == {parts.validation.fingerprint()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epochs"), [("ials", 3), ("mf", 8)])
def test_a_stopped_study_goes_on_to_the_same_trials(
    name: str, epochs: int, interactions: Interactions, tmp_path: Path
) -> None:
    """To the same prunings too, which eight epochs are enough for."""
    whole, stopped = tmp_path / "whole.json", tmp_path / "stopped.json"
    wanted = {**WANTED, "backbone": name, "seed": 3, "threads": 1, "max_epochs": epochs}
    assert (tune(interactions, trials=14, out=whole, **wanted).pruned > 0) == (name == "mf")

    def stop(study: Study) -> None:
        raise StoppedError

    for number in range(1, 4):
        with pytest.raises(StoppedError):
            tune(interactions, trials=14, out=stopped, progress=stop, **wanted)
        assert len(json.loads(stopped.read_bytes())["trials"]) == number
    resumed = tune(interactions, trials=14, out=stopped, **wanted)
    assert len(resumed.trials) == 14
    assert stopped.read_bytes() == whole.read_bytes()
    assert tune(interactions, trials=3, out=stopped, **wanted) == resumed
    with pytest.raises(RunError, match="another command"):
        tune(interactions, trials=3, out=stopped, **{**wanted, "dimensions": 9})


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_trials_and_the_same_command_goes_on(
    tmp_path: Path, command_line: CommandLine
) -> None:
    arguments = ["tune", DATA, "--backbone", "mf", "--budget", "50%", "--dimensions", "8", "--threads", "1"]
    arguments += ["--epochs", "8", "--trials", "6", "--json", "--out"]
    whole = command_line(*arguments, tmp_path / "whole.json")
    assert whole.returncode == 0, whole.stderr
    stopped = interrupted([*arguments, tmp_path / "out.json"], lambda: trials_in(tmp_path / "out.json") >= 2)
    assert stopped.returncode == 130
    assert "the same command resumes" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stopped.stdout == ""
    assert 2 <= trials_in(tmp_path / "out.json") < 6
    resumed = command_line(*arguments, tmp_path / "out.json")
    assert resumed.stdout == whole.stdout
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def trials_in(study: Path) -> int:
    return len(json.loads(study.read_bytes())["trials"]) if study.exists() else 0


@pytest.mark.slow
def test_a_trial_behind_the_median_is_pruned(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not before five trials are done, nor before its fifth epoch; a trial that begins badly and recovers is kept."""
    usual, recovers = [0.3, 0.4, 0.5, 0.5, 0.5, 0.6], [0.0, 0.0, 0.0, 0.0, 0.9, 0.9]
    curves = [[0.2] * 6, *[usual] * 4, [0.4] * 6, recovers]
    pruned = [*curves[:5], [0.4] * 5, recovers]
    scores = (score for curve in pruned for score in curve)
    monkeypatch.setattr("edgerec.training.fit.evaluate_fit", lambda *given, **more: {"ndcg@20": next(scores)})
    wanted = {**WANTED, "backbone": "mf", "seed": 0, "threads": 1, "max_epochs": 6, "patience": 6}
    study = tune(interactions, trials=7, out=tmp_path / "study.json", **wanted)
    assert [trial.curves for trial in study.trials] == [[curve] for curve in pruned]
    assert [trial.pruned for trial in study.trials] == [False] * 5 + [True, False]
    assert (study.trials[5].score, study.trials[5].epochs) == (None, 0)
    assert study.best.score == 0.9
    assert study.pruned == 1
    space = {f"settings.{name}": area for name, area in BACKBONE_SPACES["mf"].items()}
    space |= {f"method_settings.{name}": area for name, area in METHOD_SPACES[study.command["method"]].items()}
    tuned = {name: space[name] for name in study.command["tuned"]}
    assert Study.opened(tmp_path / "study.json", study.command, tuned) == study


def test_a_study_of_an_older_version_goes_on(interactions: Interactions, tmp_path: Path) -> None:
    """Version 1 kept no curves."""
    path = tmp_path / "study.json"
    study = tune(interactions, trials=2, out=path, **WANTED)
    fields = json.loads(path.read_bytes())
    trials = [{name: trial[name] for name in ("values", "score", "epochs")} for trial in fields["trials"]]
    path.write_text(json.dumps({**fields, "version": 1, "trials": trials}))
    assert tune(interactions, trials=3, out=path, **WANTED).trials[1].values == study.trials[1].values


def test_the_number_of_pruned_trials_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    kept, given_up = Trial({"settings.lr": 0.1}, 0.5, 3), Trial({"settings.lr": 9.0}, None, 0, pruned=True)
    _show(Study({}, [kept, given_up]), "edgerec train", as_json=False)
    assert "1 of 2 trials were pruned" in capsys.readouterr().out
    _show(Study({}, [kept]), "edgerec train", as_json=False)
    assert "pruned" not in capsys.readouterr().out
    _show(Study({}, [kept, given_up]), "edgerec train", as_json=True)
    assert json.loads(capsys.readouterr().out)["pruned"] == 1


def test_lightgcns_schedule_and_negatives_are_tuned(interactions: Interactions) -> None:
    options = FitOptions(threads=1, max_epochs=1)
    study = tune(interactions, trials=2, **{**WANTED, "backbone": "lightgcn", **vars(options)})
    first, second = ([trial.values[f"settings.{name}"] for name in ("horizon", "negatives")] for trial in study.trials)
    assert first == [100, 2048]
    assert all(isinstance(value, int) for value in second)
    assert second != first


def test_what_is_given_is_fixed(interactions: Interactions) -> None:
    study = tune(interactions, trials=2, settings={"reg": 10.0}, method_settings={"exponent": 0.5}, **WANTED)
    assert all(set(trial.values) == {"settings.alpha", "method_settings.user_share"} for trial in study.trials)
    assert study.command["settings"]["reg"] == 10
    with pytest.raises(UnsupportedError, match="nothing to tune"):
        tune(
            interactions,
            trials=2,
            settings={"reg": 1.0, "alpha": 1.0},
            **{**WANTED, "method": "dense", "budget": None},
        )


def test_another_seed_proposes_otherwise(interactions: Interactions) -> None:
    studies = [
        tune(interactions, trials=2, **{**WANTED, "seed": seed, "threads": 1, "max_epochs": 1}) for seed in (0, 1)
    ]
    assert studies[0].trials[1].values != studies[1].trials[1].values


def test_a_trial_that_diverges_is_no_end(interactions: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgerec.training.fit as home

    real, calls = home.evaluate_fit, []

    def sometimes(*given: Any, **more: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            raise DataError("the training diverged")
        return real(*given, **more)

    monkeypatch.setattr(home, "evaluate_fit", sometimes)
    fixed: dict[str, Any] = {"method_settings": {"exponent": 0.5}}
    study = tune(interactions, trials=3, **fixed, **{**WANTED, "backbone": "mf", "threads": 1, "max_epochs": 1})
    assert [trial.score is None for trial in study.trials] == [False, True, False]
    with pytest.raises(DataError, match="every trial"):
        _ = Study({}, study.trials[1:2]).best


def test_the_spaces_hold_the_defaults() -> None:
    known = [(backbone(name).config, space) for name, space in BACKBONE_SPACES.items()]
    known += [(method(name, "mf").config, space) for name, space in METHOD_SPACES.items()]
    assert set(METHOD_SPACES) <= set(METHODS)
    for config, space in known:
        defaults = {field.name: field.default for field in fields(config)}
        for name, area in space.items():
            value = defaults[name]
            if isinstance(area, Range):
                assert value is None or area.low <= value <= area.high, name
            else:
                assert value in area


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "edgerec.run", "version": 1}'])
def test_a_file_that_is_no_study_is_kept(content: str, interactions: Interactions, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(RunError, match=r"study\.json"):
        tune(interactions, trials=1, out=tmp_path / "study.json", **WANTED)
    assert (tmp_path / "study.json").read_text() == content


def test_without_optuna_the_extra_is_named(interactions: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"edgerec\[tune\]"):
        tune(interactions, trials=1, **WANTED)


def test_it_takes_what_train_takes() -> None:
    known, of_train = ({name for param in of.params for name in param.opts} for of in (command, train_command))
    assert of_train - known == {"--resume", "--overwrite", "--processes"}


def test_workers_judge_the_sizes_of_a_trials_search_and_change_nothing(interactions: Interactions) -> None:
    wanted = {**WANTED, "method": "bet", "method_settings": {"iterations": 2}}
    alone = tune(interactions, trials=1, **wanted)
    assert tune(interactions, trials=1, workers=2, **wanted) == alone
    with pytest.raises(UnsupportedError, match="no use for workers"):
        tune(interactions, trials=1, workers=2, **WANTED)


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--epochs", "3"], ["--backbone", "lightgcn", "--mask-at", "ego", "--epochs", "1"]])
def test_the_command_that_is_printed_trains_what_was_found(
    more: list[str], tmp_path: Path, command_line: CommandLine
) -> None:
    arguments = ["tune", DATA, "--budget", "50%", "--dimensions", "8", "--threads", "1", "--seed", "2", *more]
    shown = command_line(*arguments, "--trials", "3", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    (line,) = re.findall(r"^edgerec train .*$", shown.stdout, re.MULTILINE)
    told = json.loads(command_line(*arguments, "--trials", "3", "--json", cwd=tmp_path).stdout)
    assert told["command"] == line
    assert len(told["trials"]) == 3
    trained = command_line(*shlex.split(line)[1:], "--json", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["metrics"]["validation"]["ndcg@20"] == told["best"]["score"]
    config = Run.load(tmp_path / "runs" / "tuned").config
    assert config["settings"].get("mask_at") == ("ego" if "--mask-at" in more else None)


def test_users_from_histories_are_scored_as_train_reports_them(interactions: Interactions) -> None:
    """MF's encoder is another model than its user table; SVD has nothing but an encoder."""
    wanted = {**WANTED, "backbone": "mf", "split": "random:50/25/25", "max_epochs": 2}
    by_table, by_history = (tune(interactions, trials=1, users=users, **wanted) for users in (True, False))
    assert by_table.best.score != by_history.best.score
    wanted["backbone"] = "svd"
    scores = {tune(interactions, trials=1, users=users, **wanted).best.score for users in (True, False)}
    assert len(scores) == 1
    wanted |= {"backbone": "ncf"}
    with pytest.raises(UnsupportedError, match="has no encoder"):
        tune(interactions, trials=1, users=False, **wanted)
