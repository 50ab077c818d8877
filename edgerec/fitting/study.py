"""The record of `fit`: every training that was tried, and the bundles that were exported from it, on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypedDict

from edgerec.budget import front, knee
from edgerec.errors import RunError
from edgerec.files import read_if_there, write_json
from edgerec.fitting.recipes import Recipe, Tried, Variant
from edgerec.json_records import parse_json, record

FORMAT, VERSION = "edgerec.fit", 2
FILE_NAME = "fit.json"
FINALISTS = 4
"""Number of trials that are repeated on other splits, where one split has few users."""
NEAR = 0.97
"""Bundles below this share of the best are not repeated."""


@dataclass(frozen=True)
class Exported:
    """A bundle of a trial, measured on validation data.

    Attributes:
        max_bytes: size that it was fitted to; None for a plain precision that was not limited.
        nbytes: bytes of all files.
        metrics: validation metrics of its answers, by name.
        ms: median latency of a request in milliseconds, on the machine that searches.
    """

    variant: Variant
    max_bytes: int | None
    nbytes: int
    metrics: dict[str, float]
    ms: float


@dataclass(frozen=True)
class FitTrial:
    """A training that was tried.

    Attributes:
        bundles: its bundles; empty if it failed.
        seconds: time of the training, the exports and the measurements.
        failure: the reason of a failure; '' for success.
    """

    recipe: Recipe
    bundles: list[Exported]
    seconds: float
    failure: str = ""


@dataclass(frozen=True)
class Repeat:
    """A trial repeated on another split.

    Attributes:
        trial: the number of the trial, from 0.
        split: the number of the split, from 1.
        bundles: its bundles there; empty if it failed.
        seconds: as of a trial.
    """

    trial: int
    split: int
    bundles: list[Exported]
    seconds: float


@dataclass(frozen=True)
class Choice:
    """A bundle of a trial, as a choice.

    Attributes:
        trial: the number of the trial, from 0.
        limit: the size that its final bundle is fitted to.
        score: the mean of its metric over the splits that it was measured on.
    """

    trial: int
    bundle: Exported
    limit: int
    score: float


class _Final(TypedDict):
    trial: int
    limit: int
    nbytes: int
    validation: float
    test: dict[str, float] | None
    everything: bool


@dataclass
class Study:
    """All trials of one `fit`, in order.

    Attributes:
        command: everything that decides the trials, as JSON.
        metric: the metric that decides, such as 'ndcg@20'.
        trials: in the order in which they ended.
        repeats: trials on other splits, in the order in which they ended.
        sizes: bundles of the chosen training at other sizes, for the page.
        final: the exported bundle: its trial, limit, bytes and metrics; None before the end.
    """

    command: dict[str, Any]
    metric: str
    trials: list[FitTrial] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    sizes: list[Exported] = field(default_factory=list)
    final: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Time that the trials took."""
        return sum(trial.seconds for trial in self.trials) + sum(repeat.seconds for repeat in self.repeats)

    @property
    def failures(self) -> list[str]:
        """The name and the reason of each trial that failed."""
        return [f"{trial.recipe.name}: {trial.failure}" for trial in self.trials if trial.failure]

    def score(self, bundle: Exported) -> float:
        """Return the metric of a bundle that decides."""
        return bundle.metrics[self.metric]

    def mean(self, trial: int, bundle: Exported) -> float:
        """Return the mean score of a trial's bundle over the splits that it was measured on."""
        others = (_same(bundle, one.bundles) for one in self.repeats if one.trial == trial)
        return fmean([self.score(bundle), *(self.score(one) for one in others if one is not None)])

    def tried(self, *, max_bytes: int | None, max_ms: float | None) -> list[Tried]:
        """Return each recipe with the best score of its bundles within the limits."""
        found = []
        for trial in self.trials:
            scores = [self.score(one) for one in trial.bundles if _is_within(one, max_bytes, max_ms)]
            found.append(Tried(trial.recipe, max(scores, default=None)))
        return found

    def best(self, *, max_bytes: int | None, max_ms: float | None) -> Choice | None:
        """Return the best bundle within the limits, the first of equals; None if there is none.

        Without a size it is the knee of the front.
        """
        choices = self._repeated(max_bytes, max_ms) or self._choices(max_bytes, max_ms)
        if not choices:
            return None
        if max_bytes is not None:
            return max(choices, key=lambda one: one.score)
        best = front(choices, nbytes=lambda one: one.bundle.nbytes, score=lambda one: one.score)
        return knee(best, score=lambda one: one.score)

    def finalists(self, *, max_bytes: int | None, max_ms: float | None) -> list[int]:
        """Return the numbers of the trials with bundles near the best on the first split, best first."""
        scores: dict[int, float] = {}
        for number, bundle in self._within(max_bytes, max_ms):
            scores[number] = max(scores.get(number, 0.0), self.score(bundle))
        least = NEAR * max(scores.values(), default=0.0)
        near = [number for number, score in scores.items() if score >= least]
        return sorted(near, key=lambda number: -scores[number])[:FINALISTS]

    def _choices(self, max_bytes: int | None, max_ms: float | None) -> list[Choice]:
        """Return the bundles within the limits, by their scores on the first split."""
        return [
            Choice(number, bundle, max_bytes or bundle.max_bytes or bundle.nbytes, self.score(bundle))
            for number, bundle in self._within(max_bytes, max_ms)
        ]

    def _repeated(self, max_bytes: int | None, max_ms: float | None) -> list[Choice]:
        """Return those that were measured on as many other splits as the second of the finalists, by their means."""
        finalists = self.finalists(max_bytes=max_bytes, max_ms=max_ms)
        repeats = {number: [one for one in self.repeats if one.trial == number] for number in finalists}
        rounds = sorted(map(len, repeats.values()), reverse=True)[1] if len(repeats) > 1 else 0
        found = []
        for choice in self._choices(max_bytes, max_ms) if rounds else ():
            same = [_same(choice.bundle, one.bundles) for one in repeats.get(choice.trial, [])[:rounds]]
            scores = [self.score(one) for one in same if one is not None]
            if len(scores) == rounds:  # it fitted on each of them
                found.append(replace(choice, score=fmean([choice.score, *scores])))
        return found

    def _within(self, max_bytes: int | None, max_ms: float | None) -> Iterator[tuple[int, Exported]]:
        for number, trial in enumerate(self.trials):
            for bundle in trial.bundles:
                if _is_within(bundle, max_bytes, max_ms) and not trial.recipe.max_epochs:
                    yield number, bundle

    def reject(self, trial: int, failure: str) -> None:
        """Record that the bundles of a trial cannot be chosen."""
        self.trials[trial] = replace(self.trials[trial], bundles=[], failure=failure)
        self.repeats = [one for one in self.repeats if one.trial != trial]
        self.sizes = []

    def save(self, folder: Path) -> None:
        """Write the study into its folder. Raises StorageError."""
        fields = {"format": FORMAT, "version": VERSION, "command": self.command, "metric": self.metric}
        lists = {name: [asdict(one) for one in getattr(self, name)] for name in ("trials", "repeats", "sizes")}
        write_json(folder / FILE_NAME, {**fields, **lists, "final": self.final})

    @classmethod
    def opened(cls, folder: Path, command: dict[str, Any], metric: str) -> Study:
        """Return the study in a folder, or a new one. Raises RunError if it is another's or damaged; StorageError."""
        path = folder / FILE_NAME
        if (content := read_if_there(path)) is None:
            return cls(command, metric)
        try:
            file = record(_File, parse_json(content))
            if file["format"] != FORMAT or file["version"] != VERSION:
                raise RunError(f"{path} is not the record of a fit, or of another EdgeRec; choose another --out")
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); delete {folder} to start again") from error
        if file["command"] != command or file["metric"] != metric:
            changed = sorted(name for name in command if file["command"].get(name) != command[name])
            raise RunError(
                f"{folder} belongs to a fit with other options ({', '.join(changed) or 'metric'}); give the same "
                "options to continue it, choose another --out, or --overwrite"
            )
        final = file["final"]
        return cls(
            command, metric, file["trials"], file["repeats"], file["sizes"], None if final is None else dict(final)
        )


class _File(TypedDict):
    format: str
    version: int
    command: dict[str, Any]
    metric: str
    trials: list[FitTrial]
    repeats: list[Repeat]
    sizes: list[Exported]
    final: _Final | None


def _same(bundle: Exported, among: list[Exported]) -> Exported | None:
    """Return the bundle that was exported in the same way."""
    return next((one for one in among if (one.variant, one.max_bytes) == (bundle.variant, bundle.max_bytes)), None)


def _is_within(bundle: Exported, max_bytes: int | None, max_ms: float | None) -> bool:
    small = max_bytes is None or bundle.nbytes <= max_bytes
    return small and (max_ms is None or bundle.ms <= max_ms)
