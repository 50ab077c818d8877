"""BET: draws sizes of whole tables, evaluates those with the best predicted fitness, and trains the best to the end.

Budgeted embedding table (Qu, Chen, Nguyen and Yin 2024, arXiv 2310.14884). An action sets all sizes at once and meets
the budget by construction; its fitness is the eval (see edgerec.methods.search) on validation after a short training
that continues from the full-size model, over the eval of that model. An iteration draws `candidates` actions and
evaluates one: in a cycle of five, three times the one with the best predicted fitness, once a random one, and once the
one whose embedding is nearest to the fittest so far (section 4.3).

Differences from the paper: sizes are projected onto the budget exactly (edgerec/methods/search/sampler.py); the final
trainings stop on validation, the authors' on users of the test part; the predictor identifies items by their
frequencies, in the authors' code by their indices.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.base import Job, Method
from edgerec.methods.search import SearchConfig, SearchHistory, SizeEvaluator, retrained, searched_budget, size_deciles
from edgerec.methods.search.sampler import Action, Sampler
from edgerec.models import SizePlan, check_choice, check_range, check_ranges
from edgerec.training import FitResult, Step

if TYPE_CHECKING:
    from edgerec.methods.bet.predictor import Members

STRATEGIES = ("greedy", "random", "nearest")
"""Choices of an action: the best predicted one, a random one, or the nearest embedding to the fittest action's."""
EPOCHS = {"ials": 1, "ngcf": 15}
"""Epochs of fine-tuning by backbone; 10 for others, as in the paper. A pass of iALS solves every row exactly for
the other table."""


@dataclass(frozen=True)
class BETConfig(SearchConfig):
    """Settings of BET's search.

    Attributes:
        epochs: epochs of the fine-tuning that evaluates an action; None for 1 of iALS, 15 of ngcf and 10 of others.
        retrain: number of the best actions to train in full; the best of them on validation is exported.
        include_uniform_baseline: True to train one size for all rows with them, so that the result is not worse than it
            on validation (ours).
        iterations: T, number of evaluated actions. The paper states 10, and 50 in its study of this
            setting and in its code.
        candidates: m, number of actions drawn for each one that is evaluated.
        selection: 'predictor', or 'random' for a search without it: the paper's ablation.
        parallel_actions: actions that are chosen before any of them is evaluated, so that workers can evaluate them in
            parallel.
        turns: strategies of consecutive iterations, separated by commas and repeated in a cycle; each is one of
            `STRATEGIES`.
        updates, pairs: steps of the predictor after each group of parallel actions, and the number of evaluated actions
            in the batch of a step, drawn at random.
        decay: factor on the predictor's step size after every step.
        by_rows: True if the predictor weights a size by the number of its rows.
    """

    retrain: int = 5
    include_uniform_baseline: bool = True
    iterations: int = 50
    candidates: int = 100
    selection: str = "predictor"
    parallel_actions: int = 5
    turns: str = "greedy,greedy,greedy,random,nearest"
    updates: int = 100
    pairs: int = 16
    decay: float = 1.0
    by_rows: bool = True

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        super().__post_init__()
        check_ranges(self, 1, 1e6, "iterations", "candidates", "parallel_actions")
        check_choice("selection", self.selection, ("predictor", "random"))
        for name in self.strategies():
            check_choice("turns", name, STRATEGIES)
        check_range("updates", self.updates, 0, 1e6)
        check_range("pairs", self.pairs, 1, 1e6)
        check_range("decay", self.decay, 0, 1)

    def strategies(self) -> tuple[str, ...]:
        """Return those of `turns`."""
        return tuple(name.strip() for name in self.turns.split(","))


_PAPER = BETConfig(include_uniform_baseline=False, parallel_actions=1, updates=2, pairs=1, decay=0.9, by_rows=False)
VARIANTS: Mapping[str, BETConfig] = {
    "default": BETConfig(),
    "paper": _PAPER,
    "authors_code": replace(_PAPER, turns="greedy,greedy,greedy,nearest,random", retrain=3),
}
"""Configs by name: this project's; the paper's, whose predictor hardly ranks after two steps an action
(docs/research/searched-sizes.md); and the authors' code where it differs from the paper."""


class BET(Method):
    """A budgeted search of sizes over whole tables."""

    name: ClassVar[str] = "bet"
    config: ClassVar[type[BETConfig]] = BETConfig
    variants: ClassVar[Mapping[str, BETConfig]] = VARIANTS
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf"})

    def fit(self, job: Job, config: BETConfig) -> FitResult:
        """Search sizes and train the best in full.

        Raises BudgetError if the budget leaves less than one value a row, DataError if the split holds nothing back,
        WorkerError if a worker is lost.
        """
        sampler = Sampler(job.train.user_counts(), job.train.item_counts(), searched_budget(job))
        history = SearchHistory(job.checkpoint.folder if job.checkpoint else None)
        trained = "ials" if config.proxy == "ials" else job.backbone.name
        epochs = config.epochs or EPOCHS.get(trained, 10)
        with SizeEvaluator(job, "fine-tune", proxy=config.proxy, epochs=epochs) as evaluator:
            BETSearch(job, config, sampler, evaluator, history).run()
        best = sorted(history.evaluated, key=lambda entry: -entry["fitness"])[: config.retrain]
        plans = [(entry, sampler.plan(Action.from_json(entry["action"]))) for entry in best]
        return retrained(job, plans, history, include_uniform_baseline=config.include_uniform_baseline)


