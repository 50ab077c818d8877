"""One search of `fit`: recipes are trained on a part of the training data, exported, and measured on the rest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edgerec.api import train
from edgerec.data import Interactions, SplitSpec
from edgerec.errors import BenchError, BudgetError, EdgeRecError, RunError
from edgerec.fitting.recipes import Recipe, Variant, next_recipe
from edgerec.fitting.study import NEAR, Choice, Exported, FitTrial, Repeat, Study
from edgerec.fitting.validation import MOST_USERS, ValidationTest
from edgerec.runtime import Recommender
from edgerec.runtime.stored import SUFFIX
from edgerec.training import Run, Step
from edgerec_export import ExportStep, Source, export, from_run

PLAIN = {"fp16": 2.0, "int8": 1.0, "int4": 0.5}
"""Precisions of whole tables that are tried along with fitted ones, with the bytes of a value."""
MOST_REPEATS = 3
"""Splits in addition to the first on which the best trials are repeated, if that has few users: as many more as make
`MOST_USERS` of them."""
OTHER_SIZES = (0.25, 0.5, 2.0, 4.0)
"""Other sizes at which the chosen training is exported for the page, as shares of the size."""
RESERVE = 2.0
"""Time for the end, as a multiple of the time of the best trial: it is trained again, on more data."""


@dataclass(frozen=True)
class FitProgress:
    """The state of a fit, for a progress bar.

    Attributes:
        doing: a recipe's name, or the step that runs.
        trials: number of finished trials.
        best: the name of the best bundle so far; '' before the first.
        score: its validation metric; None before the first.
        nbytes: its bytes; None before the first.
        seconds_left: None with a number of trials.
        step: step of the training that runs; None between trainings.
        finished: the trial that has just ended; else None.
        note: news to print once; else ''.
    """

    doing: str
    trials: int
    best: str
    score: float | None
    nbytes: int | None
    seconds_left: float | None
    step: Step | None = None
    finished: FitTrial | None = None
    note: str = ""


OnProgress = Callable[[FitProgress], None]
Latency = Callable[[Path], float]
"""Returns the median time of a request to a bundle in milliseconds. Raises BenchError."""


@dataclass(frozen=True)
class Limits:
    """Limits of a bundle, and what it contains.

    Attributes:
        max_bytes: None to choose a size as well.
        max_rss: bytes of memory of a request, or None.
        max_ms: milliseconds of a request, or None.
        users: True for bundles with a user table, False for bundles without, None for either.
        ids, titles: as `edgerec_export.export` takes them.
    """

    max_bytes: int | None
    max_rss: int | None
    max_ms: float | None
    users: bool | None
    ids: str
    titles: bool

    @property
    def sides(self) -> tuple[bool, ...]:
        """The values of `users` to try; without users first."""
        return (False, True) if self.users is None else (self.users,)


class OutOfTimeError(Exception):
    """Raised in a training or an export that would end after the time."""


class Search:
    """The trials of one fit on its inner split."""

    def __init__(
        self,
        training: Interactions,
        folder: Path,
        spec: SplitSpec,
        limits: Limits,
        study: Study,
        *,
        threads: int | None,
        sample_users: int | None,
        minutes: float | None,
        one_file: bool,
        latency: Latency | None,
        progress: OnProgress | None,
    ) -> None:
        """Prepare a search.

        Args:
            training: the interactions without the test part; they are split again by `spec`.
            folder: folder of the study and of what is being trained.
            study: earlier trials, whose time counts.
            sample_users: number of users that trainings are measured on; None for all.
            minutes: None for no limit.
            one_file: True to measure bundles in one file.
            latency: None to measure it on this machine.
        """
        self._sample_users = sample_users
        self._data, self._spec, self.folder, self.limits, self.study = training, spec, folder, limits, study
        self._threads, self._latency = threads, latency
        self._progress = progress or (lambda state: None)
        self._test = ValidationTest.of(self._data, spec, self._sample_users)
        self._bundle = folder / f"bundle{SUFFIX if one_file else ''}"
        fewest = -(-MOST_USERS // max(len(self._test.rows), 1)) - 1
        self.repeats = min(fewest, MOST_REPEATS) if spec.tests_at_random else 0
        self._end = None if minutes is None else time.monotonic() + max(60 * minutes - study.seconds, 0.0)

    def best(self) -> Choice | None:
        """Return the best bundle so far."""
        return self.study.best(max_bytes=self.limits.max_bytes, max_ms=self.limits.max_ms)

    def run(self, sizes: list[int], *, trials: int | None) -> bool:
        """Try recipes until the time, the trials or the recipes are used up, and repeat the best on other splits.

        Returns True if Ctrl-C ended it.

        Args:
            sizes: sizes that full tables are fitted to.

        Raises KeyboardInterrupt before the first bundle.
        """
        if self.study.trials:
            self.show("continuing", note=f"continuing after {len(self.study.trials)} finished trainings")
        try:
            with suppress(OutOfTimeError):
                while (trials is None or len(self.study.trials) < trials) and self.has_time(for_trial=True):
                    if (recipe := self.next_recipe()) is None:
                        break
                    self._try(recipe, sizes)
            with suppress(OutOfTimeError):
                for number, split in self._missing_repeats():
                    if not self.has_time():
                        break
                    self._repeat(number, split, sizes)
        except KeyboardInterrupt:
            if self.best() is None:
                raise
            text = "stopping: the best so far is trained on all data; Ctrl-C again quits without a bundle"
            self.show("stopping", note=text)
            return True
        return False

    def _missing_repeats(self) -> list[tuple[int, int]]:
        """Return the number of each trial to repeat, and that of the split."""
        finalists = self._finalists()
        known = {(one.trial, one.split) for one in self.study.repeats}
        splits = range(1, self.repeats + 1) if len(finalists) > 1 else ()
        return [(number, split) for split in splits for number in finalists if (number, split) not in known]

    def next_recipe(self) -> Recipe | None:
        """Return the recipe to try next; None if nothing is left."""
        limits = self.limits
        tried = self.study.tried(max_bytes=limits.max_bytes, max_ms=limits.max_ms)
        return next_recipe(tried, self._data.n_items, limits.max_bytes, limits.users)

    def precisions(self, recipe: Recipe, values: int) -> Sequence[str]:
        """Return the precisions to export a training in.

        Args:
            values: number of values of its tables, if they are whole.
        """
        if recipe.within:
            return [recipe.precision]
        limit = self.limits.max_bytes
        return ["auto", *(name for name, size in PLAIN.items() if limit is None or size * values <= limit)]

    def other_sizes(self) -> None:
        """Export the best training at other sizes, for the page."""
        best, limit = self.best(), self.limits.max_bytes
        if best is None or limit is None:
            return
        recipe = self.study.trials[best.trial].recipe
        source = from_run(self.train(recipe, self._data, self._spec, self.folder / "best"))
        found = list[Exported]()
        variant = Variant(best.bundle.variant.users, "auto")
        for share in OTHER_SIZES:
            self.show(f"{share:g} of the size")
            try:
                one = self._measured(source, variant, int(share * limit), self._test, self.has_time)
            except BudgetError:
                continue
            except OutOfTimeError:
                break
            if not found or one.nbytes > found[-1].nbytes:
                found.append(one)
        self.study.sizes = found
        self.study.save(self.folder)

    def show(self, doing: str, step: Step | None = None, finished: FitTrial | None = None, *, note: str = "") -> None:
        """Report what runs."""
        best = self.best()
        name = "" if best is None else f"{self.study.trials[best.trial].recipe.name} {best.bundle.variant.name}"
        left = None if self._end is None else max(self._end - time.monotonic(), 0.0)
        score = None if best is None else best.score
        nbytes = None if best is None else best.bundle.nbytes
        self._progress(FitProgress(doing, len(self.study.trials), name, score, nbytes, left, step, finished, note))

    def train(
        self, recipe: Recipe, data: Interactions, spec: SplitSpec, place: Path, go_on: Callable[[], bool] | None = None
    ) -> Run:
        """Train a recipe into a folder, or continue what an interrupted call began there.

        Args:
            go_on: called at each step; False stops the training by an OutOfTimeError.
        """

        def step(one: Step) -> None:
            if go_on is not None and not go_on():
                raise OutOfTimeError
            self.show(recipe.name, one)

        how = {
            **recipe.train_kwargs(self.limits.max_bytes),
            "split": spec,
            "seed": spec.seed,
            "threads": self._threads,
            "sample_users": self._sample_users,
            "out": place,
            "progress": step,
        }
        try:
            return train(data, resume=True, **how)
        except RunError:
            shutil.rmtree(place, ignore_errors=True)  # begun by a call that was killed, for another recipe
            return train(data, **how)

    def has_time(self, *, for_trial: bool = False) -> bool:
        """Return True if what remains suffices to train the best again; always before the first bundle.

        Args:
            for_trial: True if it must also suffice to repeat the best trials.
        """
        best = self.best()
        if self._end is None or best is None:
            return True
        trials = self.study.trials
        repeating = sum(trials[number].seconds for number, _ in self._missing_repeats()) if for_trial else 0.0
        return self._end - time.monotonic() > RESERVE * trials[best.trial].seconds + repeating

    def _try(self, recipe: Recipe, sizes: list[int]) -> None:
        """Train a recipe, export and measure its bundles, and record the trial."""
        started, place, before = time.monotonic(), self.folder / "trial", self.best()
        failure = ""
        self.show(recipe.name)
        try:
            bundles = self._tried(recipe, self._spec, self._test, sizes, lambda: self.has_time(for_trial=True))
            failure = "" if bundles else "no bundle of its tables is within the limits"
        except BenchError:
            raise  # the device is lost, and no recipe can be blamed
        except (EdgeRecError, MemoryError) as error:
            bundles, failure = [], str(error) or "out of memory"
        trial = FitTrial(recipe, bundles, round(time.monotonic() - started, 3), failure)
        self.study.trials.append(trial)
        self.study.final = None
        self.study.save(self.folder)
        if self.best() != before:
            self.study.sizes = []
            shutil.rmtree(self.folder / "best", ignore_errors=True)
            place.rename(self.folder / "best")
        shutil.rmtree(place, ignore_errors=True)
        self.show(recipe.name, finished=trial)

    def _repeat(self, number: int, split: int, sizes: list[int]) -> None:
        """Repeat a trial on another split, and record it. Raises OutOfTimeError."""
        recipe, started, place = self.study.trials[number].recipe, time.monotonic(), self.folder / "trial"
        before = self.best()
        name = f"{recipe.name}, split {split + 1}"
        self.show(name)
        spec = replace(self._spec, seed=self._spec.seed + split)
        test = ValidationTest.of(self._data, spec, self._sample_users)
        try:
            bundles = self._tried(recipe, spec, test, sizes, self.has_time, only=self._near(number))
        except BenchError:
            raise
        except (EdgeRecError, MemoryError):
            bundles = []  # it has no bundle on this split, and is not chosen
        self.study.repeats.append(Repeat(number, split, bundles, round(time.monotonic() - started, 3)))
        self.study.final = None
        if (best := self.best()) is None or before is None or best.trial != before.trial:
            self.study.sizes = []
            shutil.rmtree(self.folder / "best", ignore_errors=True)
        self.study.save(self.folder)
        shutil.rmtree(place, ignore_errors=True)
        found = f"{self.study.metric} {max(map(self.study.score, bundles)):.4f}" if bundles else "no bundle"
        self.show(name, note=f"repeated: {name}, {self.study.repeats[-1].seconds:.1f} s, {found}")

    def _tried(
        self,
        recipe: Recipe,
        spec: SplitSpec,
        test: ValidationTest,
        sizes: list[int],
        go_on: Callable[[], bool],
        *,
        only: Container[tuple[Variant, int | None]] | None = None,
    ) -> list[Exported]:
        """Return the measured bundles of a training on a split.

        Raises EdgeRecError for a recipe that cannot be trained, BenchError for a lost device, OutOfTimeError.
        """
        run = self.train(recipe, self._data, spec, self.folder / "trial", go_on)
        return list(self._bundles(run, recipe, sizes, test, go_on, only))

    def _finalists(self) -> list[int]:
        return self.study.finalists(max_bytes=self.limits.max_bytes, max_ms=self.limits.max_ms)

    def _near(self, number: int) -> set[tuple[Variant, int | None]]:
        """Return the exports of a trial whose bundles are not far from the best of all."""
        study = self.study
        best = max(study.score(one) for trial in self._finalists() for one in study.trials[trial].bundles)
        bundles = study.trials[number].bundles
        return {(one.variant, one.max_bytes) for one in bundles if study.score(one) >= NEAR * best}

    def _bundles(
        self,
        run: Run,
        recipe: Recipe,
        sizes: list[int],
        test: ValidationTest,
        go_on: Callable[[], bool],
        only: Container[tuple[Variant, int | None]] | None,
    ) -> Iterator[Exported]:
        """Yield the measured bundles of a run: with and without users, fitted, and in plain precisions."""
        source, limit = from_run(run), self.limits.max_bytes
        sides = [users for users in self.limits.sides if (run.users is not None if users else run.encoder is not None)]
        for users in sides:
            rows = run.items.n_rows + (run.users.n_rows if users and run.users is not None else 0)
            for precision in self.precisions(recipe, rows * run.items.d):
                for size in sizes if precision == "auto" else [limit]:
                    if only is not None and (Variant(users, precision), size) not in only:
                        continue
                    self.show(f"{recipe.name}, {Variant(users, precision).name}")
                    try:
                        yield self._measured(source, Variant(users, precision), size, test, go_on)
                    except BudgetError:
                        continue

    def _measured(
        self, source: Source, variant: Variant, size: int | None, test: ValidationTest, go_on: Callable[[], bool]
    ) -> Exported:
        """Export a bundle and measure its answers. Raises OutOfTimeError before a step that `go_on` forbids."""
        limits = self.limits

        def step(_: ExportStep) -> None:
            if not go_on():
                raise OutOfTimeError

        done = export(
            source,
            self._bundle,
            precision=variant.precision,
            max_bytes=size,
            fit=size is not None,
            max_rss=limits.max_rss,
            users=variant.users,
            ids=limits.ids,
            titles=limits.titles,
            verify=False,
            progress=step,
        )
        with Recommender.load(self._bundle) as model:
            ms = test.latency(model) if self._latency is None else self._latency(self._bundle)
            return Exported(variant, size, done.nbytes, test.metrics(model), ms)
