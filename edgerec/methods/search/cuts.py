"""Cuts of one decomposition: sizes and bits of an item table on the SVD, evaluated as the bundle answers.

A search on `svd` needs no training to evaluate an action: the table of the action is the decomposition of the training
part, truncated to its sizes and rounded to its bits, which takes milliseconds. Actions are evaluated on a sample of
users and one half of their validation items; the best are compared on the other half by all users, and the best of
these are trained in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import snap_sizes
from edgerec.data import KS, metrics_per_user, top_k_of_vectors
from edgerec.errors import BudgetError
from edgerec.methods.base import Job
from edgerec.methods.search.evaluator import check_validation, claim_folder, eval_of, halves
from edgerec.methods.search.finalists import brief_entry
from edgerec.methods.search.history import RETRAIN, SearchHistory, size_deciles
from edgerec.models import SizePlan, Trainer, check_ranges
from edgerec.training import FitResult, Start, Step

Floats = NDArray[np.float64]
S = TypeVar("S", bound="CutSpace")

_TINY = 1e-280
"""The smallest weight, since weights must be positive."""
SETTINGS = {"power": (0.2, 0.0, 1.5), "c": (0.1, -0.6, 0.3)}
"""The SVD's settings that an action has: the deviation of random ones, and their range."""
_USERS_OF_FINALISTS = 10_000
_SAMPLE = 1
"""First part of the seed of the sample of users."""


@dataclass(frozen=True)
class CutSearchConfig:
    """Settings that searches on the SVD share.

    Attributes:
        actions: number of actions that are evaluated.
        users: number of users on whose first half of validation items an action is evaluated.
        widths: maximum number of distinct sizes; each is a block of the exported graph.
        finalists: number of the best actions that are compared on the second half.
        retrain: number of the best of these to train in full; the best of them on validation is exported.
        include_uniform_baseline: True to train one size for all rows with them, in each number of bits, so that the
            result is not worse than it on validation.
    """

    actions: int = 300
    users: int = 1000
    widths: int = 5
    finalists: int = 20
    retrain: int = 3
    include_uniform_baseline: bool = True

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_ranges(self, 1, 1e6, "actions", "users", "finalists", "retrain")
        check_ranges(self, 1, 64, "widths")


@dataclass(frozen=True)
class Cut:
    """An item table's sizes and bits, and settings of the SVD.

    Attributes:
        plan: sizes of the items.
        bits: (n_items,) uint8; None for floats.
        settings: settings of the SVD by name.
    """

    plan: SizePlan
    bits: NDArray[np.uint8] | None
    settings: Mapping[str, float]

    def start(self, job: Job, *, feedback: bool = True) -> Start:
        """Return the function that starts the trainer of the table; `feedback` is that of `CodedSVDTrainer`."""
        # scipy comes with the trainers; methods are listed without it.
        from edgerec.models.svd import CodedSVDTrainer

        def start(train: Any, sizes: SizePlan, config: Any, *, seed: int, **how: Any) -> Trainer:
            own = replace(config, **self.settings)
            if self.bits is None:
                return job.backbone.trainer(train, sizes, own, seed=seed, **how)
            return CodedSVDTrainer(train, sizes, own, seed, how["threads"], how["device"], self.bits, feedback)

        return start


