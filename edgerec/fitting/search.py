"""The search of `fit`: it decides which trials run, here or in workers, and records what they found."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgerec.errors import BudgetError
from edgerec.fitting.recipes import Recipe, Tried, Variant, first_untried, next_recipe
from edgerec.fitting.study import NEAR, Choice, Exported, FitTrial, Repeat, Study
from edgerec.fitting.trial import BUNDLE, RUN, Deadline, Outcome, OutOfTimeError, Task, Trials, run_trial
from edgerec.fitting.validation import MOST_USERS
from edgerec.methods.search.workers import Pool, pool
from edgerec.training import Step
from edgerec_export import from_run

MOST_REPEATS = 3
"""Splits in addition to the first on which the best trials are repeated, if that has few users: as many more as make
`MOST_USERS` of them."""
OTHER_SIZES = (0.25, 0.5, 2.0, 4.0)
"""Other sizes at which the chosen training is exported for the page, as shares of the size."""
RESERVE = 2.0
"""Time for the end, as a multiple of the time of the best trial: it is trained again, on more data."""
TRIAL, BEST = "trial", "best"
"""Folders of the trials that run, and of the best one."""


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
        step: step of the training that runs; None between trainings, and where several run.
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


class Search:
    """The trials of one fit."""

    def __init__(
        self,
        trials: Trials,
        folder: Path,
        study: Study,
        *,
        minutes: float | None = None,
        workers: int | str | None = None,
        recipes: Sequence[Recipe] | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Prepare a search.

        Args:
            trials: how a recipe is tried.
            folder: folder of the study and of what is being trained.
            study: earlier trials, whose time counts.
            minutes: None for no limit.
            workers: number of processes, or a Ray cluster by its address; None to run one trial after another here.
            recipes: those to try, in their order; None for those of `next_recipe`.
            progress: called at each step.
        """
        self.trials, self.folder, self.study, self._workers, self._given = trials, folder, study, workers, recipes
        self._progress = progress or (lambda state: None)
        fewest = -(-MOST_USERS // max(len(trials.test(0).rows), 1)) - 1
        self.repeats = min(fewest, MOST_REPEATS) if trials.spec.tests_at_random else 0
        self._at_once = 1
        self._end = None if minutes is None else time.monotonic() + max(60 * minutes - study.seconds, 0.0)

    def best(self) -> Choice | None:
        """Return the best bundle so far."""
        return self.study.best(max_bytes=self.trials.limits.max_bytes, max_ms=self.trials.limits.max_ms)

    def run(self, sizes: list[int], *, trials: int | None) -> bool:
        """Try recipes until the time, the trials or the recipes are used up, and repeat the best on other splits.

        As many trials as there are workers run at a time, and the next are decided when all have ended, so that equal
        numbers of workers find equal bundles.

        Returns True if Ctrl-C ended it.

        Args:
            sizes: sizes that full tables are fitted to.

        Raises KeyboardInterrupt before the first bundle.
        """
        if self.study.trials:
            self.show("continuing", note=f"continuing after {len(self.study.trials)} finished trainings")
        here = self._workers is None
        work = replace(self.trials, on_step=self.show) if here else self.trials
        try:
            with pool(self._workers, run_trial, work) as workers:
                self._at_once = workers.size
                in_time = True
                while in_time and self.has_time(for_trial=True):
                    left = workers.size if trials is None else min(workers.size, trials - len(self.study.trials))
                    if not (recipes := list(self._recipes(left))):
                        break
                    in_time = self._try(workers, recipes, sizes)
                in_time = True
                while in_time and (missing := self._missing_repeats()) and self.has_time():
                    in_time = self._repeat(workers, missing[: workers.size], sizes)
        except KeyboardInterrupt:
            if self.best() is None:
                raise
            text = "stopping: the best so far is trained on all data; Ctrl-C again quits without a bundle"
            self.show("stopping", note=text)
            return True
        return False

    def _recipes(self, count: int) -> Iterator[Recipe]:
        """Yield the recipes to try next; each is chosen as if those before it had failed."""
        limits, data = self.trials.limits, self.trials.data
        tried = self.study.tried(max_bytes=limits.max_bytes, max_ms=limits.max_ms)
        for _ in range(count):
            if self._given is None:
                per_user = len(data) / max(data.n_users, 1)
                recipe = next_recipe(tried, data.n_items, limits.max_bytes, limits.users, per_user)
            else:
                recipe = first_untried(self._given, tried)
            if recipe is None:
                break
            yield recipe
            tried.append(Tried(recipe, None))

    def _missing_repeats(self) -> list[tuple[int, int]]:
        """Return the number of each trial to repeat, and that of the split."""
        finalists = self._finalists()
        known = {(one.trial, one.split) for one in self.study.repeats}
        splits = range(1, self.repeats + 1) if len(finalists) > 1 else ()
        return [(number, split) for split in splits for number in finalists if (number, split) not in known]

    def other_sizes(self) -> None:
        """Export the best training at other sizes, for the page."""
        trials, best = self.trials, self.best()
        if best is None or (limit := trials.limits.max_bytes) is None:
            return
        recipe, place = self.study.trials[best.trial].recipe, self.folder / BEST
        shown = replace(trials, on_step=self.show)
        run = shown.train(recipe, trials.data, trials.spec, place / RUN)
        source = from_run(run, attributes=trials.limits.attributes)
        found = list[Exported]()
        variant = Variant(best.bundle.variant.users, "auto")
        deadline = Deadline.after(self._seconds_left())
        for share in OTHER_SIZES:
            self.show(f"{share:g} of the size")
            try:
                one = trials.measured(source, variant, int(share * limit), place / BUNDLE, trials.test(0), deadline)
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

    def has_time(self, *, for_trial: bool = False) -> bool:
        """Return True if what remains suffices to train the best again; always before the first bundle.

        Args:
            for_trial: True if it must also suffice to repeat the best trials.
        """
        left = self._seconds_left(for_trial=for_trial)
        return left is None or left > 0

    def _seconds_left(self, *, for_trial: bool = False) -> float | None:
        """Return the time until the best has to be trained again; None for no limit."""
        best = self.best()
        if self._end is None or best is None:
            return None
        trials = self.study.trials
        repeating = sum(trials[number].seconds for number, _ in self._missing_repeats()) if for_trial else 0.0
        return self._end - time.monotonic() - RESERVE * trials[best.trial].seconds - repeating / self._at_once

    def _try(self, workers: Pool, recipes: list[Recipe], sizes: list[int]) -> bool:
        """Try recipes at the same time, and record each as it ends. Returns False if one was given up for lack of time.

        Raises BenchError.
        """
        tasks = [self._task(recipe, sizes, number) for number, recipe in enumerate(recipes)]

        def record(number: int, outcome: Outcome) -> None:
            before = self.best()
            trial = FitTrial(recipes[number], outcome.bundles, outcome.seconds, outcome.failure)
            self.study.trials.append(trial)
            self.study.final = None
            self.study.save(self.folder)
            if self.best() != before:
                self._forget_sizes()
                if (place := self._place(number)).exists():
                    place.rename(self.folder / BEST)
            self.show(trial.recipe.name, finished=trial)

        return self._run(workers, tasks, [recipe.name for recipe in recipes], record)

    def _repeat(self, workers: Pool, trials: list[tuple[int, int]], sizes: list[int]) -> bool:
        """Repeat trials on other splits, and record them. Returns False if one was given up for lack of time."""
        recipes = [self.study.trials[number].recipe for number, _ in trials]
        names = [f"{recipe.name}, split {split + 1}" for recipe, (_, split) in zip(recipes, trials, strict=True)]
        tasks = [
            self._task(recipe, sizes, place, split, self._near(number))
            for place, (recipe, (number, split)) in enumerate(zip(recipes, trials, strict=True))
        ]

        def record(place: int, outcome: Outcome) -> None:
            before, (number, split) = self.best(), trials[place]
            self.study.repeats.append(Repeat(number, split, outcome.bundles, outcome.seconds))
            self.study.final = None
            if (best := self.best()) is None or before is None or best.trial != before.trial:
                self._forget_sizes()
            self.study.save(self.folder)
            scores = [self.study.score(one) for one in outcome.bundles]
            found = f"{self.study.metric} {max(scores):.4f}" if scores else "no bundle"
            self.show(names[place], note=f"repeated: {names[place]}, {outcome.seconds:.1f} s, {found}")

        return self._run(workers, tasks, names, record)

    def _run(self, workers: Pool, tasks: list[Task], names: list[str], record: Callable[[int, Outcome], None]) -> bool:
        """Run tasks, and record the outcome of each. Returns False if one was given up for lack of time."""
        self.show(" and ".join(names))
        in_time = True
        for number, outcome in workers.answers(tasks):
            if outcome.in_time:
                record(number, outcome)
            in_time &= outcome.in_time
        shutil.rmtree(self.folder / TRIAL, ignore_errors=True)
        return in_time

    def _task(
        self,
        recipe: Recipe,
        sizes: list[int],
        number: int,
        split: int = 0,
        only: frozenset[tuple[Variant, int | None]] | None = None,
    ) -> Task:
        """Return the task of a trial, which is the `number`th of those that run at the same time."""
        elsewhere = isinstance(self._workers, str)
        seconds = self._seconds_left(for_trial=only is None)
        return Task(recipe, split, tuple(sizes), only, seconds, None if elsewhere else self._place(number))

    def _place(self, number: int) -> Path:
        return self.folder / TRIAL / str(number)

    def _forget_sizes(self) -> None:
        """Remove what belongs to the best trial, since there is another."""
        self.study.sizes = []
        shutil.rmtree(self.folder / BEST, ignore_errors=True)

    def _finalists(self) -> list[int]:
        return self.study.finalists(max_bytes=self.trials.limits.max_bytes, max_ms=self.trials.limits.max_ms)

    def _near(self, number: int) -> frozenset[tuple[Variant, int | None]]:
        """Return the exports of a trial whose bundles are not far from the best of all."""
        study = self.study
        best = max(study.score(one) for trial in self._finalists() for one in study.trials[trial].bundles)
        bundles = study.trials[number].bundles
        return frozenset((one.variant, one.max_bytes) for one in bundles if study.score(one) >= NEAR * best)
