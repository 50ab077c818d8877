"""One trial of `fit`: a recipe is trained, exported in several ways, and the bundles are measured."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgerec.api import train
from edgerec.data import Interactions, SplitSpec
from edgerec.errors import BenchError, BudgetError, EdgeRecError, RunError
from edgerec.fitting.recipes import NEIGHBOURS, Recipe, Variant
from edgerec.fitting.study import Exported
from edgerec.fitting.validation import ValidationTest
from edgerec.runtime import Recommender
from edgerec.runtime.stored import SUFFIX
from edgerec.tables.texts import Texts
from edgerec.training import Run, Step
from edgerec_export import ExportStep, Source, export, from_run

PLAIN = {"fp16": 2.0, "int8": 1.0, "int4": 0.5}
"""Precisions of whole tables that are tried along with fitted ones, with the bytes of a value."""
RUN, BUNDLE = "run", "bundle"
"""Names in the folder of a trial."""

Latency = Callable[[Path], float]
"""Returns the median time of a request to a bundle in milliseconds. Raises BenchError."""
OnStep = Callable[[str, Step | None], None]
"""Called with what runs, and with each step of a training."""


@dataclass(frozen=True)
class Limits:
    """Limits of a bundle, and what it contains.

    Attributes:
        max_bytes: None to choose a size as well.
        max_rss: bytes of memory of a request, or None.
        max_ms: milliseconds of a request, or None.
        users: True for bundles with a user table, False for bundles without, None for either.
        ids, titles: as `edgerec_export.export` takes them.
        attributes: as `edgerec_export.from_run` takes them.
    """

    max_bytes: int | None
    max_rss: int | None
    max_ms: float | None
    users: bool | None
    ids: str
    titles: bool
    attributes: Mapping[str, Texts] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[bool, ...]:
        """The values of `users` to try; without users first."""
        return (False, True) if self.users is None else (self.users,)


class OutOfTimeError(Exception):
    """Raised in a training or an export that would end after the time."""


@dataclass(frozen=True)
class Deadline:
    """A time on this process's clock; None is never reached."""

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline of this many seconds from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    def check(self) -> None:
        """Raise OutOfTimeError after the deadline."""
        if self.at is not None and time.monotonic() > self.at:
            raise OutOfTimeError


NEVER = Deadline()


@dataclass(frozen=True)
class Task:
    """A trial to run.

    Attributes:
        split: number of the split; 0 is the first, and others are drawn with other seeds.
        sizes: sizes that full tables are fitted to.
        only: the exports to make; None for all.
        seconds: time after which it is given up; None for no limit.
        folder: folder of the run and of its bundles; None for a temporary one.
    """

    recipe: Recipe
    split: int
    sizes: tuple[int, ...]
    only: frozenset[tuple[Variant, int | None]] | None
    seconds: float | None
    folder: Path | None


@dataclass(frozen=True)
class Outcome:
    """The result of a trial.

    Attributes:
        bundles: its bundles; empty if it failed or ran out of time.
        seconds: time of the training, the exports and the measurements.
        failure: the reason of a failure; '' for success.
        in_time: False if it was given up, and says nothing of the recipe.
    """

    bundles: list[Exported]
    seconds: float
    failure: str = ""
    in_time: bool = True


def plain_and_fitted(recipe: Recipe, values: int, max_bytes: int | None) -> Sequence[str]:
    """Return the precisions to export a training in.

    Args:
        values: number of values of its tables, if they are whole.
    """
    if recipe.within:
        return [recipe.precision]
    if recipe.backbone == NEIGHBOURS:  # the columns take more bytes than values of a byte, which lose next to nothing
        return ["int8"] if max_bytes is not None else ["auto", "int8"]
    return ["auto", *(name for name, size in PLAIN.items() if max_bytes is None or size * values <= max_bytes)]


def silent(doing: str, step: Step | None) -> None:
    """Report nothing, as an `OnStep` that can be sent to other processes."""


