"""CIESS: agents repeatedly change the size of every row and learn which sizes preserve its quality.

Continuous input embedding size search (Qu, Chen, Zhao, Cui, Zheng and Yin 2023, arXiv 2304.03501). One agent for users
and one for items observe a row's popularity, size and quality; their reward is its quality minus the cost of its
memory. A random walk leads from the actor's proposal to nearby sizes, of which the critic chooses one. Quality is the
row's eval (see edgerec.methods.search) on validation after a short training from scratch, over that of the full-size
model.

The paper's budget is soft: of the visited sizes (those evaluated during the search) it selects the ones that meet it.
Here the budget is met exactly: visited sizes are projected onto it and evaluated once more; the best are trained to the
end, and validation chooses.

The observed and the rewarded quality of a row are measured on different halves of the validation part: with one part
for both, agents overfit to it, row by row. For the same reason visited sizes are averaged over rows of similar
popularity before they are projected: the fittest of many visits are those whose rows were lucky (figures:
docs/research/searched-sizes.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from edgerec.budget import Budget
from edgerec.errors import BudgetError, SettingError
from edgerec.methods.base import Job, Method
from edgerec.methods.search import VISITS_NAME, SearchConfig, searched_budget
from edgerec.methods.search.cuts import CutSearchConfig
from edgerec.models import check_choice, check_range, check_ranges
from edgerec.training import FitResult

ORIGINS = ("visited", "projected", "proposed", "smoothed")
"""Origins of candidate sizes; `Candidate` in edgerec/methods/ciess/visits.py defines them."""
UNIFORM = "uniform"
"""The source that gives all rows one size; the result if no searched sizes are better on validation."""
NOISES = ("gauss", "ou", "uniform")
RANKINGS = ("fitness", "quality")

_EPOCHS, _IALS_EPOCHS = 5, 2
"""Epochs of the trainings that evaluate sizes, and those of iALS, which starts from singular vectors and whose passes
solve every row exactly for the other table."""


@dataclass(frozen=True)
class CIESSConfig(SearchConfig):
    """Settings of CIESS's search.

    Attributes:
        epochs: epochs of the training that evaluates sizes; None for 5, and 2 of iALS.
        episodes: M; each begins with full rows.
        iterations: T, changes of all sizes in an episode; 11 in the authors' code.
        cost: lambda, the cost of a full row's memory relative to a quality of 1: the paper's 0.4, the code's 0.03. None
            for a cost that rises while agents propose more than the current share of `budgets`, and falls below it;
            sizes are then projected onto that share before they are evaluated.
        budgets: shares of the full tables that one search targets, such as '20%,10%,5%', one after another; None
            for the run's own budget. Used if `cost` is None.
        ratio: True for quality as the metric over the full model's, at most 1, as in the paper; False for the metric
            itself.
        zero_based_cost: True if a row of one dimension costs nothing, as in the code; False if it costs its share of
            memory, as in the paper.
        log_sizes: agents see sizes and frequencies by their logarithm, and noise scales with the sizes.
        walk: True if the critic chooses among the sizes of a random walk; False is the paper's ablation.
        noise: 'gauss', 'ou' or 'uniform'.
        noise_after_critic: add noise after the critic's choice, one number for all rows, as in the code.
        shared_noise: add noise that rows share: a visit changes the sizes of popular rows relative to rare
            ones by a factor, and those of users relative to items (ours). With independent noise alone, sums over
            thousands of rows hardly differ between visits, so that no visit is more informative than another.
        holdout_reward: measure the observed and the rewarded quality of a row on different halves of the validation
            part. Else agents prefer sizes with which a row was lucky there, and overfit to that part, row by row.
        gamma: discount.
        updates, batch: steps of each agent after each visit, and number of transitions in the batch of a step.
        memory: number of the latest visits whose transitions are replayed.
        parallel_episodes: number of simultaneous episodes, whose sizes workers evaluate in parallel; it changes the
            result.
        ranked_by: the ranking of visits: 'fitness', the mean metric of users; or 'quality', the mean over users and
            items of their own ratio to the full model, at most 1.
        n_finalists: number of candidates of each projected source that are evaluated once more.
        candidate_sources: sources of the sizes that are trained in full, separated by commas: 'visited' sizes as they
            are, 'projected' ones, 'proposed' ones of the actors, projected, 'smoothed' ones, projected, and 'uniform',
            one size for all (ours), so that the result is not worse than it on validation. The best is the result, and
            a run records its source.
        search: a folder of finished searches: a run reads one of the same data, seed and settings from there, or else
            stores its own there for runs with other budgets. None stores it in the run's folder alone.
    """

    episodes: int = 30
    iterations: int = 10
    cost: float | None = None
    budgets: str | None = None
    ratio: bool = True
    zero_based_cost: bool = False
    log_sizes: bool = True
    walk: bool = True
    noise: str = "gauss"
    noise_after_critic: bool = False
    shared_noise: bool = True
    holdout_reward: bool = True
    gamma: float = 0.0
    updates: int = 20
    batch: int = 512
    memory: int = 100
    parallel_episodes: int = 1
    ranked_by: str = "fitness"
    n_finalists: int = 12
    candidate_sources: str = "smoothed,uniform"
    search: str | None = None

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range, BudgetError for malformed budgets."""
        super().__post_init__()
        check_ranges(self, 1, 1e6, "episodes", "iterations", "memory", "n_finalists")
        check_ranges(self, 0, 1e6, "cost", "updates")
        check_range("gamma", self.gamma, 0, 1)
        check_range("batch", self.batch, 1, 1e9)
        check_range("parallel_episodes", self.parallel_episodes, 1, self.episodes)
        check_choice("noise", self.noise, NOISES)
        check_choice("ranked_by", self.ranked_by, RANKINGS)
        for name in self.sources():
            check_choice("candidate_sources", name, (*ORIGINS, UNIFORM))
        if self.episodes % self.parallel_episodes:
            raise SettingError(
                f"the setting parallel_episodes must divide the {self.episodes} episodes, got {self.parallel_episodes}"
            )
        self.shares()

    def sources(self) -> tuple[str, ...]:
        """Return the names in `candidate_sources`."""
        return tuple(name.strip() for name in self.candidate_sources.split(","))

    def shares(self) -> tuple[float, ...]:
        """Return the shares in `budgets`. Raises BudgetError."""
        found = [Budget.parse(text) for text in self.budgets.split(",")] if self.budgets is not None else []
        wrong = [str(budget) for budget in found if budget.kind != "share"]
        if wrong:
            raise BudgetError(f"budgets are shares such as '20%,10%,5%', not {', '.join(wrong)}")
        return tuple(budget.amount for budget in found)

    @property
    def visits(self) -> int:
        """Number of evaluated sizes."""
        return self.episodes * self.iterations


