"""How a sparse table is trained: the plan that methods fill in, a backbone's objective, and the fit of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgerec.data import Interactions
from edgerec.errors import SettingError, UnsupportedError
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
    """How a table is trained whose number of active values never changes.

    Attributes:
        bounds: (start, stop) of the rows that share a number of values; users first, items behind them.
        counts: the values of each.
        mask_init: where values stand at first: 'random' or 'nmf'.
        start: what they are: of a mask by 'nmf' its 'factors', or else what the 'backbone' starts from.
        grow: which values take the place of dropped ones: 'random', or those with the largest gradient of the
            'last-batch', or 'accumulated' since the mask last changed.
        backward: 'sampled' forms the gradient of `rows` rows, and leaves all others as they are; 'dense' of all.
        rows: at most so many at a step, where sampled.
        uniform: share of the draw that is not by importance.
        fraction, last_fraction: of the values that is dropped at a change, from the first to the last, on a cosine.
        every: steps between changes; None for an epoch's.
        horizon: epochs after which the mask stays.
        iterations: of the factorisation.
    """

    bounds: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]
    mask_init: str
    grow: str
    backward: str
    rows: int
    uniform: float
    fraction: float
    last_fraction: float
    every: int | None
    horizon: int
    iterations: int
    start: str = "factors"

    @classmethod
    def still(cls, bounds: tuple[tuple[int, int], ...], counts: tuple[int, ...]) -> SparsePlan:
        """Of a mask that never changes, trained densely."""
        return cls(
            bounds,
            counts,
            mask_init="random",
            grow="random",
            backward="dense",
            rows=bounds[-1][1],
            uniform=1.0,
            fraction=0.0,
            last_fraction=0.0,
            every=None,
            horizon=0,
            iterations=0,
        )

    @property
    def n_rows(self) -> int:
        return self.bounds[-1][1]


def check_config(config: Any) -> None:
    """Raise SettingError where one of the settings that methods share is out of range."""
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
    """Bounds and counts of users and items together. Raises BudgetError."""
    return ((0, job.n_rows),), (job.values(sparse=True),)


def two_tables(job: Job, user_share: float | None) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Bounds and counts of users and of items. Raises BudgetError."""
    total = job.values(sparse=True)
    of_users = job.users_part(total, user_share)
    return ((0, job.train.n_users), (job.train.n_users, job.n_rows)), (of_users, total - of_users)


def horizon_of(job: Job, horizon: int | None) -> int:
    """Where none is given, three quarters of the epochs that training has at most, as RigL has it."""
    return 3 * (job.options.max_epochs or job.backbone.max_epochs) // 4 if horizon is None else horizon


_HOME = {
    "lightgcn": ("edgerec.methods.sparse.lightgcn_ngcf", "LightGCNObjective"),
    "mf": ("edgerec.methods.sparse.mf_ncf", "MFObjective"),
    "ncf": ("edgerec.methods.sparse.mf_ncf", "NCFObjective"),
    "ngcf": ("edgerec.methods.sparse.lightgcn_ngcf", "NGCFObjective"),
}

SPARSE_BACKBONES = frozenset(_HOME)
"""Names of backbones that train in sparse form."""


class Source(Protocol):
    """What an objective may ask of a table; `edgerec.methods.sparse.table.ActiveTable` is one."""

    @property
    def n_rows(self) -> int: ...

    @property
    def count(self) -> int:
        """Active values."""
        ...

    def rows(self, rows: Ints) -> Floats:
        """(n, d) those rows in full."""
        ...

    def dots(self, vectors: Floats, rows: Ints) -> Floats:
        """(n,) the products of `vectors` (n, d) with those rows."""
        ...

    def dimensions(self, start: int, stop: int) -> Floats:
        """(n_rows, stop - start) those dimensions of all rows in full."""
        ...


