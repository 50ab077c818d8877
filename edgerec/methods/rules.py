"""Size rules: full rows, one size for all, random sizes, and sizes that grow with popularity.

The same rules size the rows of a table and, segment by segment, those of a stream. Sizes by popularity are the rule of
mixed-dimension embeddings (Ginart et al. 2021, arXiv 1909.11810), with sizes projected onto the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import SizeBudget
from edgerec.errors import BudgetError
from edgerec.methods.base import Configured, Job, Method, check_user_share
from edgerec.models import Backbone, SizePlan, State, check_choice, check_range
from edgerec.training import SELECTION, FitResult

if TYPE_CHECKING:
    from edgerec.methods.stream.policy import DecisionContext, SizePolicy

Counts = NDArray[np.int64]
Weights = NDArray[np.float64]
_EXPONENTS = (Backbone.size_exponent, 1.0, 2.0)
_TRIED_WITH = ("ials", "svd")
"""Backbones whose trainings take seconds, so that one an exponent is affordable."""
COUNTS = ("segment", "all")
"""Parts of a stream whose interactions count as frequencies: the current segment, or all segments so far."""


@dataclass(frozen=True)
class DenseConfig:
    """No settings."""


class Dense(Method):
    """Full rows, without a budget."""

    name: ClassVar[str] = "dense"
    config: ClassVar[type[DenseConfig]] = DenseConfig
    budgeted: ClassVar[bool] = False

    def fit(self, job: Job, config: DenseConfig) -> FitResult:
        """Train full rows. Raises BudgetError if a budget is given: it cannot be met."""
        if job.budget is not None:
            raise BudgetError(
                "the method 'dense' stores every value and takes no budget; 'uniform' is the same within one"
            )
        return job.fit(SizePlan(job.d))


@dataclass(frozen=True)
class UniformConfig:
    """No settings."""


class Uniform(Method):
    """Dense tables with as many dimensions as the budget allows: the same size for every row."""

    name: ClassVar[str] = "uniform"
    config: ClassVar[type[UniformConfig]] = UniformConfig

    def fit(self, job: Job, config: UniformConfig) -> FitResult:
        """Train rows of one size. Raises BudgetError if the budget leaves less than one value a row."""
        return job.fit(SizePlan(job.values() // job.n_rows))


@dataclass(frozen=True)
class RandomConfig:
    """Settings of random sizes.

    Attributes:
        widths: maximum number of distinct sizes a table; the papers have no limit. Each is a block of the exported
            graph.
    """

    widths: int = 16

    def __post_init__(self) -> None:
        """Raise BudgetError for less than one width."""
        if self.widths < 1:
            raise BudgetError(f"widths must be at least 1, got {self.widths}")


class Random(Method):
    """Random sizes, uniform in 1..2 m - 1 for a mean size of m (baseline of CIESS and BET, authors' code).

    A draw meets the budget only on average, so sizes are then projected onto it (ours).
    """

    name: ClassVar[str] = "random"
    config: ClassVar[type[RandomConfig]] = RandomConfig

    def fit(self, job: Job, config: RandomConfig) -> FitResult:
        """Train within random sizes. Raises BudgetError if the budget leaves less than one value a row."""
        rng = np.random.default_rng(job.seed)
        most = max(2 * job.values() // job.n_rows - 1, 1)
        items, users = (rng.integers(1, most, n, endpoint=True).astype(np.float64) for n in job.train.shape[::-1])
        return job.fit(_plan_of_few_widths(job, users, items, widths=config.widths))


@dataclass(frozen=True)
class SizeByPopularity:
    """Settings of sizes by popularity, of a table and of a stream.

    Attributes:
        exponent: exponent of the frequency; 0 is one size for all. None for 0.25 or, in tables of ials and svd, for
            the best of 0.25, 1 and 2 on validation; for 1 in tables of lae.
        user_share: share of the budget for users, in (0, 1); None for their share of the rows.
    """

    exponent: float | None = None
    user_share: float | None = None

    def __post_init__(self) -> None:
        """Raise SettingError and BudgetError for values out of range."""
        check_range("exponent", self.exponent, 0, 4)
        check_user_share(self.user_share)

    def weights(self, counts: Counts) -> Weights:
        """Return the (n,) positive weights of rows with `counts` (n,) interactions."""
        exponent = Backbone.size_exponent if self.exponent is None else self.exponent
        weights: Weights = np.power(counts + 1.0, exponent).astype(np.float64)
        return weights


@dataclass(frozen=True)
class PopularityConfig(SizeByPopularity):
    """Settings of sizes by popularity.

    Attributes:
        widths: maximum number of distinct sizes a table; None for 4 up to 10,000 rows, 8 up to 100,000 and 16 above.
            Each is a block of the exported graph, with a fixed cost of about 1.3 us.
    """

    widths: int | None = None

    def __post_init__(self) -> None:
        """Raise SettingError and BudgetError for values out of range."""
        super().__post_init__()
        if self.widths is not None and self.widths < 1:
            raise BudgetError(f"widths must be at least 1, got {self.widths}")


class Popularity(Method):
    """Row sizes in proportion to a power of the row's number of interactions; a row stores its first dimensions."""

    name: ClassVar[str] = "popularity"
    config: ClassVar[type[PopularityConfig]] = PopularityConfig

    def fit(self, job: Job, config: PopularityConfig) -> FitResult:
        """Train within sizes by popularity. Raises BudgetError if the budget leaves less than one value a row."""
        open_ = config.exponent is None
        if not (open_ and job.backbone.name in _TRIED_WITH and len(job.split.validation)):
            closed = replace(config, exponent=job.backbone.size_exponent) if open_ else config
            return replace(job.fit(_plan_by_popularity(job, closed)), method_config=closed)
        results = {}
        for exponent in _EXPONENTS:
            tried = replace(config, exponent=exponent)
            results[tried] = job.fit(_plan_by_popularity(job, tried), final=False)
        best = max(results, key=lambda tried: results[tried].validation[SELECTION])
        result = results[best]
        if job.split.fit_all:
            result = job.fit(_plan_by_popularity(job, best), chosen=result)
        return replace(result, method_config=best)


def _plan_by_popularity(job: Job, config: PopularityConfig) -> SizePlan:
    users, items = (config.weights(counts) for counts in (job.train.user_counts(), job.train.item_counts()))
    return _plan_of_few_widths(job, users, items, user_share=config.user_share, widths=config.widths)


def plan_by_weight(
    budget: SizeBudget, user_weights: Weights, item_weights: Weights, user_share: float | None = None
) -> SizePlan:
    """Return a plan of sizes in proportion to weights within a budget (see `SizeBudget.sizes`)."""
    return SizePlan(budget.d, *budget.sizes(user_weights, item_weights, user_share))


def _plan_of_few_widths(
    job: Job,
    user_weights: Weights,
    item_weights: Weights,
    *,
    user_share: float | None = None,
    widths: int | None = None,
) -> SizePlan:
    """Return sizes within the job's budget, with at most `widths` distinct ones a table; None for the default.

    They are multiples of the number of values that share a byte, if the budget allows.

    Raises BudgetError if the budget leaves less than one value a row.
    """
    users, items = (widths or _default_widths(weights.size) for weights in (user_weights, item_weights))
    unit = 8 // (job.code_bits or 8)
    budget = job.size_budget(user_widths=users, item_widths=min(items, max(job.d // unit, 1)))
    if budget.d < unit or budget.total < unit * budget.n_rows:
        unit = 1
    in_bytes = replace(budget, total=min(budget.total // unit, budget.n_rows * (budget.d // unit)), d=budget.d // unit)
    plan = plan_by_weight(in_bytes, user_weights, item_weights, user_share)
    return SizePlan(budget.d, *(None if sizes is None else sizes * unit for sizes in (plan.users, plan.items)))


def _default_widths(n_rows: int) -> int:
    """Return the documented default of `PopularityConfig.widths`."""
    return 4 if n_rows <= 10_000 else 8 if n_rows <= 100_000 else 16


class RulePolicy:
    """A stateless policy that applies a rule."""

    def __init__(self, rule: Callable[[DecisionContext], SizePlan]) -> None:
        self._rule = rule

    def plan(self, context: DecisionContext) -> SizePlan:
        return self._rule(context)

    def report(self) -> dict[str, Any]:
        return {}

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


class UniformStream(Configured):
    """One size for all rows, as large as the budget allows."""

    name: ClassVar[str] = "uniform"
    config: ClassVar[type[UniformConfig]] = UniformConfig

    def policy(self, config: UniformConfig, d: int, seed: int) -> SizePolicy:
        return RulePolicy(lambda context: context.now.uniform_sizes())


@dataclass(frozen=True)
class PopularityStreamConfig(SizeByPopularity):
    """Settings of sizes by popularity in a stream.

    Attributes:
        counts: interactions to count frequencies in: 'all' known ones, or those of the 'segment'.
    """

    counts: str = "all"

    def __post_init__(self) -> None:
        """Raise SettingError, BudgetError for values out of range."""
        super().__post_init__()
        check_choice("counts", self.counts, COUNTS)


class PopularityStream(Configured):
    """Sizes in proportion to a power of the frequency."""

    name: ClassVar[str] = "popularity"
    config: ClassVar[type[PopularityStreamConfig]] = PopularityStreamConfig

    def policy(self, config: PopularityStreamConfig, d: int, seed: int) -> SizePolicy:
        def rule(context: DecisionContext) -> SizePlan:
            users, items = map(config.weights, context.now.counts(config.counts))
            return plan_by_weight(context.now.budget, users, items, config.user_share)

        return RulePolicy(rule)