_PAPER = CIESSConfig(
    epochs=5,
    cost=0.4,
    log_sizes=False,
    shared_noise=False,
    holdout_reward=False,
    gamma=0.99,
    updates=1,
    batch=4096,
    ranked_by="quality",
    candidate_sources="visited,projected",
)
VARIANTS: Mapping[str, CIESSConfig] = {
    "default": CIESSConfig(),
    "paper": _PAPER,
    "authors_code": replace(
        _PAPER, epochs=20, iterations=11, cost=0.03, ratio=False, zero_based_cost=True, noise_after_critic=True
    ),
}
"""Configs by name: this project's; the paper's; and the authors' code where it differs from the paper."""


class CIESS(Method):
    """A continuous search of each row's size by reinforcement learning."""

    name: ClassVar[str] = "ciess"
    config: ClassVar[type[CIESSConfig]] = CIESSConfig
    variants: ClassVar[Mapping[str, CIESSConfig]] = VARIANTS
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf"})

    def fit(self, job: Job, config: CIESSConfig) -> FitResult:
        """Search sizes and train the best in full.

        Raises BudgetError if the budget leaves less than one value a row, or if visited sizes are the only source and
        none spends it; DataError if the split holds nothing back; WorkerError if a worker is lost.
        """
        # torch comes with the search; methods are listed without it.
        from edgerec.methods.ciess.search import searched

        source, result = searched(job, config)
        return replace(result, method_config=replace(config, candidate_sources=source))


