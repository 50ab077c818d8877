"""CIESS: agents change the size of every row, time after time, and learn which sizes keep its quality.

Continuous input embedding size search (Qu, Chen, Zhao, Cui, Zheng and Yin 2023, arXiv 2304.03501). One agent for users
and one for items see a row's popularity, size and quality, and are paid its quality less the memory that it takes; a
random walk leads from what the actor proposes to sizes near it, of which the critic chooses. Quality is eval on
validation after a short training from scratch, over that of the full-size model.

The paper's budget is soft: it filters what was visited. Here it is met: visited sizes are projected on it exactly and
evaluated once more; the best are trained in full, and validation chooses.

What agents see of a row's quality, and what they are paid for, are measured on different halves of the validation part:
paid for what they see they overfit to that part, row by row. And of visited sizes only what rows of like popularity
have in common ships: the fittest of many visits are those whose rows had luck (docs/research/searched-sizes.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from edgerec.budget import Budget
from edgerec.errors import BudgetError, SettingError
from edgerec.methods.base import Job
from edgerec.methods.search import SearchConfig
from edgerec.methods.search.finalists import searched_budget
from edgerec.methods.search.history import VISITS_NAME
from edgerec.models import check_choice, check_range
from edgerec.training import FitResult

ORIGINS = ("visited", "projected", "proposed", "smoothed")
"""Of sizes: edgerec/methods/ciess/visits.py has what they are."""
UNIFORM = "uniform"
"""One size for all, which ships if none of these is better on validation."""
NOISES = ("gauss", "ou", "uniform")
RANKINGS = ("fitness", "quality")

_EPOCHS, _IALS_EPOCHS = 5, 2
"""Of the trainings that evaluate sizes. iALS solves for its optimum at once, from the svd."""


@dataclass(frozen=True)
class CIESSConfig(SearchConfig):
    """How sizes are searched.

    Attributes:
        epochs: of the training that evaluates sizes; None for 5, and 2 of iALS.
        episodes: M; each begins with full rows.
        iterations: T, changes of all sizes in an episode; 11 in the authors' code.
        cost: lambda, of a full row's memory with a quality of 1: the paper's 0.4, the code's 0.03; None for one that
            rises while agents want more than the share of `budgets` that the search is at, and falls below; sizes are
            then brought to that share before they are evaluated.
        budgets: shares of the full tables that one search is to serve, such as '20%,10%,5%', one after another; None
            for the run's own budget. Read if the cost follows them.
        ratio: quality is the share of the full model's metric, at most 1, as in the paper; else the metric itself.
        zero_based_cost: a row of one dimension costs nothing, as in the code; else as much as it has, as in the paper.
        log_sizes: agents see sizes and frequencies by their logarithm, and noise follows the sizes.
        walk: whether the critic chooses among the sizes of a random walk; False is the paper's ablation.
        noise: 'gauss', 'ou' or 'uniform'.
        noise_after_critic: noise comes after the critic's choice, one number for all rows, as in the code.
        shared_noise: rows have noise in common too (edgerec/methods/ciess/agent.py).
        holdout_reward: the quality of a row that agents see and the quality that they are paid for are measured on
            different halves of the validation part. Else they keep the sizes with which a row was lucky there, and
            overfit to the validation part, row by row.
        gamma: discount.
        updates, batch: steps of each agent a visit, and transitions in each.
        memory: visits whose transitions are replayed.
        parallel_episodes: episodes side by side, so that workers evaluate as many sizes in parallel; it changes what
            is found.
        ranked_by: what the best are best in: 'fitness', the mean metric of users; or 'quality', the mean over users
            and items of their own ratio to the full model, at most 1.
        n_finalists: of each source of sizes so many are projected on the budget and evaluated once more.
        candidate_sources: what is trained in full: 'visited' sizes as they are, 'projected' ones, 'proposed' by the
            actors and projected, visited ones 'smoothed' and projected, and 'uniform', one size for all (ours), so
            that nothing ships that validation finds worse; with commas, the best of which ships. A run tells which
            it was.
        search: a folder of finished searches: one of the same data, seed and settings is taken from there, and
            otherwise left there for runs with other budgets. None keeps it in the run's folder alone.
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
        """Raises SettingError for values out of range, BudgetError for budgets that cannot be read."""
        super().__post_init__()
        check_range("episodes", self.episodes, 1, 1e6)
        check_range("iterations", self.iterations, 1, 1e6)
        check_range("cost", self.cost, 0, 1e6)
        check_range("updates", self.updates, 0, 1e6)
        check_range("gamma", self.gamma, 0, 1)
        check_range("batch", self.batch, 1, 1e9)
        check_range("memory", self.memory, 1, 1e6)
        check_range("parallel_episodes", self.parallel_episodes, 1, self.episodes)
        check_range("n_finalists", self.n_finalists, 1, 1e6)
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
        """Return those of `candidate_sources`."""
        return tuple(name.strip() for name in self.candidate_sources.split(","))

    def shares(self) -> tuple[float, ...]:
        """Return those of `budgets`. Raises BudgetError."""
        found = [Budget.parse(text) for text in self.budgets.split(",")] if self.budgets is not None else []
        wrong = [str(budget) for budget in found if budget.kind != "share"]
        if wrong:
            raise BudgetError(f"budgets are shares such as '20%,10%,5%', not {', '.join(wrong)}")
        return tuple(budget.amount for budget in found)

    @property
    def visits(self) -> int:
        """How many sizes are evaluated."""
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
"""By name: this project's; the paper's; and its authors' code, where it differs from the paper."""


class CIESS:
    """A continuous search of each row's size by reinforcement learning."""

    name: ClassVar[str] = "ciess"
    config: ClassVar[type[CIESSConfig]] = CIESSConfig
    variants: ClassVar[Mapping[str, CIESSConfig]] = VARIANTS
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf"})
    budgeted: ClassVar[bool] = True

    def fit(self, job: Job, config: CIESSConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row, or with visited sizes alone where none
        of them spends it; DataError where the split holds nothing back, WorkerError where a worker is lost."""
        # torch comes with the search; methods are listed without it.
        from edgerec.methods.ciess.search import searched

        source, result = searched(job, config)
        return replace(result, method_config=replace(config, candidate_sources=source))


def epochs_of(job: Job, config: CIESSConfig) -> int:
    """Return the epochs of the trainings that evaluate sizes."""
    return config.epochs or (_IALS_EPOCHS if "ials" in (config.proxy, job.backbone.name) else _EPOCHS)


def shares_of(job: Job, config: CIESSConfig) -> tuple[float, ...]:
    """Return the shares that the search is to come near; none if the cost is fixed. Raises BudgetError."""
    budget = searched_budget(job)
    own = config.shares() or (budget.total / (budget.n_rows * job.d),)
    return own if config.cost is None else ()


_RULES = 4
"""Changes with what a search finds by the same settings."""
_AFTER_SEARCH = ("budgets", "ranked_by", "n_finalists", "candidate_sources", "retrain", "search")
"""Settings that decide nothing of what a search finds; `budgets` by its shares alone."""


def key_of(job: Job, config: CIESSConfig) -> dict[str, Any]:
    """Return all that decides what a search finds, as JSON."""
    return {
        "rules": _RULES,
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


def kept_at(job: Job, config: CIESSConfig, name: str) -> Path | None:
    """Return where a finished search is left: in the folder of searches by `name`, or in the run's folder."""
    if config.search is not None:
        return Path(config.search) / f"ciess-{name}.npz"
    return None if job.checkpoint is None else job.checkpoint.folder / VISITS_NAME
