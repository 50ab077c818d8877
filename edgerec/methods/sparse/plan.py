"""Training of sparse tables: the plan that each method sets, the protocol of objectives, and the fit of a job.

An active value is one that the table stores and trains; the mask is the set of their positions. Users and items are one
table with user rows first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from edgerec.data import Interactions
from edgerec.errors import SettingError
from edgerec.methods.base import Job
from edgerec.methods.sparse.table import Floats, GradientBlocks, Ints
from edgerec.models import SizePlan, State, Trainer, Vectors, check_range
from edgerec.training import FitResult

if TYPE_CHECKING:
    from edgerec.training import Start


CHOICES: dict[str, tuple[str, ...]] = {
    "mask_init": ("random", "nmf"),
    "start": ("backbone", "factors"),
    "grow": ("random", "last-batch", "accumulated"),
    "backward": ("dense", "sampled"),
}


@dataclass(frozen=True)
class SparsePlan:
    """The plan of training a table with a constant number of active values; by default its random mask never changes.

    Attributes:
        bounds: (start, stop) of each row range with a budget of its own: all rows, or users and items.
        counts: number of active values of each range.
        mask_init: initial mask: 'random' or 'nmf'.
        start: initial values: the 'factors' of the factorisation if `mask_init` is 'nmf', or those of the 'backbone'.
        grow: values that are activated instead of dropped ones: 'random' ones, or those with the largest gradients, of
            the 'last-batch' or 'accumulated' since the mask last changed.
        backward: 'sampled' to compute the gradients of at most `rows` rows a step and leave the others unchanged;
            'dense' for those of all rows.
        rows: maximum number of sampled rows a step.
        uniform: share of the uniform distribution in the draw of rows; the rest follows their importance.
        fraction, last_fraction: fraction of the active values that the first and the last change drop; it follows a
            cosine in between.
        every: number of steps between changes; None for one change an epoch.
        horizon: number of epochs after which the mask is fixed.
        iterations: iterations of the non-negative factorisation.
    """

    bounds: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]
    mask_init: str = "random"
    grow: str = "random"
    backward: str = "dense"
    rows: int = 0
    uniform: float = 1.0
    fraction: float = 0.0
    last_fraction: float = 0.0
    every: int | None = None
    horizon: int = 0
    iterations: int = 0
    start: str = "factors"

    @property
    def n_rows(self) -> int:
        return self.bounds[-1][1]


def check_config(config: Any) -> None:
    """Raise SettingError if one of the settings that the methods of sparse training share is out of range."""
    ranges = {
        "fraction": (0, 1),
        "rows": (1e-9, 1),
        "uniform": (1e-9, 1),
        "every": (1, 1e9),
        "horizon": (0, 1e9),
        "nmf_iterations": (1, 1e6),
    }
    for setting in fields(config):
        value = getattr(config, setting.name)
        if setting.name in ranges:
            check_range(setting.name, value, *ranges[setting.name])
        known = CHOICES.get(setting.name)
        if known is not None and value not in (*known, setting.default):
            raise SettingError(f"the setting {setting.name} must be one of {', '.join(known)}, got {value!r}")


def one_table(job: Job) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Return `bounds` and `counts` of a plan with one budget for users and items. Raises BudgetError."""
    return ((0, job.n_rows),), (job.values(sparse=True),)


def two_tables(job: Job, user_share: float | None) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Return `bounds` and `counts` of a plan with a budget for users and one for items. Raises BudgetError."""
    total = job.values(sparse=True)
    of_users = job.users_part(total, user_share)
    return ((0, job.train.n_users), (job.train.n_users, job.n_rows)), (of_users, total - of_users)


def horizon_of(job: Job, horizon: int | None) -> int:
    """Return the horizon, by default three quarters of the maximum number of epochs, as in RigL."""
    return 3 * (job.options.max_epochs or job.backbone.max_epochs) // 4 if horizon is None else horizon


_OBJECTIVES = {
    "lightgcn": ("edgerec.methods.sparse.lightgcn_ngcf", "LightGCNObjective"),
    "mf": ("edgerec.methods.sparse.mf_ncf", "MFObjective"),
    "ncf": ("edgerec.methods.sparse.mf_ncf", "NCFObjective"),
    "ngcf": ("edgerec.methods.sparse.lightgcn_ngcf", "NGCFObjective"),
}

SPARSE_BACKBONES = frozenset(_OBJECTIVES)
"""Names of the backbones with sparse training."""


class Source(Protocol):
    """The part of a table that objectives use: an `ActiveTable`, or a `SoftTable` during PEP's search of a mask."""

    @property
    def n_rows(self) -> int: ...

    @property
    def count(self) -> int:
        """Number of active values."""
        ...

    def rows(self, rows: Ints) -> Floats:
        """Return rows as (n, d) dense values."""
        ...

    def dots(self, vectors: Floats, rows: Ints) -> Floats:
        """Return (n,) products of `vectors` (n, d) with rows (n,)."""
        ...

    def dimensions(self, start: int, stop: int) -> Floats:
        """Return (n_rows, stop - start) dimensions of all rows as dense values."""
        ...