@dataclass(frozen=True)
class CIESSCutConfig(CutSearchConfig):
    """Settings of CIESS's search on the SVD.

    Attributes:
        iterations: changes of all tiers in an episode, which begins with full rows.
        tiers: number of tiers of items; items with equally many interactions have one tier.
        walk: True if the critic chooses among the sizes of a random walk.
        noise: 'gauss', 'ou' or 'uniform'.
        random: share of the actions, the first ones, whose shared noise does not start from one of the fittest so far.
        gamma: discount.
        updates, batch: steps of each agent after each action, and number of transitions in the batch of a step.
        memory: number of the latest actions whose transitions are replayed.
    """

    iterations: int = 10
    tiers: int = 16
    walk: bool = True
    noise: str = "gauss"
    random: float = 0.3
    gamma: float = 0.0
    updates: int = 2
    batch: int = 128
    memory: int = 200

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        super().__post_init__()
        check_ranges(self, 1, 1e6, "iterations", "tiers", "batch", "memory")
        check_range("updates", self.updates, 0, 1e6)
        check_ranges(self, 0, 1, "gamma", "random")
        check_choice("noise", self.noise, NOISES)


class CIESSOnSVD(Method):
    """A search of bytes and bits of tiers of items by reinforcement learning that cuts one decomposition."""

    name: ClassVar[str] = "ciess"
    config: ClassVar[type[CIESSCutConfig]] = CIESSCutConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"svd"})
    codes_rows: ClassVar[bool] = True

    def fit(self, job: Job, config: CIESSCutConfig) -> FitResult:
        """Search bytes and bits, and train the best in full.

        Raises BudgetError if the budget leaves less than a byte or a value a row, DataError if the split holds nothing
        back, RunError if the run's folder holds another command's search.
        """
        # torch comes with the search; methods are listed without it.
        from edgerec.methods.ciess.cuts import searched

        return searched(job, config)


def epochs_of(job: Job, config: CIESSConfig) -> int:
    """Return the epochs of the trainings that evaluate sizes."""
    return config.epochs or (_IALS_EPOCHS if "ials" in (config.proxy, job.backbone.name) else _EPOCHS)


def shares_of(job: Job, config: CIESSConfig) -> tuple[float, ...]:
    """Return the target shares of the search; none if the cost is fixed. Raises BudgetError."""
    budget = searched_budget(job)
    own = config.shares() or (budget.total / (budget.n_rows * job.d),)
    return own if config.cost is None else ()


_SEARCH_VERSION = 4
"""Version of the search algorithm, part of `key_of`; increased if the same settings find other sizes."""
_AFTER_SEARCH = ("budgets", "ranked_by", "n_finalists", "candidate_sources", "retrain", "search")
"""Settings that do not influence a search; `key_of` has the shares of `budgets` instead."""


def key_of(job: Job, config: CIESSConfig) -> dict[str, Any]:
    """Return everything that decides the result of a search, as JSON."""
    return {
        "rules": _SEARCH_VERSION,
        "train": job.split.train.fingerprint(),
        "validation": job.split.validation.fingerprint(),
        "backbone": job.backbone.name,
        "settings": asdict(job.config),
        "d": job.d,
        "full": [job.options.max_epochs, job.options.patience],
        **{name: value for name, value in asdict(config).items() if name not in _AFTER_SEARCH},
        "epochs": epochs_of(job, config),
        "shares": shares_of(job, config),
        "seed": job.seed,
    }


def search_path(job: Job, config: CIESSConfig, name: str) -> Path | None:
    """Return the file of a finished search, in the folder of searches by `name` or in the run's folder."""
    if config.search is not None:
        return Path(config.search) / f"ciess-{name}.npz"
    return None if job.checkpoint is None else job.checkpoint.folder / VISITS_NAME
