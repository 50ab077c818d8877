"""What decides how a sparse table is trained, in the words that methods share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from edgerec.errors import SettingError
from edgerec.methods.base import Job
from edgerec.models.settings import check_range

CHOICES: dict[str, tuple[str, ...]] = {
    "mask_init": ("random", "nmf"),
    "start": ("backbone", "factors"),
    "grow": ("random", "last-batch", "accumulated"),
    "backward": ("dense", "sampled"),
}


@dataclass(frozen=True)
class Plan:
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
    def still(cls, bounds: tuple[tuple[int, int], ...], counts: tuple[int, ...]) -> Plan:
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
