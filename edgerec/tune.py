"""Tuning of a backbone's and a method's settings, proposed by Optuna and scored on validation alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from edgerec.api import job_of
from edgerec.data import Interactions, Split
from edgerec.data import split as split_interactions
from edgerec.errors import DataError, RunError, UnsupportedError
from edgerec.extras import require
from edgerec.files import read_if_there, write_json, writing
from edgerec.json_records import parse_json, record
from edgerec.methods import Workers
from edgerec.models import SizePlan
from edgerec.request import TrainRequest, check_workers
from edgerec.training import Fit, FitResult, Step
from edgerec.training.fit import SELECTION, validate

FORMAT, VERSION = "edgerec.study", 2

PRUNED_FROM = 5
"""The earliest epoch after which a trial may be pruned, and the minimum number of finished trials to compare with."""
_STEPS_A_FIT = 1 << 20
"""More than the epochs of a fit, so that epochs of two fits of a trial have different steps."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: whole ones if `low` is an int; drawn on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Range | tuple[str, ...]]
"""The search space of each setting: a range, or several words."""

_GRAPH: Space = {
    "layers": Range(1, 4),
    "loss": ("softmax", "bpr"),
    "lr": Range(0.005, 0.2, log=True),
    "horizon": Range(20, 200, log=True),
    "negatives": Range(256, 8192, log=True),
    "l2": Range(0.0005, 0.2, log=True),
}
_RANKED_PAIRS: Space = {
    "lr": Range(0.003, 0.1, log=True),
    "decay": Range(0.7, 1.0),
    "negatives": Range(1, 32, log=True),
    "l2": Range(0.0005, 0.1, log=True),
}
BACKBONE_SPACES: Mapping[str, Space] = {
    "ials": {"alpha": Range(0.3, 100.0, log=True), "reg": Range(0.1, 200.0, log=True)},
    "lae": {
        "lr": Range(0.005, 0.2, log=True),
        "history": Range(0.3, 0.9),
        "negatives": Range(2, 32, log=True),
        "b": Range(0.2, 0.5),
        "spectrum": Range(0.0, 0.5),
    },
    "lightgcn": {**_GRAPH, "temperature": Range(0.2, 5.0, log=True)},
    "mf": {**_RANKED_PAIRS, "std": Range(0.01, 0.3, log=True)},
    "ncf": {**_RANKED_PAIRS, "products": Range(0.1, 0.9), "rate": Range(0.01, 1.0, log=True)},
    "neighbours": {"reg": Range(3.0, 3000.0, log=True)},
    "ngcf": {**_GRAPH, "dropout": Range(0.0, 0.5)},
    "svd": {"a": Range(0.0, 0.8), "b": Range(0.0, 0.8), "c": Range(-0.4, 0.4), "power": Range(0.0, 1.0)},
}
_USER_SHARE = Range(0.05, 0.95)
_FRACTION = Range(0.01, 0.6, log=True)
METHOD_SPACES: Mapping[str, Space] = {
    "magnitude": {"user_share": _USER_SHARE},
    "pep": {"threshold": Range(-20.0, -2.0), "threshold_decay": Range(1e-6, 0.1, log=True)},
    "popularity": {"exponent": Range(0.0, 2.0), "user_share": _USER_SHARE},
    "rigl": {"fraction": _FRACTION, "user_share": _USER_SHARE},
    "set": {"fraction": _FRACTION, "user_share": _USER_SHARE},
    "sparserec": {"fraction": _FRACTION, "uniform": Range(0.01, 1.0, log=True)},
}
"""Search spaces by name; settings without an entry are not tuned."""


@dataclass(frozen=True)
class Trial:
    """A trial of settings.

    Attributes:
        values: tuned settings by 'settings.NAME' and 'method_settings.NAME'; the first trial has the defaults.
        score: NDCG@20 on validation; None if training diverged or was pruned.
        epochs: the chosen number of epochs; 0 if training diverged or was pruned.
        pruned: True if it was stopped because it was below the median of the earlier trials.
        curves: NDCG@20 of each epoch, a list a fit; empty for a fit that chooses among several settings.
    """

    values: dict[str, Any]
    score: float | None
    epochs: int
    pruned: bool = False
    curves: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """The trials of one command, in order.

    Attributes:
        command: everything that decides the trials, as JSON.
    """

    command: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)

    @property
    def pruned(self) -> int:
        """Number of pruned trials."""
        return sum(trial.pruned for trial in self.trials)

    @property
    def best(self) -> Trial:
        """The trial with the highest score, the first of equals. Raises DataError if every one diverged."""
        scored = [trial for trial in self.trials if trial.score is not None]
        if not scored:
            raise DataError("training diverged in every trial; fix a smaller learning rate, or give more trials")
        return max(scored, key=lambda trial: trial.score or 0.0)

    def save(self, path: Path) -> None:
        """Write the study. Raises StorageError."""
        trials = [asdict(trial) for trial in self.trials]
        write_json(path, {"format": FORMAT, "version": VERSION, "command": self.command, "trials": trials})

    @classmethod
    def opened(cls, path: Path | None, command: dict[str, Any], space: Space) -> Study:
        """Return the study in `path`, or a new one. Raises RunError if it is another's or damaged; StorageError."""
        content = None if path is None else read_if_there(path)
        if content is None:
            return cls(command)
        try:
            file = record(_File, parse_json(content))
            if file["format"] != FORMAT or file["version"] > VERSION or file["command"] != command:
                raise RunError(f"{path} holds the study of another command, or of other data; choose another --out")
            for number, trial in enumerate(file["trials"], 1):
                _check_values(number, trial, space)
        except ValueError as error:
            raise RunError(f"{path} is no study, or damaged ({error}); choose another --out") from error
        return cls(file["command"], file["trials"])


