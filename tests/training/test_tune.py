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
from edgerec.data import Interactions, split
from edgerec.errors import DataError, MissingExtraError, RunError, UnsupportedError
from edgerec.methods import METHODS, method
from edgerec.models import backbone
from edgerec.training import FitOptions
from edgerec.tune import BACKBONE_SPACES, METHOD_SPACES, Range, Study, tune
from tests.conftest import CommandLine

DATA = "synthetic:300x200x9000"
WANTED: dict[str, Any] = {
    "backbone": "ials",
    "method": "popularity",
    "budget": "50%",
    "dimensions": 8,
    "options": FitOptions(seed=3, threads=1, max_epochs=3),
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
    for setting, value in run.config["chosen_settings"].items():
        assert first.values[f"settings.{setting}"] == value
    assert study.best.score is not None
    assert study.best.score >= first.score
    assert len(study.trials) == 4


def test_the_test_part_is_never_looked_at(interactions: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgerec.training.fit as home

    parts, asked, real = split(interactions, "random:80/20"), [], home.evaluate_vectors

    def watched(users: Any, items: Any, seen: Any, truth: Interactions, **more: Any) -> dict[str, float]:
        asked.append(truth.fingerprint())
        return real(users, items, seen, truth, **more)

    def refused(*anything: Any, **more: Any) -> dict[str, float]:
        raise AssertionError

    monkeypatch.setattr(home, "evaluate_vectors", watched)
    monkeypatch.setattr("edgerec.api.measure_vectors", refused)
    tune(interactions, trials=2, **{**WANTED, "options": FitOptions(threads=1, max_epochs=2)})
    assert set(asked) == {parts.validation.fingerprint()}


def test_a_stopped_study_goes_on_to_the_same_trials(interactions: Interactions, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole.json", tmp_path / "stopped.json"
    tune(interactions, trials=14, out=whole, **WANTED)

    def stop(study: Study) -> None:
        raise StoppedError

    for number in range(1, 4):
        with pytest.raises(StoppedError):
            tune(interactions, trials=14, out=stopped, progress=stop, **WANTED)
        assert len(json.loads(stopped.read_bytes())["trials"]) == number
    resumed = tune(interactions, trials=14, out=stopped, **WANTED)
    assert len(resumed.trials) == 14
    assert stopped.read_bytes() == whole.read_bytes()
    assert tune(interactions, trials=3, out=stopped, **WANTED) == resumed
    with pytest.raises(RunError, match="another command"):
        tune(interactions, trials=3, out=stopped, **{**WANTED, "dimensions": 9})


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
        tune(interactions, trials=2, **{**WANTED, "options": FitOptions(seed=seed, threads=1, max_epochs=1)})
        for seed in (0, 1)
    ]
    assert studies[0].trials[1].values != studies[1].trials[1].values


def test_a_trial_that_diverges_is_no_end(interactions: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgerec.training.fit as home

    real, calls = home.evaluate_vectors, []

    def sometimes(*given: Any, **more: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            raise DataError("the training diverged")
        return real(*given, **more)

    monkeypatch.setattr(home, "evaluate_vectors", sometimes)
    study = tune(interactions, trials=3, **{**WANTED, "options": FitOptions(threads=1, max_epochs=1)})
    assert [trial.score is None for trial in study.trials] == [False, True, False]
    with pytest.raises(DataError, match="every trial"):
        _ = Study({}, study.trials[1:2]).best


def test_the_spaces_hold_the_defaults() -> None:
    known = [(backbone(name).config, space) for name, space in BACKBONE_SPACES.items()]
    known += [(method(name, "ials").config, space) for name, space in METHOD_SPACES.items()]
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


def test_the_command_that_is_printed_trains_what_was_found(tmp_path: Path, command_line: CommandLine) -> None:
    arguments = ["tune", DATA, "--budget", "50%", "--dimensions", "8", "--threads", "1", "--epochs", "3", "--seed", "2"]
    shown = command_line(*arguments, "--trials", "3", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    (line,) = re.findall(r"^edgerec train .*$", shown.stdout, re.MULTILINE)
    told = json.loads(command_line(*arguments, "--trials", "3", "--json", cwd=tmp_path).stdout)
    assert told["command"] == line
    assert len(told["trials"]) == 3
    trained = command_line(*shlex.split(line)[1:], "--json", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["metrics"]["validation"]["ndcg@20"] == told["best"]["score"]
