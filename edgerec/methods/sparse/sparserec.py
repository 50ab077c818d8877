"""SparseRec: a sparse table that is trained in its sparse form (Qu et al. 2024, arXiv 2411.12205).

What the abstract says: the number of active values is constant and no dense model is trained before; a non-negative
factorisation of the interactions says which values are active at first; values are activated again by gradients that
are accumulated over batches; the backward pass samples a subset of important vectors and forms gradients for them
alone.

No code is public and the abstract leaves the rest open, so these are choices of ours. Users and items are one table
with one budget, so that the factorisation decides who gets how many. The factors themselves, scaled, are the first
values. The mask changes once an epoch, until three quarters of them are over, and drops a fraction that falls
to zero on a cosine. Gradients are summed with their signs, and each row keeps as many sums as values of the budget
fall to a row (`edgerec.methods.sparse.growth`). Rows are drawn without replacement, by the running mean of their
gradients' norms, and a row's gradient is divided by its chance, so that the expected one is that of all rows; Adam
steps on what was drawn alone. At least one value a row stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgerec.methods.base import Job
from edgerec.methods.sparse.plan import SPARSE_BACKBONES, SparsePlan, check_config, horizon_of, one_table, train_within
from edgerec.training import FitResult

_ON_A_GRAPH = frozenset({"lightgcn", "ngcf"})


@dataclass(frozen=True)
class SparseRecConfig:
    """The three claims as switches, and what the abstract leaves open.

    Attributes:
        mask_init: 'nmf', or 'random'.
        start: of a mask by 'nmf' its 'factors' are the first values, or else the 'backbone''s own.
        grow: 'accumulated', or the 'last-batch' alone; 'random' as SET.
        backward: 'sampled', or 'dense'; None for the backbone's: a step of `lightgcn` and `ngcf` goes through the graph
            whatever it ranks, so that sampling would save nothing and leave most rows as they are: dense.
        rows: share of the rows that have a gradient at a step; None for the share of the values that is active, so
            that gradients take no more memory than values.
        uniform: share of the draw that is not by importance.
        fraction: of the values that the first change drops.
        every: steps between changes; None for an epoch's.
        horizon: epochs after which the mask stays; None for three quarters of training's at most.
        nmf_iterations: of the factorisation.
    """

    mask_init: str = "nmf"
    start: str = "factors"
    grow: str = "accumulated"
    backward: str | None = None
    rows: float | None = None
    uniform: float = 0.1
    fraction: float = 0.3
    every: int | None = None
    horizon: int | None = None
    nmf_iterations: int = 50

    def __post_init__(self) -> None:
        """Raises SettingError for values out of range."""
        check_config(self)


def backward_of(backbone: str) -> str:
    """Which rows have gradients where nothing is asked: 'dense' on a graph, and elsewhere 'sampled'."""
    return "dense" if backbone in _ON_A_GRAPH else "sampled"


class SparseRec:
    """Constant sparsity, in forward and backward pass."""

    name: ClassVar[str] = "sparserec"
    config: ClassVar[type[SparseRecConfig]] = SparseRecConfig
    backbones: ClassVar[frozenset[str]] = SPARSE_BACKBONES
    budgeted: ClassVar[bool] = True

    def fit(self, job: Job, config: SparseRecConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row."""
        bounds, counts = one_table(job)
        share = counts[0] / (job.n_rows * job.d) if config.rows is None else config.rows
        plan = SparsePlan(
            bounds,
            counts,
            mask_init=config.mask_init,
            grow=config.grow,
            backward=config.backward or backward_of(job.backbone.name),
            rows=max(int(share * job.n_rows), 1),
            uniform=config.uniform,
            fraction=config.fraction,
            last_fraction=0.0,
            every=config.every,
            horizon=horizon_of(job, config.horizon),
            iterations=config.nmf_iterations,
            start=config.start,
        )
        return train_within(job, plan)
