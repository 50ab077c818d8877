"""BET on the SVD: every action is one decomposition, cut and rounded as the bundle stores it, which takes milliseconds.

As in `search.py` an action sets the sizes of the whole table and meets the budget by construction. Ours here: it sets
the bits of the rows too, and the two settings of the SVD that need no decomposition; actions are evaluated instead of
predicted, on a sample of users and one half of their validation items; the best are compared on the other half by all
users, and the best of these are trained in full. Rules come first, then random actions, and then most are near one of
the best so far.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import snap_sizes
from edgerec.data import KS, metrics_per_user, top_k_of_vectors
from edgerec.errors import BudgetError
from edgerec.methods.base import Job, Method
from edgerec.methods.search.evaluator import check_validation, claim_folder, eval_of, halves
from edgerec.methods.search.finalists import brief_entry
from edgerec.methods.search.history import RETRAIN, SearchHistory, action_of, size_deciles
from edgerec.methods.search.sampler import FAMILIES
from edgerec.models import SizePlan, Trainer, check_ranges
from edgerec.training import FitResult, Start, Step

FREQUENCY, _LARGEST_POWER = "frequency", 4.0
"""The family of sizes in proportion to a power of the number of interactions, and the largest power."""
_MOST_FAMILIES = {**{name: most for name, (_, most) in FAMILIES.items()}, FREQUENCY: _LARGEST_POWER}
_RULES = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Powers of the first actions, which are the rules that a search is compared with."""
_TINY = 1e-280
"""The smallest weight, since weights must be positive."""
_PARENTS = 15
"""Number of the best actions so far near which others are drawn."""
_SETTINGS = {"power": (0.2, 0.0, 1.5), "c": (0.1, -0.6, 0.3)}
"""The SVD's settings that an action has: the deviation of random ones, and their range."""
_USERS_OF_FINALISTS = 10_000
_DRAWS, _SAMPLE = range(2)
"""First part of the seed of each random generator."""


@dataclass(frozen=True)
class CutConfig:
    """Settings of BET's search on the SVD.

    Attributes:
        actions: number of actions that are evaluated.
        random: share of them, after the rules by popularity, that is drawn at random; the others are near one of the
            best so far.
        users: number of users on whose first half of validation items an action is evaluated.
        widths: maximum number of distinct sizes; each is a block of the exported graph.
        finalists: number of the best actions that are compared on the second half.
        retrain: number of the best of these to train in full; the best of them on validation is exported.
        include_uniform_baseline: True to train one size for all rows with them, in each number of bits, so that the
            result is not worse than it on validation.
    """

    actions: int = 300
    random: float = 0.3
    users: int = 1000
    widths: int = 5
    finalists: int = 20
    retrain: int = 3
    include_uniform_baseline: bool = True

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_ranges(self, 1, 1e6, "actions", "users", "finalists", "retrain")
        check_ranges(self, 0, 1, "random")
        check_ranges(self, 1, 64, "widths")


@dataclass(frozen=True)
class CutAction:
    """The parameters of sizes and bits of a whole item table, and of the SVD.

    Attributes:
        family, shape: distribution of the rows' bytes over their places by popularity, and its shape.
        widths: maximum number of distinct sizes.
        shares: for each number of bits but the fewest, the share of the rows, the most popular first, with at least
            as many.
        power, c: settings of the SVD.
    """

    family: str
    shape: float
    widths: int
    shares: tuple[float, ...]
    power: float
    c: float

    def __post_init__(self) -> None:
        """Raise ValueError for an action that the sampler does not draw."""
        if not 0 <= self.shape <= _MOST_FAMILIES.get(self.family, -1) or self.widths < 1:
            raise ValueError(f"there is no action with the family {self.family!r}, {self.shape} and {self.widths}")

    @classmethod
    def from_json(cls, fields: Any) -> CutAction:
        """Read the action of a history entry. Raises RunError if it is malformed."""
        return action_of(cls, fields)


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
            if self.bits is None or how.get("device") != "cpu":
                return job.backbone.trainer(train, sizes, own, seed=seed, **how)
            return CodedSVDTrainer(train, sizes, own, seed, how.get("threads"), self.bits, feedback)

        return start


