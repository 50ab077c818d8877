"""CIESS: agents change the size of every row, time after time, and learn which sizes keep its quality.

Continuous input embedding size search (Qu, Chen, Zhao, Cui, Zheng and Yin 2023, arXiv 2304.03501). One agent for users
and one for items see a row's popularity, size and quality, and are paid its quality less the memory that it takes; a
random walk leads from what the actor proposes to sizes near it, of which the critic chooses. Quality is eval on
validation after a short training from scratch, over that of the full-size model.

The paper's budget is soft: it filters what was visited. Here it is met: visited sizes are projected on it exactly and
judged once more; the best are trained in full, and validation chooses.

What agents see of a row's quality, and what they are paid for, are measured on different halves of the validation part:
paid for what they see they learn that part by heart, row by row. And of visited sizes only what rows of like popularity
have in common ships: the fittest of many visits are those whose rows had luck (docs/searched-sizes.md has the figures).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgerec.budget import Budget
from edgerec.errors import BudgetError, SettingError
from edgerec.methods.base import Job
from edgerec.methods.search.config import SearchConfig
from edgerec.methods.search.history import VISITS_NAME
from edgerec.methods.search.noise import NOISES
from edgerec.models.settings import check_choice, check_range
from edgerec.training import FitResult

if TYPE_CHECKING:
    from edgerec.methods.search.explore import Search

ORIGINS = ("visited", "projected", "proposed", "smoothed")
"""Of sizes: edgerec/methods/search/shortlist.py has what they are."""
EVEN = "even"
"""What ships where none of these is better on validation than one size for all."""


@dataclass(frozen=True)
class Protocol:
    """What differs between the paper, its authors' code and this (the settings of the search that are left open).

    Attributes:
        iterations: T.
        epochs: of the training that judges sizes.
        cost: lambda; None follows the budget.
        ratio, from_one: as in edgerec/methods/search/environment.py.
        after: noise comes after the critic's choice, one number for all rows.
        common: rows have noise in common, as in edgerec/methods/search/agent.py.
        log: sizes and frequencies are seen by their logarithm, and noise follows the sizes.
        apart: as in edgerec/methods/search/explore.py.
        gamma: discount.
        updates, batch: steps of the agents a visit, and transitions in each.
        ranked_by: what the best are best in: 'quality', the mean over users and items of their own ratio to the full
            model, at most 1; or 'fitness', the mean metric of users.
        origins: of what may be trained in full.
        even: one size for all may, too (ours).
    """

    iterations: int
    epochs: int
    cost: float | None
    ratio: bool
    from_one: bool
    after: bool
    common: bool
    log: bool
    apart: bool
    gamma: float
    updates: int
    batch: int
    ranked_by: str
    origins: tuple[str, ...]
    even: bool = False


_OWN, _PAPERS = ("smoothed",), ("visited", "projected")
PROTOCOLS = {
    "own": Protocol(10, 5, None, True, False, False, True, True, True, 0.0, 20, 512, "fitness", _OWN, even=True),
    "paper": Protocol(10, 5, 0.4, True, False, False, False, False, False, 0.99, 1, 4096, "quality", _PAPERS),
    "code": Protocol(11, 20, 0.03, False, True, True, False, False, False, 0.99, 1, 4096, "quality", _PAPERS),
}
"""By name."""

RETRAIN = 3
_IALS_EPOCHS = 2
"""iALS solves for its optimum at once, from the svd."""


@dataclass(frozen=True)
class CIESSConfig(SearchConfig):
    """How sizes are searched.

    Attributes:
        episodes: M; each begins with full rows.
        iterations: T, changes of all sizes in an episode; None for 10, or the code's 11.
        cost: lambda, of a full row's memory beside a quality of 1; None for the protocol's: the paper's 0.4, the code's
            0.03, and in 'own' one that rises above the share of `budgets` that the search is at, and falls below.
        budgets: shares of the full tables that one search is to serve, such as '20%,10%,5%', one after another; None
            for the run's own budget. Read where the cost follows them.
        walk: whether the critic chooses among the sizes of a random walk; False is the paper's ablation.
        noise: 'gauss', 'ou' or 'uniform'.
        common: whether rows have noise in common too; None for the protocol's.
        apart: whether agents are paid for another half of the validation part than they see; None for the protocol's.
        updates: steps of each agent a visit; None for the protocol's.
        gamma: discount; None for the protocol's.
        batch: transitions in a step; None for the protocol's.
        memory: visits whose transitions are replayed.
        at_once: episodes side by side, so that workers judge as many sizes in parallel; it changes what is found.
        finals: of each origin of sizes so many are projected on the budget and judged once more.
        ship: what is trained in full: 'visited' sizes as they are, 'projected' ones, 'proposed' by the actors and
            projected, visited ones 'smoothed' and projected, or 'even', one size for all; several with commas, the
            best of which ships, whatever `even` says. None for those of the protocol. A run tells which it was.
        search: a folder of finished searches: one of the same data, seed and settings is taken from there, and
            otherwise left there for runs with other budgets. None keeps it beside the run alone.
        protocol: 'paper'; 'code', where the authors' code differs; or 'own'.
    """

    episodes: int = 30
    iterations: int | None = None
    cost: float | None = None
    budgets: str | None = None
    walk: bool = True
    noise: str = "gauss"
    common: bool | None = None
    apart: bool | None = None
    updates: int | None = None
    gamma: float | None = None
    batch: int | None = None
    memory: int = 100
    at_once: int = 1
    finals: int = 12
    ship: str | None = None
    search: str | None = None
    protocol: str = "own"

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
        check_range("at_once", self.at_once, 1, self.episodes)
        check_range("finals", self.finals, 1, 1e6)
        check_choice("noise", self.noise, NOISES)
        check_choice("protocol", self.protocol, tuple(PROTOCOLS))
        for name in self.kinds() or ():
            check_choice("ship", name, (*ORIGINS, EVEN))
        if self.episodes % self.at_once:
            raise SettingError(f"the setting at_once must divide the {self.episodes} episodes, got {self.at_once}")
        self.shares()

    def kinds(self) -> tuple[str, ...] | None:
        """Those of `ship`."""
        return None if self.ship is None else tuple(name.strip() for name in self.ship.split(","))

    def shares(self) -> tuple[float, ...]:
        """Those of `budgets`. Raises BudgetError."""
        found = [Budget.parse(text) for text in self.budgets.split(",")] if self.budgets is not None else []
        wrong = [str(budget) for budget in found if budget.kind != "share"]
        if wrong:
            raise BudgetError(f"budgets are shares such as '20%,10%,5%', not {', '.join(wrong)}")
        return tuple(budget.amount for budget in found)


class CIESS:
    """A continuous search of each row's size by reinforcement learning."""

    name: ClassVar[str] = "ciess"
    config: ClassVar[type[CIESSConfig]] = CIESSConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf"})
    budgeted: ClassVar[bool] = True

    def fit(self, job: Job, config: CIESSConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row, or with ship='visited' where nothing
        visited spends it; DataError where the split holds nothing back, WorkerError where a worker is lost."""
        # torch comes with the search; methods are listed without it.
        from edgerec.methods.search.ciess_search import searched

        chosen, result = searched(job, config, search_of(job, config), PROTOCOLS[config.protocol])
        return replace(result, method_config=replace(config, ship=chosen))


def epochs_of(job: Job, config: CIESSConfig) -> int:
    """Of the trainings that judge sizes."""
    solved = config.protocol == "own" and "ials" in (config.oracle, job.backbone.name)
    return config.epochs or (_IALS_EPOCHS if solved else PROTOCOLS[config.protocol].epochs)


def search_of(job: Job, config: CIESSConfig) -> Search:
    """What decides the search; no budget does, but where the cost follows it. Raises BudgetError."""
    from edgerec.methods.search.agent import Exploring
    from edgerec.methods.search.explore import Search
    from edgerec.methods.search.shortlist import allowed

    protocol = PROTOCOLS[config.protocol]
    cost = protocol.cost if config.cost is None else config.cost
    own = config.shares() or (allowed(job)[0] / (job.n_rows * job.d),)
    return Search(
        episodes=config.episodes,
        iterations=config.iterations or protocol.iterations,
        cost=cost,
        shares=own if cost is None else (),
        strict=cost is None,
        exploring=Exploring(
            config.noise,
            config.walk,
            protocol.after,
            protocol.common if config.common is None else config.common,
        ),
        ratio=protocol.ratio,
        from_one=protocol.from_one,
        log=protocol.log,
        apart=protocol.apart if config.apart is None else config.apart,
        gamma=protocol.gamma if config.gamma is None else config.gamma,
        updates=protocol.updates if config.updates is None else config.updates,
        batch=config.batch or protocol.batch,
        memory=config.memory,
        at_once=config.at_once,
        seed=job.seed,
    )


_RULES = 3
"""Changes with what a search finds by the same settings."""


def key_of(job: Job, config: CIESSConfig, search: Search) -> dict[str, Any]:
    """All that decides what a search finds, as JSON."""
    return {
        "rules": _RULES,
        "train": job.split.train.fingerprint(),
        "validation": job.split.validation.fingerprint(),
        "backbone": job.backbone.name,
        "settings": asdict(job.config),
        "oracle": config.oracle,
        "epochs": epochs_of(job, config),
        "d": job.d,
        "full": [job.options.max_epochs, job.options.patience],
        **asdict(search),
    }


def kept_at(job: Job, config: CIESSConfig, name: str) -> Path | None:
    """Where a finished search is left: in the folder of searches by `name`, or beside the run."""
    if config.search is not None:
        return Path(config.search) / f"ciess-{name}.npz"
    return None if job.checkpoint is None else job.checkpoint.folder / VISITS_NAME