_DRAWS, _LEARNING, _WEIGHTS = range(3)
"""First part of the seed of each random generator, so that draws for one purpose do not shift those for another."""


@dataclass(frozen=True)
class _ChosenAction:
    """An action to evaluate, and the strategy that chose it."""

    action: Action
    strategy: str
    predicted: float | None


class BETSearch:
    """A search in progress; `run` fills the history."""

    def __init__(
        self,
        job: Job,
        config: BETConfig,
        sampler: Sampler,
        evaluator: SizeEvaluator,
        history: SearchHistory,
    ) -> None:
        self._job, self._config = job, config
        self._sampler, self._evaluator, self._history = sampler, evaluator, history
        # torch comes with the search; methods are listed without it.
        from edgerec.methods.bet.predictor import Groups, Predictor

        self._groups = Groups.of(sampler.user_counts, sampler.item_counts)
        weights = int(self._rng(_WEIGHTS).integers(1 << 62))
        self._predictor = Predictor(self._groups, sampler.budget.d, weights, decay=config.decay, by_rows=config.by_rows)
        self._members: list[Members] = []
        self._fitness: list[float] = []

    def run(self) -> None:
        """Evaluate `iterations` actions, including those in the history. Raises as `SizeEvaluator.each` does."""
        for start in range(0, self._config.iterations, self._config.parallel_actions):
            self._evaluate_all(range(start, min(start + self._config.parallel_actions, self._config.iterations)))
            self._learn(start)

    def predict(self, actions: Sequence[Action]) -> NDArray[np.float64]:
        """Return the (n,) fitness of actions by the current predictor."""
        return self._predictor.predict(self._members_of(actions))

    def _evaluate_all(self, iterations: range) -> None:
        """Choose an action for each iteration by the current predictor, and evaluate them."""
        known = self._history.evaluated[iterations.start : iterations.stop]
        new = iterations[len(known) :]
        choices = [self._choose(number) for number in new]
        plans = [self._sampler.plan(choice.action) for choice in choices]
        # Trainings share their random draws, so that differences come from the sizes.
        answers = self._evaluator.each(plans)
        started = time.perf_counter()
        for number, choice, plan in zip(new, choices, plans, strict=True):
            value = next(answers).mean
            now = time.perf_counter()
            known.append(self._entry(number, choice, plan, value, now - started))
            self._history.add(known[-1])
            self._show()
            started = now
        for entry in known:
            plan = self._sampler.plan(Action.from_json(entry["action"]), exact=True)
            self._members.append(self._groups.members(plan))
            self._fitness.append(entry["fitness"])

    def _choose(self, number: int) -> _ChosenAction:
        rng = self._rng(_DRAWS, number)
        turns = self._config.strategies()
        learnt = bool(self._fitness) and self._config.selection == "predictor"
        strategy = turns[number % len(turns)] if learnt else "random"
        drawn = [self._sampler.draw(rng) for _ in range(1 if strategy == "random" else self._config.candidates)]
        members = self._members_of(drawn)
        predicted = self._predictor.predict(members)
        at = int(predicted.argmax()) if strategy != "nearest" else int(self._distances(members).argmin())
        return _ChosenAction(drawn[at], strategy, float(predicted[at]) if learnt else None)

    def _members_of(self, actions: Sequence[Action]) -> list[Members]:
        return [self._groups.members(self._sampler.plan(action, exact=True)) for action in actions]

    def _distances(self, members: list[Members]) -> NDArray[np.float64]:
        """Return (n,) distances between the embeddings of actions and that of the fittest so far."""
        best = self._members[int(np.argmax(self._fitness))]
        embedded = self._predictor.embed([best, *members])
        distances: NDArray[np.float64] = np.linalg.norm(embedded[1:] - embedded[0], axis=1)
        return distances

    def _learn(self, start: int) -> None:
        rng = self._rng(_LEARNING, start)
        for _ in range(self._config.updates if self._config.selection == "predictor" else 0):
            pairs = rng.permutation(len(self._fitness))[: self._config.pairs]
            self._predictor.update([self._members[pair] for pair in pairs], [self._fitness[pair] for pair in pairs])

    def _entry(
        self, number: int, choice: _ChosenAction, plan: SizePlan, value: float, seconds: float
    ) -> dict[str, Any]:
        counts = self._sampler.user_counts, self._sampler.item_counts
        values = sum(int(sizes.sum()) for sizes in (plan.users, plan.items) if sizes is not None)
        return {
            "iteration": number,
            "action": choice.action.to_json(),
            "strategy": choice.strategy,
            "predicted": choice.predicted,
            "fitness": value / max(self._evaluator.full().mean, 1e-12),
            "eval": value,
            "density": values / (sum(side.size for side in counts) * plan.d),
            "seconds": round(seconds, 3),
            "sizes": size_deciles(plan, *counts),
        }

    def _show(self) -> None:
        fitness = [entry["fitness"] for entry in self._history.evaluated]
        values = {"fitness": fitness[-1], "best": max(fitness)}
        self._job.progress(Step("search", 1, 1, len(fitness), self._config.iterations, values))

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._job.seed, *what])