class _File(TypedDict):
    """The content of a study's file."""

    format: str
    version: int
    command: dict[str, Any]
    trials: list[Trial]


def _check_values(number: int, trial: Trial, space: Space) -> None:
    """Raise ValueError if a trial has other settings than the tuned ones, or values outside their ranges."""
    if set(trial.values) != set(space):
        raise ValueError(f"trial {number} has other settings than the tuned ones")
    for name, value in trial.values.items():
        area = space[name]
        if value is None:
            continue
        if isinstance(area, Range):
            kinds = int if isinstance(area.low, int) else (int, float)
            inside = isinstance(value, kinds) and not isinstance(value, bool) and area.low <= value <= area.high
        else:
            inside = value in area
        if not inside:
            raise ValueError(f"trial {number} has {name} = {value!r}")


def part_of(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of 'settings' or of 'method_settings', by their own names."""
    return {name.removeprefix(f"{part}."): value for name, value in values.items() if name.startswith(f"{part}.")}


def tune(
    interactions: Interactions,
    *,
    trials: int,
    out: Path | None = None,
    progress: Callable[[Study], None] | None = None,
    workers: Workers = None,
    users: bool = True,
    **training: Any,
) -> Study:
    """Tune settings of a backbone and a method; the test part of the split is not used.

    The first trial has the defaults; a tree-structured Parzen estimator (Bergstra et al. 2011) proposes the others from
    all earlier ones. A trial is pruned if its best epoch so far is below the median of the finished trials at the same
    epoch. Both depend only on the seed, the trial's number and the earlier trials, so that a stopped study resumes to
    the same trials.

    Args:
        trials: total number of trials, including those in `out`.
        out: a JSON file for the study, written after each trial.
        progress: called after each trial.
        workers: as in `train`.
        users: False to score users that are computed from their histories, as in a bundle without a user table.
        training: keywords of `TrainRequest.make`; settings that are given there are fixed, and not tuned.

    Raises as `train` does; MissingExtraError without Optuna, UnsupportedError if nothing is left to tune, RunError if
    `out` holds another study, InUseError if another process tunes into `out`.
    """
    optuna = require("optuna", "tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    request = TrainRequest.make(**training)
    check_workers(request, workers)
    space = _space(request, training.get("settings") or {}, training.get("method_settings") or {})
    command = {"data": interactions.name, "data_fingerprint": interactions.fingerprint(), **request.to_dict()}
    command |= {} if users else {"users": False}
    parts = _without_test(split_interactions(interactions, request.split))
    with nullcontext() if out is None else writing(out):
        study = Study.opened(out, {**command, "tuned": sorted(space)}, space)
        while len(study.trials) < trials:
            study.trials.append(_tried(parts, request, space, study.trials, workers, users=users))
            if out is not None:
                study.save(out)
            if progress is not None:
                progress(study)
        return study


def _space(request: TrainRequest, fixed: Mapping[str, Any], method_fixed: Mapping[str, Any]) -> Space:
    backbone, method = request.backbone, request.method
    areas = BACKBONE_SPACES.get(backbone.name, {})
    space = {f"settings.{name}": area for name, area in areas.items() if name not in fixed}
    for name, area in METHOD_SPACES.get(method.name, {}).items():
        if name not in method_fixed and (backbone.user_table or name != "user_share"):
            space[f"method_settings.{name}"] = area
    if not space:
        raise UnsupportedError(f"there is nothing to tune for {backbone.name} with {method.name}; fix fewer settings")
    return space


def _without_test(parts: Split) -> Split:
    """Return the same train and validation parts without a test part and without a final training."""
    if not len(parts.validation):
        raise DataError(f"{parts.spec} holds no interaction back to choose settings on; use a split with more")
    counts = [len(parts.train), len(parts.validation), len(parts.test)]
    nothing = parts.test.select(np.zeros(len(parts.test), np.bool_))
    return Split(parts.train, parts.validation, nothing, parts.spec.without_final(counts))


def _tried(
    parts: Split, request: TrainRequest, space: Space, before: Sequence[Trial], workers: Workers, *, users: bool
) -> Trial:
    """Run the next trial. Raises BudgetError."""
    optuna = require("optuna", "tune")
    proposal = _proposal(space, before, request.options.seed)
    changes = _rounded(proposal.params) if before else {}
    config = replace(request.config, **part_of("settings", changes))
    method_config = replace(request.method_config, **part_of("method_settings", changes))
    curves: list[list[float]] = []

    def watch(step: Step) -> None:
        if step.phase == "settings" or step.candidates > 1 or step.epoch == 0:
            return  # the first of several settings predicts little of the best
        curves[-1].append(step.values[SELECTION])
        proposal.report(step.values[SELECTION], _place(len(curves) - 1, step.epoch))
        if step.epoch >= PRUNED_FROM and proposal.should_prune():
            raise optuna.TrialPruned

    def fit(sizes: SizePlan, *, final: bool = True, **how: Any) -> FitResult:
        nonlocal config
        curves.append([])
        result = Fit(
            request.backbone,
            parts,
            sizes,
            config,
            request.options,
            progress=watch,
            **how,
        ).run()
        config = result.config
        return result

    score, epochs, pruned = None, 0, False
    try:
        result = request.method.fit(job_of(request, parts, fit, workers=workers), method_config)
        method_config = result.method_config or method_config
        config, epochs = result.config, result.epochs
        score = result.validation[SELECTION] if users else _score_of_histories(request, parts, result)
    except DataError:
        # Training diverged: the trial has no score, and the study continues.
        pass
    except optuna.TrialPruned:
        pruned = True
    chosen = {f"settings.{name}": value for name, value in asdict(config).items()}
    chosen |= {f"method_settings.{name}": value for name, value in asdict(method_config).items()}
    return Trial({name: chosen[name] for name in space}, score, epochs, pruned, curves)


def _score_of_histories(request: TrainRequest, parts: Split, result: FitResult) -> float:
    """Return the score of users computed from their histories. Raises UnsupportedError without an encoder."""
    if result.vectors.sparse_items is not None:
        return validate(parts, result.vectors, request.options)[SELECTION]
    encoded = request.backbone.encode(result.vectors, parts.train, result.config, threads=request.options.threads)
    if encoded is None:
        raise UnsupportedError(
            f"{request.backbone.name} has no encoder of histories, so that its users are always a table; leave "
            "--no-users out, or choose another --backbone"
        )
    return validate(parts, replace(result.vectors, users=encoded.users, encoder=None), request.options)[SELECTION]


def _proposal(space: Space, before: Sequence[Trial], seed: int) -> Any:
    """Return Optuna's next trial, with its values by the names of `space` and its decision to prune."""
    optuna = require("optuna", "tune")
    areas = {name: _distribution(area) for name, area in space.items()}
    own_seed = int(np.random.SeedSequence([seed, len(before)]).generate_state(1)[0])
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=own_seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNED_FROM, n_min_trials=PRUNED_FROM),
    )
    states = optuna.trial.TrialState
    for trial in before:
        if trial.score is None and not trial.pruned:
            continue
        # A setting of None has no value in its range; the others of that trial have.
        params = {name: value for name, value in trial.values.items() if value is not None}
        study.add_trial(
            optuna.trial.create_trial(
                state=states.PRUNED if trial.pruned else states.COMPLETE,
                params=params,
                distributions={name: areas[name] for name in params},
                value=trial.score,
                intermediate_values={
                    _place(fit, epoch): score
                    for fit, curve in enumerate(trial.curves)
                    for epoch, score in enumerate(curve, 1)
                },
            )
        )
    return study.ask(areas)


def _place(fit: int, epoch: int) -> int:
    """Return Optuna's step of an epoch, counted from 1, of a trial's fit, counted from 0."""
    return fit * _STEPS_A_FIT + epoch


def _rounded(proposed: Mapping[str, Any]) -> dict[str, Any]:
    """Return values rounded to four digits, so that a command line repeats them exactly."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in proposed.items()}


def _distribution(area: Range | tuple[str, ...]) -> Any:
    distributions = require("optuna.distributions", "tune")
    if isinstance(area, tuple):
        return distributions.CategoricalDistribution(area)
    kind = distributions.IntDistribution if isinstance(area.low, int) else distributions.FloatDistribution
    return kind(area.low, area.high, log=area.log)