@dataclass(frozen=True)
class Trials:
    """Runs trials on some data; without callbacks it can be sent to other processes.

    Attributes:
        data: the interactions without the test part; they are split again by `spec`.
        threads: as in `edgerec.train`.
        sample_users: number of users that trainings are measured on; None for all.
        one_file: True to measure bundles in one file.
        precisions: returns the precisions to export a training in, as `plain_and_fitted` does.
        latency: None to measure it on this machine.
        on_step: called with what runs.
    """

    data: Interactions
    spec: SplitSpec
    limits: Limits
    threads: int | None
    sample_users: int | None
    one_file: bool
    precisions: Callable[[Recipe, int, int | None], Sequence[str]] = plain_and_fitted
    latency: Latency | None = None
    on_step: OnStep = silent
    _tests: dict[int, ValidationTest] = field(default_factory=dict, compare=False)

    def test(self, split: int) -> ValidationTest:
        """Return the validation test of a split; that of the first is stored."""
        if split in self._tests:
            return self._tests[split]
        test = ValidationTest.of(self.data, self._spec(split), self.sample_users)
        if split == 0:
            self._tests[split] = test
        return test

    def _spec(self, split: int) -> SplitSpec:
        return replace(self.spec, seed=self.spec.seed + split)

    def run(self, task: Task) -> Outcome:
        """Train, export and measure. Raises BenchError if a device is lost, which no recipe can be blamed for."""
        started = time.monotonic()
        bundles, failure, in_time = list[Exported](), "", True
        with _folder(task.folder) as folder:
            try:
                deadline = Deadline.after(task.seconds)
                run = self.train(task.recipe, self.data, self._spec(task.split), folder / RUN, deadline)
                bundles = list(self._bundles(run, task, folder / BUNDLE, deadline))
                failure = "" if bundles else "no bundle of its tables is within the limits"
            except OutOfTimeError:
                bundles, in_time = [], False
            except BenchError:
                raise
            except (EdgeRecError, MemoryError) as error:
                bundles, failure = [], str(error) or "out of memory"
        return Outcome(bundles, round(time.monotonic() - started, 3), failure, in_time)

    def train(
        self, recipe: Recipe, data: Interactions, spec: SplitSpec, place: Path, deadline: Deadline = NEVER
    ) -> Run:
        """Train a recipe into a folder, or continue what an interrupted call began there. Raises OutOfTimeError."""

        def step(one: Step) -> None:
            deadline.check()
            self.on_step(recipe.name, one)

        how = {
            **recipe.train_kwargs(self.limits.max_bytes),
            "split": spec,
            "seed": spec.seed,
            "threads": self.threads,
            "sample_users": self.sample_users,
            "out": place,
            "progress": step,
        }
        try:
            return train(data, resume=True, **how)
        except RunError:
            shutil.rmtree(place, ignore_errors=True)  # begun by a call that was killed, for another recipe
            return train(data, **how)

    def _bundles(self, run: Run, task: Task, place: Path, deadline: Deadline) -> Iterator[Exported]:
        """Yield the measured bundles of a run: with and without users, fitted, and in plain precisions."""
        source, limit, recipe = from_run(run, attributes=self.limits.attributes), self.limits.max_bytes, task.recipe
        sides = [users for users in self.limits.sides if (run.users is not None if users else run.encoder is not None)]
        for users in sides:
            rows = run.items.n_rows + (run.users.n_rows if users and run.users is not None else 0)
            for precision in self.precisions(recipe, rows * run.items.d, limit):
                variant = Variant(users, precision)
                for size in task.sizes if precision == "auto" else [limit]:
                    if task.only is not None and (variant, size) not in task.only:
                        continue
                    self.on_step(f"{recipe.name}, {variant.name}", None)
                    try:
                        yield self.measured(source, variant, size, place, self.test(task.split), deadline)
                    except BudgetError:
                        continue

    def measured(
        self,
        source: Source,
        variant: Variant,
        size: int | None,
        place: Path,
        test: ValidationTest,
        deadline: Deadline = NEVER,
    ) -> Exported:
        """Export a bundle to `place` and measure its answers. Raises BudgetError, OutOfTimeError."""
        bundle = place.with_suffix(SUFFIX) if self.one_file else place

        def step(_: ExportStep) -> None:
            deadline.check()

        done = export(
            source,
            bundle,
            precision=variant.precision,
            max_bytes=size,
            fit=size is not None,
            max_rss=self.limits.max_rss,
            users=variant.users,
            ids=self.limits.ids,
            titles=self.limits.titles,
            verify=False,
            progress=step,
        )
        with Recommender.load(bundle) as model:
            ms = test.latency(model) if self.latency is None else self.latency(bundle)
            return Exported(variant, size, done.nbytes, test.metrics(model), ms)


def run_trial(trials: Trials, task: Task) -> Outcome:
    """Run a trial, as a function that workers can be sent."""
    return trials.run(task)


@contextmanager
def _folder(place: Path | None) -> Iterator[Path]:
    """Give a folder, and remove it if it is temporary."""
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="edgerec-fit-") as scratch:
        yield Path(scratch)