class Objective(Protocol):
    """A backbone's loss over one table, users first and items behind them.

    Attributes:
        steps: in an epoch.
        std: root mean square of initial values.
        width: dimensions of the table: d, or fewer where rows that score are made of several.
    """

    steps: int
    std: float
    width: int

    @property
    def weights(self) -> int:
        """Values that it trains beside the table."""
        ...

    def start(self) -> Floats | float:
        """(n_rows, width) initial values, of which the active ones are taken; or the standard deviation of noise."""
        ...

    def lr(self, epoch: int) -> float:
        """The step size in an epoch, counted from 0."""
        ...

    def refresh_mask(self, table: Source) -> None:
        """Choose again, before an epoch, what depends on the whole table, such as what of a propagated table ships."""
        ...

    def batches(self, table: Source, generator: Any) -> Iterator[Any]:
        """The steps of an epoch, each drawn when its turn comes; `generator` is a torch.Generator."""
        ...

    def active_rows(self, batch: Any) -> Ints:
        """(n,) rows that may have a gradient, ascending, each once."""
        ...

    def gradient(self, table: Source, batch: Any, rows: Ints) -> tuple[float, GradientBlocks]:
        """The ranking loss, and the objective's gradient (n, width) by each of `rows`, n of the active rows,
        ascending; parts are made when their turn comes, and the table must not change before. What it trains beside
        the table keeps its own for `step`."""
        ...

    def step(self, lr: float) -> None:
        """Move what it trains beside the table by its last gradient, where the table moves by `lr`."""
        ...

    def vectors(self, table: Source) -> Vectors:
        """What ships, with no more values than the budget has."""
        ...

    def state(self) -> State:
        """Copies of what it holds beside the table."""
        ...

    def restore(self, state: State) -> None:
        """Become what `state()` was of."""
        ...


class ObjectiveClass(Protocol):
    """Starts an objective."""

    __name__: ClassVar[str]

    def __call__(
        self,
        train: Interactions,
        d: int,
        config: Any,
        threads: int | None,
        rows: int | None,
        *,
        seed: int = 0,
        values: int | None = None,
    ) -> Objective:
        """An objective to train.

        Args:
            d: dimensions of a row that ships.
            rows: at most so many have a gradient at a step, None for all; a step should not touch many more.
            seed: of initial values.
            values: that may ship; None for as many as the table has.
        """
        ...


def objective(backbone: str) -> ObjectiveClass:
    """The objective of a backbone, one of SPARSE_BACKBONES."""
    module, name = _HOME[backbone]
    found: ObjectiveClass = getattr(import_module(module), name)
    return found


Make = Callable[[Interactions, Objective, int, int | None], Trainer]
"""A trainer for (train, objective, seed, threads)."""


def fit_sparse(job: Job, make: Make, values: int, rows: int | None = None, *, least: int = 0) -> FitResult:
    """Train with what `make` makes, for `least` epochs at least, where at most `rows` rows have a gradient at a step,
    or all; tables ship as they are, `values` in all, zeros anywhere."""
    return replace(job.fit(SizePlan(job.d), start=starting(job, make, values, rows), least=least), sparse=True)


def starting(job: Job, make: Make, values: int, rows: int | None) -> Start:
    """Starts trainers as the backbone does. They run on the CPU alone, and raise UnsupportedError elsewhere."""

    def start(
        train: Interactions, sizes: SizePlan, config: Any, *, seed: int, threads: int | None = None, device: str = "cpu"
    ) -> Trainer:
        if device != "cpu":
            raise UnsupportedError(f"tables in sparse form train on the CPU only, not on {device!r}; leave it out")
        ranking = objective(job.backbone.name)(train, sizes.d, config, threads, rows, seed=seed, values=values)
        return make(train, ranking, seed, threads)

    return start


def train_within(job: Job, plan: SparsePlan) -> FitResult:
    """Dynamic sparse training by a plan. What moves is not given up before it stays: while values grow from zero,
    validation may get worse than where it began."""

    def make(train: Interactions, objective: Objective, seed: int, threads: int | None) -> Trainer:
        # torch comes with the trainer; methods are listed without it.
        from edgerec.methods.sparse.trainer import trainer_of

        return trainer_of(train, objective, plan, seed=seed, threads=threads)

    rows, least = plan.rows if plan.backward == "sampled" else None, plan.horizon if plan.fraction > 0 else 0
    return fit_sparse(job, make, sum(plan.counts), rows, least=least)