@dataclass(frozen=True)
class CutSpace:
    """The item tables within a budget, from which a search chooses.

    Attributes:
        counts: (n_items,) interactions.
        d: dimensions of a full row.
        bits: bits to choose from, the largest first; empty for floats.
        totals: bytes of all values, or the number of floats, for 1, 2, ... distinct sizes.
        settings: power and c near which actions are drawn.
        given: those of them that the user gave, which no action changes.
    """

    counts: NDArray[np.int64]
    d: int
    bits: tuple[int, ...]
    totals: tuple[int, ...]
    settings: Mapping[str, float]
    given: frozenset[str] = frozenset()

    @classmethod
    def of(cls, job: Job, widths: int) -> Self:
        """Return the space of a job. Raises BudgetError if the budget leaves less than a byte or a value a row."""
        if len(job.row_bits) > 1 and job.budget is not None and job.budget.kind not in ("bytes", "bytes_per_row"):
            raise BudgetError(f"the precision auto needs a budget in bytes, got {job.budget}: give 8B/row, or 64KiB")
        n, unit = job.train.n_items, 8 // job.row_bits[0] if len(job.row_bits) == 1 else 1
        totals: list[int] = []
        for number in range(1, widths + 1):
            try:
                total = job.values(blocks=number) // unit
            except BudgetError:
                if not totals:
                    raise
                break  # more blocks leave too little
            totals.append(min(total, n * _full_row(job.d, job.row_bits)))
        if totals[0] < n:
            raise BudgetError(f"codes fill whole bytes, and {n} rows need as many; the smallest budget is 1B/row")
        totals = [total for total in totals if total >= n]
        typical = job.backbone.closed(job.config)
        given = frozenset(name for name in SETTINGS if getattr(job.config, name) is not None)
        settings = {name: getattr(typical, name) for name in SETTINGS}
        return cls(job.train.item_counts(), job.d, job.row_bits, tuple(totals), settings, given)

    @property
    def most(self) -> int:
        """Bytes, or values, of a full row of the most bits."""
        return _full_row(self.d, self.bits)

    def moved(self, name: str, value: float, by: float, rng: np.random.Generator) -> float:
        """Return a setting near a value, by a share of its deviation; unchanged if the user gave it."""
        deviation, least, most = SETTINGS[name]
        moved = float(np.clip(rng.normal(value, by * deviation), least, most))
        return value if name in self.given else moved

    def cut(
        self,
        weights: NDArray[np.floating[Any]],
        widths: int,
        bits_of: Callable[[NDArray[np.bool_]], int],
        settings: Mapping[str, float],
    ) -> Cut:
        """Return a cut within the bytes of its number of widths.

        Args:
            weights: (n_items,) by which rows share the bytes.
            bits_of: returns the place in `bits` of rows of one size, given (n_items,) True for these.
        """
        total = self.totals[widths - 1]
        sizes = snap_sizes(np.maximum(weights, _TINY), total, 1, self.most, widths)
        if not self.bits:
            return Cut(SizePlan(self.d, items=sizes), None, settings)
        bits = np.zeros(sizes.size, np.uint8)
        for nbytes in np.unique(sizes).tolist():
            mine = sizes == nbytes
            place = bits_of(mine)
            # Few bits cannot fill many bytes.
            while place > 0 and nbytes * 8 // self.bits[place] > self.d:
                place -= 1
            bits[mine] = self.bits[place]
        return Cut(SizePlan(self.d, items=np.minimum(sizes * 8 // bits, self.d)), bits, settings)

    def by_frequency(self, power: float, place: int, settings: Mapping[str, float]) -> Cut:
        """Return the cut of bytes in proportion to a power of frequency, in the bits of one place."""
        widths = len(self.totals) if power else 1
        return self.cut((self.counts + 1.0) ** power, widths, lambda _: place, settings)


def _full_row(d: int, bits: tuple[int, ...]) -> int:
    return max(d * bits[0] // 8, 1) if bits else d


class CutEvaluator:
    """Evaluates cuts of one decomposition of the training part as their bundles answer."""

    def __init__(self, job: Job, config: Any, users: int) -> None:
        """Decompose with the settings a and b of `config`; actions are evaluated on at most `users` users."""
        self._job, self._config, self._shared = job, config, None
        self._halves = halves(job.split.validation)
        rng = np.random.default_rng([job.seed, _SAMPLE])
        known = [rng.permutation(np.flatnonzero(half.user_counts())) for half in self._halves]
        self._rows = [np.sort(rows[:n]) for rows, n in zip(known, (users, _USERS_OF_FINALISTS), strict=True)]
        # Few users' histories, so that other users are not encoded.
        among = [np.isin(job.split.train.user_rows(), rows) for rows in self._rows]
        self._histories = [job.split.train.select(mask) for mask in among]

    def evaluate(self, cut: Cut | None, half: int = 0) -> float:
        """Return the mean of `evals`."""
        return float(self.evals(cut, half).mean())

    def rows(self, half: int = 0) -> NDArray[np.int64]:
        """Return the (n,) users on whom a half evaluates."""
        return self._rows[half]

    def evals(self, cut: Cut | None, half: int = 0) -> Floats:
        """Return (n,) evals of the users of `rows` with a cut, or with full rows of floats, on a half of validation.

        Args:
            half: 0 for actions, 1 for finalists, which are rounded as the bundle is.
        """
        cut = cut or Cut(SizePlan(self._job.d), None, {})
        options, train = self._job.options, self._job.split.train
        # The bundle is rounded with error feedback; of hundreds of actions the order is much the same without it.
        trainer: Any = cut.start(self._job, feedback=half == 1)(
            train, cut.plan, self._config, seed=options.seed, threads=options.threads, device=options.device
        )
        trainer.begin(self._start)
        trainer.epoch()
        vectors, rows = trainer.rows().with_history(self._histories[half]), self._rows[half]
        best = top_k_of_vectors(vectors.users, vectors.items, rows, max(KS), seen=(train,), threads=options.threads)
        return eval_of(metrics_per_user(best, self._halves[half], rows=rows))

    def _start(self) -> Any:
        """Return the decomposition that all cuts share."""
        if self._shared is None:
            job = self._job
            seed, device = job.options.seed, job.options.device
            self._shared = job.backbone.shared_start(job.split.train, job.d, job.config, seed, device)
        return self._shared


class CutSearch(Generic[S]):
    """The parts of a search on the SVD around its actions: settings, evaluator, finalists, and trainings in full."""

    def __init__(self, job: Job, config: CutSearchConfig, space: S) -> None:
        """Open the history of the run, and choose the settings of the SVD that are not given.

        Raises DataError if the split holds nothing back, RunError if the run's folder holds another command's search.
        """
        check_validation(job)
        self.job, self.config, self.settings = job, config, job.backbone.closed(job.config)
        self.history = SearchHistory(job.checkpoint.folder if job.checkpoint else None)
        claim_folder(job)
        if job.backbone.open_axes(job.config):
            # Chosen within sizes as they will be: full rows prefer others.
            first = space.by_frequency(1.0, min(1, max(len(space.bits) - 1, 0)), {})
            start = first.start(job, feedback=False)
            self.settings = job.fit(first.plan, final=False, start=start).config
        self.space = replace(space, settings={name: getattr(self.settings, name) for name in SETTINGS})
        self.evaluator = CutEvaluator(job, self.settings, config.users)
        self._trained = 0

    @cached_property
    def full(self) -> float:
        """The mean eval of full rows of floats."""
        return max(self.evaluator.evaluate(None), 1e-12)

    def entry(self, action: Any, cut: Cut) -> dict[str, Any]:
        """Return the history entry of an action, a JSON object, that is not evaluated yet."""
        job = self.job
        sizes = size_deciles(cut.plan, job.train.user_counts(), job.train.item_counts())
        values = 0 if cut.plan.items is None else int(cut.plan.items.sum())
        entry = {"iteration": len(self.history.evaluated), "action": action, "strategy": RETRAIN, "predicted": None}
        return {**entry, "fitness": None, "density": values / (job.n_rows * job.d), "seconds": 0.0, "sizes": sizes}

    def add(self, entry: dict[str, Any]) -> None:
        """Append the entry of an evaluated action to the history, and report it."""
        self.history.add(entry)
        fitness = [one["fitness"] for one in self.history.evaluated]
        values = {"fitness": fitness[-1], "best": max(fitness)}
        self.job.progress(Step("search", 1, 1, len(fitness), self.config.actions, values))

    def best(self, count: int) -> list[dict[str, Any]]:
        """Return the entries of the fittest actions so far, the fittest first."""
        return sorted(self.history.evaluated, key=lambda entry: -entry["fitness"])[:count]

    def trained(
        self, cut_of: Callable[[dict[str, Any]], Cut], uniform_action: Callable[[int | None], Any]
    ) -> FitResult:
        """Compare the fittest actions on the other half, train the best in full, and return the best on validation.

        A sample of users chose the settings of the actions, for sizes like theirs. The best action, and the best of one
        size for all rows, are trained once more with those that all validation users choose for just its sizes.

        Args:
            cut_of: returns the cut of an entry.
            uniform_action: returns the action of one size for all rows in a number of bits, None for floats. These are
                trained too if the config says so.
        """
        ranked = self.best(self.config.finalists)
        cuts = [cut_of(entry) for entry in ranked]
        scores = [self.evaluator.evaluate(cut, 1) for cut in cuts]
        best = sorted(range(len(cuts)), key=lambda number: -scores[number])[: self.config.retrain]
        kinds = [[(ranked[number], cuts[number]) for number in best]]
        if self.config.include_uniform_baseline:
            of_bits = [
                (bits, self.space.by_frequency(0.0, place, self.space.settings))
                for place, bits in enumerate(self.space.bits or (None,))
            ]
            kinds.append([(self.entry(uniform_action(bits), cut), cut) for bits, cut in of_bits])
        cut, result = max((self._best_in_full(finalists) for finalists in kinds), key=_eval)
        if self.job.split.fit_all:
            result = self.job.fit(cut.plan, chosen=result, start=cut.start(self.job))
        brief = [*result.history, *map(brief_entry, self.history.entries)]
        return replace(result, history=brief)

    def _best_in_full(self, finalists: list[tuple[dict[str, Any], Cut]]) -> tuple[Cut, FitResult]:
        """Train each cut in full, and the best again with settings of its own; return the best on validation."""
        trained = [self._in_full(entry, cut) for entry, cut in finalists]
        first = max(range(len(trained)), key=lambda number: _eval(trained[number]))
        if not self.job.backbone.open_axes(self.job.config):
            return trained[first]
        entry, cut = finalists[first]
        return max(trained[first], self._in_full(entry, replace(cut, settings={})), key=_eval)

    def _in_full(self, entry: dict[str, Any], cut: Cut) -> tuple[Cut, FitResult]:
        """Train a cut in full, without a final training; settings that it leaves open are chosen on validation."""
        job = self.job
        fit = job.fit(cut.plan, final=False, start=cut.start(job), choose=not cut.settings)
        result = replace(fit, config=replace(fit.config, **cut.settings))
        if self._trained == len(self.history.entries) - len(self.history.evaluated):
            action = entry["action"] | {name: getattr(result.config, name) for name in SETTINGS}
            score = float(eval_of(result.validation))
            self.history.add({**entry, "action": action, "strategy": RETRAIN, "fitness": None, "eval": score})
        self._trained += 1
        return cut, result


def _eval(trained: tuple[Cut, FitResult]) -> float:
    return float(eval_of(trained[1].validation))