@dataclass(frozen=True)
class CutSampler:
    """Draws actions and computes their cuts.

    Attributes:
        counts: (n_items,) interactions: more frequent rows have at least as many bytes.
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
    def of(cls, job: Job, widths: int) -> CutSampler:
        """Return the sampler of a job. Raises BudgetError if the budget leaves less than a byte or a value a row."""
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
            totals.append(min(total, n * cls._most(job.d, job.row_bits)))
        if totals[0] < n:
            raise BudgetError(f"codes fill whole bytes, and {n} rows need as many; the smallest budget is 1B/row")
        totals = [total for total in totals if total >= n]
        typical = job.backbone.closed(job.config)
        given = frozenset(name for name in _SETTINGS if getattr(job.config, name) is not None)
        settings = {name: getattr(typical, name) for name in _SETTINGS}
        return cls(job.train.item_counts(), job.d, job.row_bits, tuple(totals), settings, given)

    @staticmethod
    def _most(d: int, bits: tuple[int, ...]) -> int:
        """Return the bytes, or values, of a full row of the most bits."""
        return max(d * bits[0] // 8, 1) if bits else d

    def draw(self, rng: np.random.Generator) -> CutAction:
        """Draw an action."""
        family = str(rng.choice(list(_MOST_FAMILIES)))
        shares = [rng.choice([0.0, float(rng.random()) ** 2, 1.0], p=[0.4, 0.5, 0.1]) for _ in self.bits[1:]]
        return CutAction(
            family,
            float(rng.uniform(0, _MOST_FAMILIES[family])),
            int(rng.integers(1, len(self.totals), endpoint=True)),
            tuple(sorted(map(float, shares))),
            *(self._moved(name, self.settings[name], 1.0, rng) for name in _SETTINGS),
        )

    def near(self, action: CutAction, rng: np.random.Generator) -> CutAction:
        """Draw an action near another one."""

        def moved(value: float, by: float, least: float, most: float) -> float:
            return float(np.clip(value + rng.normal(0, by), least, most)) if rng.random() < 0.5 else value

        widths = action.widths + (int(rng.choice([-1, 1])) if rng.random() < 0.3 else 0)
        shares = [moved(share, 0.05 if number == 0 else 0.15, 0, 1) for number, share in enumerate(action.shares)]
        return CutAction(
            action.family,
            float(np.clip(action.shape * np.exp(rng.normal(0, 0.3)), 0, _MOST_FAMILIES[action.family])),
            int(np.clip(widths, 1, len(self.totals))),
            tuple(sorted(shares)),
            *(self._moved(name, getattr(action, name), 0.5, rng) for name in _SETTINGS),
        )

    def _moved(self, name: str, value: float, by: float, rng: np.random.Generator) -> float:
        """Return a setting near a value, by a share of its deviation; unchanged if the user gave it."""
        deviation, least, most = _SETTINGS[name]
        moved = float(np.clip(rng.normal(value, by * deviation), least, most))
        return value if name in self.given else moved

    def rules(self) -> list[CutAction]:
        """Return the actions of sizes in proportion to a power of frequency, in each number of bits."""
        return [self.rule(bits, power) for power in _RULES for bits in self.bits or (None,)]

    def rule(self, bits: int | None, power: float = 0.0) -> CutAction:
        """Return the action of sizes in proportion to a power of frequency; of one size for all rows with 0."""
        shares = tuple(float(bits is not None and one <= bits) for one in self.bits[:-1])
        widths = len(self.totals) if power else 1
        return CutAction(FREQUENCY, power, widths, shares, self.settings["power"], self.settings["c"])

    def cut(self, action: CutAction) -> Cut:
        """Return the sizes and bits of an action: at most the bytes of its number of widths."""
        if action.family == FREQUENCY:
            weights = (self.counts + 1.0) ** action.shape
        else:
            weights = FAMILIES[action.family][0](1 - self._places, action.shape)
        total, most = self.totals[action.widths - 1], self._most(self.d, self.bits)
        sizes = snap_sizes(np.maximum(weights, _TINY), total, 1, most, action.widths)
        settings = {"power": action.power, "c": action.c}
        if not self.bits:
            return Cut(SizePlan(self.d, items=sizes), None, settings)
        bits = np.zeros(sizes.size, np.uint8)
        for nbytes in np.unique(sizes).tolist():
            mine = sizes == nbytes
            place = float(self._places[mine].mean())
            wanted = sum(place >= share for share in action.shares)
            # Few bits cannot fill many bytes.
            while wanted > 0 and nbytes * 8 // self.bits[wanted] > self.d:
                wanted -= 1
            bits[mine] = self.bits[wanted]
        return Cut(SizePlan(self.d, items=np.minimum(sizes * 8 // bits, self.d)), bits, settings)

    @cached_property
    def _places(self) -> NDArray[np.float64]:
        """(n_items,) place of each row by popularity in 0..1, the most popular first."""
        places = np.empty(self.counts.size)
        places[np.argsort(-self.counts, kind="stable")] = (np.arange(self.counts.size) + 0.5) / self.counts.size
        return places


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
        """Return the mean eval of a cut, or of full rows of floats, on a half of validation.

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
        return float(eval_of(metrics_per_user(best, self._halves[half], rows=rows)).mean())

    def _start(self) -> Any:
        """Return the decomposition that all cuts share."""
        if self._shared is None:
            job = self._job
            self._shared = job.backbone.shared_start(job.split.train, job.d, job.config, job.options.seed)
        return self._shared