class Objective(Protocol):
    """A backbone's loss over one table, users before items.

    Attributes:
        steps: number of steps an epoch.
        std: root mean square of initial values.
        width: dimensions of the table: d, or fewer if a scoring row concatenates several rows (NGCF).
    """

    steps: int
    std: float
    width: int

    @property
    def weights(self) -> int:
        """Number of values that it trains in addition to the table."""
        ...

    def start(self) -> Floats | float:
        """Return (n_rows, width) initial values, or the standard deviation of noise."""
        ...

    def lr(self, epoch: int) -> float:
        """Return the step size of an epoch, counted from 0."""
        ...

    def refresh_mask(self, table: Source) -> None:
        """Update, before an epoch, the masks that depend on the whole table, such as that of a propagated table."""
        ...

    def batches(self, table: Source, generator: Any) -> Iterator[Any]:
        """Yield the batches of an epoch, each drawn on access; `generator` is a torch.Generator."""
        ...

    def active_rows(self, batch: Any) -> Ints:
        """Return the (n,) distinct rows that may have a gradient, ascending."""
        ...

    def gradient(self, table: Source, batch: Any, rows: Ints) -> tuple[float, GradientBlocks]:
        """Return the ranking loss, and the gradient (n, width) of `rows`, some of the active rows, ascending.

        Blocks of the gradient are computed when they are read, so the table must not change before. Gradients of other
        weights are stored for `step`.
        """
        ...

    def step(self, lr: float) -> None:
        """Update the weights outside the table by their last gradient; `lr` is the step size of the table."""
        ...

    def vectors(self, table: Source) -> Vectors:
        """Return the resulting vectors, with at most the values of the budget."""
        ...

    def state(self) -> State:
        """Return copies of the state outside the table."""
        ...

    def restore(self, state: State) -> None:
        """Restore from `state()`."""
        ...


def objective(backbone: str) -> Callable[..., Objective]:
    """Return the objective class of a backbone of SPARSE_BACKBONES; its module, which imports torch, is loaded here.

    Its arguments:
        train: the interactions.
        d: dimensions of a resulting row.
        config: config of the backbone.
        threads: maximum number of threads.
        rows: maximum number of rows with a gradient at a step, None for all; a step should not use many more.
        seed: seed of initial values.
        values: maximum number of values of the result; None for that of the table.
    """
    module, name = _OBJECTIVES[backbone]
    found: Callable[..., Objective] = getattr(import_module(module), name)
    return found


Make = Callable[[Interactions, Objective, int, int | None], Trainer]
"""A function that returns a trainer for (train, objective, seed, threads)."""


def fit_sparse(job: Job, make: Make, values: int, rows: int | None = None, *, least: int = 0) -> FitResult:
    """Train with the trainers of `make`, and return sparse tables of `values` values in all.

    Args:
        rows: maximum number of rows with a gradient at a step; None for all.
        least: minimum number of epochs: training does not stop early before.
    """
    return replace(job.fit(SizePlan(job.d), start=starting(job, make, values, rows), least=least), sparse=True)


def starting(job: Job, make: Make, values: int, rows: int | None) -> Start:
    """Return a function that creates trainers, with the arguments of `Backbone.trainer`, on the CPU."""

    def start(
        train: Interactions, sizes: SizePlan, config: Any, *, seed: int, threads: int | None = None, device: str = "cpu"
    ) -> Trainer:
        ranking = objective(job.backbone.name)(train, sizes.d, config, threads, rows, seed=seed, values=values)
        return make(train, ranking, seed, threads)

    return start


def train_within(job: Job, plan: SparsePlan) -> FitResult:
    """Train by a plan of dynamic sparse training.

    Training does not stop early before the mask is fixed: new values start at zero, and validation may be worse than at
    the start until they are trained.
    """

    def make(train: Interactions, objective: Objective, seed: int, threads: int | None) -> Trainer:
        # torch comes with the trainer; methods are listed without it.
        from edgerec.methods.sparse.trainer import trainer_of

        return trainer_of(train, objective, plan, seed=seed, threads=threads)

    rows, least = plan.rows if plan.backward == "sampled" else None, plan.horizon if plan.fraction > 0 else 0
    return fit_sparse(job, make, sum(plan.counts), rows, least=least)
