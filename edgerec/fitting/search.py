"""One search of `fit`: recipes are trained on a part of the training data, exported, and measured on the rest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edgerec.api import train
from edgerec.data import Interactions, Sample, Split, SplitSpec, metrics_of_rankings, popularity_of, tested_rows
from edgerec.data import split as split_interactions
from edgerec.errors import BudgetError, EdgeRecError, RunError
from edgerec.fitting.recipes import Recipe, Variant, next_recipe
from edgerec.fitting.study import Choice, Exported, FitTrial, Study
from edgerec.measure import KS, bundle_rankings
from edgerec.runtime import Recommender
from edgerec.runtime.stored import SUFFIX
from edgerec.training import Run, Step
from edgerec_export import Source, export, from_run

PLAIN = {"fp16": 2.0, "int8": 1.0, "int4": 0.5}
"""Precisions of whole tables that are tried along with fitted ones, with the bytes of a value."""
MOST_USERS = 4000
"""Users, drawn once, whose validation metrics are the score of a bundle."""
TIMED, WARM = 30, 5
"""Requests whose median time is the latency of a bundle, after some to warm up."""
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
    """Raised in a training that would end after the time."""


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
        """
        self._data, self._spec, self.folder, self.limits, self.study = training, spec, folder, limits, study
        self._threads, self._sample_users = threads, sample_users
        self._progress = progress or (lambda state: None)
        self._parts: Split = split_interactions(training, spec)
        self._rows = tested_rows(self._parts.test, Sample(min(sample_users or MOST_USERS, MOST_USERS), spec.seed))
        self._bundle = folder / f"bundle{SUFFIX if one_file else ''}"
        self._end = None if minutes is None else time.monotonic() + max(60 * minutes - study.seconds, 0.0)

    def best(self) -> Choice | None:
        """Return the best bundle so far."""
        return self.study.best(max_bytes=self.limits.max_bytes, max_ms=self.limits.max_ms)

    def run(self, sizes: list[int], *, trials: int | None) -> bool:
        """Try recipes until the time, the trials or the recipes are used up; return True if Ctrl-C ended it.

        Args:
            sizes: sizes that full tables are fitted to.

        Raises KeyboardInterrupt before the first bundle.
        """
        if self.study.trials:
            self.show("continuing", note=f"continuing after {len(self.study.trials)} finished trainings")
        while (trials is None or len(self.study.trials) < trials) and self.has_time():
            recipe = self.next_recipe()
            if recipe is None:
                break
            try:
                self._try(recipe, sizes)
            except OutOfTimeError:
                break
            except KeyboardInterrupt:
                if self.best() is None:
                    raise
                text = "stopping: the best so far is trained on all data; Ctrl-C again quits without a bundle"
                self.show("stopping", note=text)
                return True
        return False

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
        best, limit, path = self.best(), self.limits.max_bytes, self.folder / "best"
        if best is None or limit is None or not path.is_dir():
            return
        source, found = from_run(Run.load(path)), list[Exported]()
        variant = Variant(best.bundle.variant.users, "auto")
        for share in OTHER_SIZES:
            self.show(f"{share:g} of the size")
            try:
                one = self._measured(source, variant, int(share * limit))
            except BudgetError:
                continue
            if not found or one.nbytes > found[-1].nbytes:
                found.append(one)
        self.study.sizes = found
        self.study.save(self.folder)

    def show(self, doing: str, step: Step | None = None, finished: FitTrial | None = None, *, note: str = "") -> None:
        """Report what runs."""
        best = self.best()
        name = "" if best is None else f"{self.study.trials[best.trial].recipe.name} {best.bundle.variant.name}"
        left = None if self._end is None else max(self._end - time.monotonic(), 0.0)
        score = None if best is None else self.study.score(best.bundle)
        nbytes = None if best is None else best.bundle.nbytes
        self._progress(FitProgress(doing, len(self.study.trials), name, score, nbytes, left, step, finished, note))

    def train(self, recipe: Recipe, data: Interactions, spec: SplitSpec, place: Path, *, timed: bool = False) -> Run:
        """Train a recipe into a folder, or continue what an interrupted call began there.

        Args:
            timed: stop when the time is used up, by an OutOfTimeError.
        """

        def step(one: Step) -> None:
            if timed and not self.has_time():
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

    def has_time(self) -> bool:
        """Return True if what remains suffices to train the best again; always before the first bundle."""
        best = self.best()
        if self._end is None or best is None:
            return True
        return self._end - time.monotonic() > RESERVE * self.study.trials[best.trial].seconds

    def _try(self, recipe: Recipe, sizes: list[int]) -> None:
        """Train a recipe, export and measure its bundles, and record the trial."""
        started, place, before = time.monotonic(), self.folder / "trial", self.best()
        bundles: list[Exported] = []
        failure = ""
        self.show(recipe.name)
        try:
            run = self.train(recipe, self._data, self._spec, place, timed=True)
            bundles = list(self._bundles(run, recipe, sizes))
            failure = "" if bundles else "no bundle of its tables is within the limits"
        except (EdgeRecError, MemoryError) as error:
            failure = str(error) or "out of memory"
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

    def _bundles(self, run: Run, recipe: Recipe, sizes: list[int]) -> Iterator[Exported]:
        """Yield the measured bundles of a run: with and without users, fitted, and in plain precisions."""
        source, limit = from_run(run), self.limits.max_bytes
        sides = [users for users in self.limits.sides if (run.users is not None if users else run.encoder is not None)]
        for users in sides:
            rows = run.items.n_rows + (run.users.n_rows if users and run.users is not None else 0)
            for precision in self.precisions(recipe, rows * run.items.d):
                for size in sizes if precision == "auto" else [limit]:
                    self.show(f"{recipe.name}, {Variant(users, precision).name}")
                    try:
                        yield self._measured(source, Variant(users, precision), size)
                    except BudgetError:
                        continue

    def _measured(self, source: Source, variant: Variant, size: int | None) -> Exported:
        """Export a bundle and measure its answers."""
        limits = self.limits
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
        )
        with Recommender.load(self._bundle) as model:
            metrics = _metrics(model, self._parts, self._rows)
            return Exported(variant, size, done.nbytes, metrics, _latency(model, self._parts, self._rows))


def _metrics(model: Recommender, parts: Split, rows: NDArray[np.integer]) -> dict[str, float]:
    """Return the metrics of a bundle's answers for these users, on the part that `parts` tests."""
    seen = parts.train_all if parts.fit_all else parts.train
    rankings = bundle_rankings(model, seen, parts.train_all, rows, max(KS))
    return metrics_of_rankings(
        rankings, parts.test, rows=rows, popularity=popularity_of([parts.train, parts.validation]), ks=KS
    )


def _latency(model: Recommender, parts: Split, rows: NDArray[np.integer]) -> float:
    """Return the median time in milliseconds of a request for 20 items, the user's history included."""
    seen, taken = parts.train_all, []
    ids, users = seen.item_ids, seen.user_ids
    for number in range(WARM + TIMED):
        row = int(rows[number % rows.size])
        history = ids[seen.items_of(row)].tolist()
        user = users[row].item() if users.dtype.kind in "iu" else str(users[row])
        started = time.perf_counter()
        if model.n_users:
            model.recommend(user, min(20, model.n_items), exclude=history)
        else:
            model.recommend(history=history, k=min(20, model.n_items))
        taken.append(time.perf_counter() - started)
    return round(1000 * median(taken[WARM:]), 4)