class BETOnSVD(Method):
    """A search of sizes and bits over whole tables that cuts one decomposition."""

    name: ClassVar[str] = "bet"
    config: ClassVar[type[CutConfig]] = CutConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"svd"})
    codes_rows: ClassVar[bool] = True

    def fit(self, job: Job, config: CutConfig) -> FitResult:
        """Search sizes and bits, and train the best in full.

        Raises BudgetError if the budget leaves less than a byte or a value a row, DataError if the split holds nothing
        back, RunError if the run's folder holds another command's search.
        """
        check_validation(job)
        sampler, settings = CutSampler.of(job, config.widths), job.backbone.closed(job.config)
        history = SearchHistory(job.checkpoint.folder if job.checkpoint else None)
        claim_folder(job)
        if job.backbone.open_axes(job.config):
            # Chosen within sizes as they will be: full rows prefer others.
            middle = CutAction(FREQUENCY, 1.0, len(sampler.totals), (0.0, 1.0)[: len(job.row_bits[1:])], 0, 0)
            first = replace(sampler.cut(middle), settings={})
            settings = job.fit(first.plan, final=False, start=first.start(job, feedback=False)).config
        sampler = replace(sampler, settings={name: getattr(settings, name) for name in _SETTINGS})
        evaluator = CutEvaluator(job, settings, config.users)
        _search(job, config, sampler, evaluator, history)
        ranked = sorted(history.evaluated, key=lambda entry: -entry["fitness"])[: config.finalists]
        cuts = [sampler.cut(CutAction.from_json(entry["action"])) for entry in ranked]
        scores = [evaluator.evaluate(cut, 1) for cut in cuts]
        best = sorted(range(len(cuts)), key=lambda number: -scores[number])[: config.retrain]
        finalists = [(ranked[number], cuts[number]) for number in best]
        if config.include_uniform_baseline:
            for bits in job.row_bits or (None,):
                action = sampler.rule(bits)
                finalists.append((_entry(history, action, sampler.cut(action), job), sampler.cut(action)))
        return _trained(job, finalists, history, settings)


def _search(job: Job, config: CutConfig, sampler: CutSampler, evaluator: CutEvaluator, history: SearchHistory) -> None:
    """Evaluate actions until the history has all."""
    rules = sampler.rules()[: config.actions]
    full, n_random = None, max(int(config.random * (config.actions - len(rules))), 1)
    for number in range(len(history.evaluated), config.actions):
        full = evaluator.evaluate(None) if full is None else full
        started, rng = time.perf_counter(), np.random.default_rng([job.seed, _DRAWS, number])
        if number < len(rules):
            action, strategy = rules[number], "rule"
        elif number < len(rules) + n_random:
            action, strategy = sampler.draw(rng), "random"
        else:
            best = sorted(history.evaluated, key=lambda entry: -entry["fitness"])[:_PARENTS]
            parent = best[int(rng.integers(len(best)))]
            action, strategy = sampler.near(CutAction.from_json(parent["action"]), rng), "nearest"
        cut = sampler.cut(action)
        value = evaluator.evaluate(cut)
        entry = {**_entry(history, action, cut, job), "strategy": strategy, "eval": value}
        entry |= {"fitness": value / max(full, 1e-12), "seconds": round(time.perf_counter() - started, 3)}
        history.add(entry)
        fitness = [one["fitness"] for one in history.evaluated]
        values = {"fitness": fitness[-1], "best": max(fitness)}
        job.progress(Step("search", 1, 1, len(fitness), config.actions, values))


def _entry(history: SearchHistory, action: CutAction, cut: Cut, job: Job) -> dict[str, Any]:
    """Return the history entry of an action that is not evaluated yet."""
    sizes = size_deciles(cut.plan, job.train.user_counts(), job.train.item_counts())
    values = 0 if cut.plan.items is None else int(cut.plan.items.sum())
    entry = {"iteration": len(history.evaluated), "action": asdict(action), "strategy": RETRAIN, "predicted": None}
    return {**entry, "fitness": None, "density": values / (job.n_rows * job.d), "seconds": 0.0, "sizes": sizes}


def _trained(job: Job, finalists: list[tuple[dict[str, Any], Cut]], history: SearchHistory, settings: Any) -> FitResult:
    """Train each cut in full and return the best fit on validation, by eval, with its settings."""
    known, results, scores = len(history.entries) - len(history.evaluated), [], []
    for number, (entry, cut) in enumerate(finalists):
        results.append(job.fit(cut.plan, final=False, start=cut.start(job)))
        scores.append(float(eval_of(results[-1].validation)))
        if number >= known:
            history.add({**entry, "strategy": RETRAIN, "fitness": None, "eval": scores[-1]})
    first = int(np.argmax(scores))
    cut, result = finalists[first][1], results[first]
    if job.split.fit_all:
        result = job.fit(cut.plan, chosen=result, start=cut.start(job))
    brief = [*result.history, *map(brief_entry, history.entries)]
    return replace(result, config=replace(settings, **cut.settings), history=brief)
