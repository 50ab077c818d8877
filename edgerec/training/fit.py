"""The training loop of all backbones: settings and epochs are chosen on validation, with a checkpoint each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal, NotRequired, TypedDict

from edgerec.data import Sample, Split
from edgerec.errors import DataError, RunError
from edgerec.models import Backbone, SharingTrainer, SizePlan, Trainer, Vectors
from edgerec.models.sparse_items import evaluate_fit
from edgerec.training.checkpoint import Checkpoint, Snapshot
from edgerec.training.search import next_point

SELECTION = "ndcg@20"
KS = (5, 10, 20)
_USERS_OF_TRIALS = 10_000
"""Maximum number of users whose validation items a trial of settings is measured on."""


@dataclass(frozen=True)
class Step:
    """One epoch, of a training or of a trial of settings, or one trial of a method's search, for a progress bar.

    Attributes:
        phase: 'settings' (trials of settings on validation), 'choose' (epochs on validation), 'final' (training on all
            of train), 'prune' (the choice of protected values), 'full' (the full-size model of a search), 'search'
            (evaluated actions) or 'mask' (PEP's search of a mask).
        candidate, candidates: number of the settings, from 1, and their count.
        epoch, max_epochs: number of the epoch, from 1, and the maximum; of trials in a search. The number of trials of
            settings is not known beforehand: their maximum is their number so far.
        values: losses, validation metrics and tried settings by name.
    """

    phase: str
    candidate: int
    candidates: int
    epoch: int
    max_epochs: int
    values: dict[str, float]


Progress = Callable[[Step], None]
SharedStart = Callable[[int], Any]
"""Returns `Backbone.shared_start` of some dimensions, computed on the first call."""
Start = Callable[..., Trainer]
"""Starts a fit, with the arguments of `Backbone.trainer`."""


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit of any backbone.

    Attributes:
        seed: seed of every random choice.
        threads: maximum number of threads; None for the backbone's own choice. On the CPU one makes the result
            reproducible to the bit.
        device: 'cpu', or 'cuda' for a GPU.
        max_epochs, patience: None for the backbone's own.
        sample_users: number of users on which validation and test parts are measured; None for all.
    """

    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    max_epochs: int | None = None
    patience: int | None = None
    sample_users: int | None = None

    @property
    def sample(self) -> Sample | None:
        """The sample of users on which parts are measured; None for all of them."""
        return None if self.sample_users is None else Sample(self.sample_users, self.seed)


@dataclass(frozen=True)
class FitResult:
    """The result of a fit.

    Attributes:
        vectors: the resulting vectors, masked to their sizes.
        sizes: the sizes of the training.
        config: the chosen settings.
        epochs: the chosen number of epochs.
        validation: validation metrics of the choice; empty if nothing was held back.
        history: one entry an epoch, or a trial of the method's search.
        chosen: the vectors of the `validation` metrics, which were not trained on that part; None if they were not
            requested, or nothing was held back.
        method_config: the method's settings with its own choices; None if it makes none.
        sparse: True if zeros may be anywhere, so that tables are stored as CSR; else they follow `sizes`.
    """

    vectors: Vectors
    sizes: SizePlan
    config: Any
    epochs: int
    validation: dict[str, float]
    history: list[dict[str, Any]]
    chosen: Vectors | None = None
    method_config: Any = None
    sparse: bool = False


def validate(split: Split, vectors: Vectors, options: FitOptions) -> dict[str, float]:
    """Return the metrics on the validation part; train is masked."""
    how: dict[str, Any] = {"ks": KS, "threads": options.threads, "sample": options.sample}
    return evaluate_fit(vectors, split.train, [split.train], split.validation, **how)


def shared_start(backbone: Backbone, split: Split, config: Any, options: FitOptions) -> SharedStart:
    """Return the shared start of a backbone's fits of a split, with the settings that were requested."""
    return cache(lambda d: backbone.shared_start(split.train, d, config, options.seed, options.device))


class _Peak(TypedDict):
    score: float
    epoch: int


class _Leader(TypedDict):
    candidate: int
    epoch: int
    metrics: dict[str, float]


class _Trial(TypedDict):
    settings: dict[str, float]
    score: float
    variant: NotRequired[int]


class _Loop(TypedDict):
    """The state of the training loop, as its checkpoint stores it."""

    phase: Literal["settings", "choose", "final"]
    trials: NotRequired[list[_Trial]]
    candidate: int
    epoch: int
    leader: _Leader | None
    history: list[dict[str, Any]]
    peak: NotRequired[_Peak]


def _diverged() -> DataError:
    return DataError("no epoch gave a finite validation score: training diverged; lower the learning rate")


class Fit:
    """A fit of a backbone within sizes; a new Fit resumes a `run` that was killed at any point."""

    def __init__(
        self,
        backbone: Backbone,
        split: Split,
        sizes: SizePlan,
        config: Any,
        options: FitOptions,
        *,
        keep_chosen: bool = False,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
        start: Start | None = None,
        least: int = 0,
        chosen: FitResult | None = None,
        shared: SharedStart | None = None,
    ) -> None:
        """Prepare a fit, or resume the one of the checkpoint.

        Args:
            keep_chosen: return the vectors that were best on validation as well.
            checkpoint: written after each epoch; the fit resumes from it.
            progress: called after each epoch.
            start: starts a trainer that replaces the backbone's.
            least: number of first epochs in which training does not stop early.
            chosen: a fit within the same sizes without a final training; its settings and epochs are used.
            shared: the shared start that several fits of one split have in common; None to compute one of its own.
        """
        self._split, self._sizes, self._options = split, sizes, options
        self._backbone, self._config, self._own_start = backbone, config, start
        self._keeps_best = keep_chosen or not split.fit_all
        self._variants = backbone.variants(config)
        self._axes = [backbone.open_axes(variant) if len(split.validation) else {} for variant, _ in self._variants]
        self._shared = shared or shared_start(backbone, split, config, options)
        self._max_epochs = options.max_epochs or backbone.max_epochs
        self._patience, self._least = options.patience or backbone.patience, least
        self._checkpoint, self._progress = checkpoint, progress or (lambda step: None)
        found = checkpoint.load(_Loop) if checkpoint else None
        if checkpoint and found and not self._is_valid(found.loop):
            raise RunError(f"{checkpoint.path} is damaged (not a state of this fit); train again with --overwrite")
        if found and found.best is not None:  # a checkpoint has the users of all ranks
            found.best = found.best.of_users(split.train.own_users)
        self._at = found or self._begun(chosen)
        self._candidates = [chosen.config] if chosen else self._finalists()

    def run(self) -> FitResult:
        """Choose on validation, then train on all of train if the split has a final training.

        Raises DataError if training diverges; StorageError if a checkpoint cannot be written.
        """
        if len(self._split.validation) == 0:
            leader = {"candidate": 0, "epoch": self._max_epochs, "metrics": {}}
            self._at.loop |= {"phase": "final", "leader": leader}
            return self._train_final()
        if self._at.loop["phase"] == "settings":
            self._try_settings()
        if self._at.loop["phase"] == "choose":
            self._choose()
        return self._train_final() if self._split.fit_all else self._result(self._best())

    def _is_valid(self, loop: dict[str, Any]) -> bool:
        """Return True if the state is one of this fit."""
        trials = loop.get("trials", [])
        if not all(self._is_tried(trial) for trial in trials):
            return False
        if any(self._axes) and loop["phase"] != "settings" and not trials:
            return False
        leader, last = loop["leader"], len(self._finalists(loop)) - 1
        if loop["epoch"] < 0 or (leader is None and loop["phase"] == "final" and len(self._split.validation)):
            return False
        if leader is not None and not (
            0 <= leader["candidate"] <= last and (SELECTION in leader["metrics"] or not len(self._split.validation))
        ):
            return False
        return bool(0 <= loop["candidate"] <= last + (loop["phase"] == "choose"))

    def _is_tried(self, trial: _Trial) -> bool:
        """Return True if the trial has a value of each axis of its variant."""
        number = trial.get("variant", 0)
        axes = self._axes[number] if 0 <= number < len(self._axes) else None
        return axes is not None and (
            set(trial["settings"]) == set(axes)
            and all(value in axes[name] for name, value in trial["settings"].items())
        )

    def _begun(self, chosen: FitResult | None) -> Snapshot:
        if chosen is None:
            phase = "settings" if any(self._axes) else "choose"
            return Snapshot({"phase": phase, "candidate": 0, "epoch": 0, "leader": None, "history": []})
        leader = {"candidate": 0, "epoch": chosen.epochs, "metrics": chosen.validation}
        loop = {"phase": "final", "candidate": 0, "epoch": 0, "leader": leader}
        return Snapshot({**loop, "history": list(chosen.history)}, best=chosen.vectors if self._keeps_best else None)

    def _finalists(self, loop: dict[str, Any] | None = None) -> list[Any]:
        """Return the settings to train in full: those of the best trials of each variant, the best first."""
        trials = (self._at.loop if loop is None else loop).get("trials", [])
        found = []
        for number, (config, count) in enumerate(self._variants):
            own = [trial for trial in trials if trial.get("variant", 0) == number]
            best = sorted(own, key=lambda trial: -float(trial["score"]))[:count]
            found += [replace(config, **trial["settings"]) for trial in best] or [self._backbone.closed(config)]
        return found

    def _try_settings(self) -> None:
        """Try settings of each variant by short trainings until no neighbour of the best ones is left."""
        for number, axes in enumerate(self._axes):
            if axes:
                self._try_variant(number, axes)
        self._candidates = self._finalists()
        self._next(phase="choose", candidate=0)

    def _try_variant(self, variant: int, axes: Mapping[str, Sequence[float]]) -> None:
        trials, config = self._at.loop.setdefault("trials", []), self._variants[variant][0]
        start = tuple(getattr(self._backbone.closed(config), name) for name in axes)
        most = min(self._options.sample_users or _USERS_OF_TRIALS, _USERS_OF_TRIALS)
        options = replace(self._options, sample_users=most)
        while True:
            own = [trial for trial in trials if trial.get("variant", 0) == variant]
            scores = {tuple(trial["settings"][name] for name in axes): trial["score"] for trial in own}
            point = next_point(axes, start, scores)
            if point is None:
                break
            settings = dict(zip(axes, point, strict=True))
            short, epochs = self._backbone.trial(replace(config, **settings), self._max_epochs)
            trainer = self._new_trainer(short, final=False)
            if self._at.loop["epoch"] > 0:
                trainer.restore(self._at.trainer)
            while self._at.loop["epoch"] < epochs:
                values = {**settings, **trainer.epoch()}
                self._at.loop["epoch"] += 1
                if self._at.loop["epoch"] < epochs:
                    self._at.trainer = trainer.state()
                    self._save()
                    self._progress(Step("settings", 1, 1, len(trials) + 1, len(trials) + 1, values))
            score = validate(self._split, trainer.vectors(), options)[SELECTION]
            trials.append({"settings": settings, "score": score, "variant": variant})
            self._at.loop["epoch"], self._at.trainer = 0, {}
            self._record("settings", {**settings, SELECTION: score}, len(trials), len(trials))
            self._save()

    def _choose(self) -> None:
        for candidate in range(self._at.loop["candidate"], len(self._candidates)):
            trainer = self._start(candidate, final=False)
            loop = self._at.loop
            if self._backbone.starts_trained and loop["epoch"] == 0 and "peak" not in loop:
                self._measure(trainer, {})
                self._at.trainer = trainer.state()
                self._save()
            while not self._is_over(loop):
                values = trainer.epoch()
                loop["epoch"] += 1
                self._measure(trainer, values)
                self._at.trainer = trainer.state()
                self._save()
            self._next(phase="choose", candidate=candidate + 1)
        if self._at.loop["leader"] is None:
            raise _diverged()
        self._next(phase="final", candidate=self._at.loop["leader"]["candidate"])

    def _measure(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Measure the current epoch on validation, and record it."""
        vectors, loop = trainer.vectors(), self._at.loop
        metrics = validate(self._split, vectors, self._options)
        self._record("choose", {**values, SELECTION: metrics[SELECTION]}, self._max_epochs)
        if metrics[SELECTION] > loop.get("peak", {"score": -1.0})["score"]:
            loop["peak"] = {"score": metrics[SELECTION], "epoch": loop["epoch"]}
            self._lead(metrics, vectors)

    def _is_over(self, loop: dict[str, Any]) -> bool:
        """Return True if the current settings reached the maximum of epochs, or their patience without progress."""
        waited = loop["epoch"] - max(loop.get("peak", {"epoch": 0})["epoch"], self._least)
        return bool(loop["epoch"] >= self._max_epochs or waited >= self._patience)

    def _lead(self, metrics: dict[str, float], vectors: Vectors) -> None:
        """Record the current settings as the leader if their score is the best so far."""
        loop = self._at.loop
        if loop["leader"] is None or metrics[SELECTION] > loop["leader"]["metrics"][SELECTION]:
            loop["leader"] = {"candidate": loop["candidate"], "epoch": loop["epoch"], "metrics": metrics}
            self._at.best = vectors if self._keeps_best else None

    def _train_final(self) -> FitResult:
        leader = self._at.loop["leader"]
        trainer = self._start(leader["candidate"], final=True)
        while self._at.loop["epoch"] < leader["epoch"]:
            values = trainer.epoch()
            self._at.loop["epoch"] += 1
            self._record("final", values, leader["epoch"])
            self._at.trainer = trainer.state()
            self._save()
        return self._result(trainer.vectors())

    def _start(self, candidate: int, *, final: bool) -> Trainer:
        """Return a trainer, restored from the snapshot if that is within its fit."""
        trainer = self._new_trainer(self._candidates[candidate], final=final)
        if self._at.loop["epoch"] > 0:
            trainer.restore(self._at.trainer)
        return trainer

    def _new_trainer(self, config: Any, *, final: bool) -> Trainer:
        """Return a trainer that begins with what all trainers of this fit share."""
        trainer = (self._own_start or self._backbone.trainer)(
            self._split.train_all if final else self._split.train,
            self._sizes,
            config,
            seed=self._options.seed,
            threads=self._options.threads,
            device=self._options.device,
        )
        if len(self._split.validation) and isinstance(trainer, SharingTrainer):
            trainer.begin(partial(self._shared, self._sizes.d))
        return trainer

    def _record(self, phase: str, values: dict[str, float], max_epochs: int, number: int | None = None) -> None:
        loop = self._at.loop
        epoch, count = number or loop["epoch"], len(self._candidates)
        step = Step(phase, loop["candidate"] + 1, count, epoch, max_epochs, values)
        loop["history"].append({"phase": phase, "candidate": step.candidate, "epoch": step.epoch, **values})
        self._progress(step)

    def _next(self, *, phase: str, candidate: int) -> None:
        self._at.loop |= {"phase": phase, "candidate": candidate, "epoch": 0}
        self._at.loop.pop("peak", None)
        self._at.trainer = {}
        self._save()

    def _save(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.save(self._at)

    def _best(self) -> Vectors:
        if self._at.best is None:
            raise _diverged()
        return self._at.best

    def _result(self, vectors: Vectors) -> FitResult:
        loop = self._at.loop
        leader = loop["leader"]
        chosen = self._candidates[leader["candidate"]]
        return FitResult(
            vectors, self._sizes, chosen, leader["epoch"], leader["metrics"], loop["history"], self._at.best
        )
