"""SparseRec: trains a sparse table in sparse form throughout (Qu et al. 2024, arXiv 2411.12205).

From the abstract: the number of active values is constant and no dense model is trained before; a non-negative
factorisation of the interactions chooses the initial active values; inactive values become active by gradients
accumulated over batches; the backward pass samples a subset of important vectors and computes gradients for them alone.

No code is public and the abstract leaves the rest open, so these are choices of ours. Users and items are one table
with one budget, which the factorisation divides between them. The scaled factors are the initial values. The mask
changes once an epoch during the first three quarters of the epochs, and drops a fraction that falls to zero on a
cosine. Gradients are summed with their signs, and each row stores as many sums as the budget has values a row
(`edgerec.methods.sparse.growth`). Rows are drawn without replacement, by the running mean of their gradients' norms,
and a row's gradient is divided by its inclusion probability, so that its expected value is the full gradient; Adam
updates the drawn rows alone. Every row has at least one value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgerec.methods.base import Job, Method
from edgerec.methods.sparse.plan import SPARSE_BACKBONES, SparsePlan, check_config, horizon_of, one_table, train_within
from edgerec.training import FitResult

_ON_A_GRAPH = frozenset({"lightgcn", "ngcf"})


@dataclass(frozen=True)
class SparseRecConfig:
    """Settings of SparseRec: a switch for each of its three claims, and the choices that the abstract leaves open.

    Attributes:
        mask_init: initial mask: 'nmf', or 'random'.
        start: initial values: the 'factors' of a mask by 'nmf', or those of the 'backbone'.
        grow: gradients by which values grow: 'accumulated', or the 'last-batch' alone; 'random' as in SET.
        backward: 'sampled', or 'dense'; None for a default by backbone: 'dense' for `lightgcn` and `ngcf`, whose steps
            propagate through the whole graph, so that sampling would save nothing and leave most rows unchanged.
        rows: share of the rows with a gradient at a step; None for the share of active values, so that gradients take
            no more memory than values.
        uniform: share of the uniform distribution in the draw of rows; the rest follows their importance.
        fraction: fraction of the values that the first change drops.
        every: number of steps between changes; None for one change an epoch.
        horizon: number of epochs after which the mask is fixed; None for three quarters of the maximum.
        nmf_iterations: iterations of the non-negative factorisation.
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
        """Raise SettingError for values out of range."""
        check_config(self)


def backward_of(backbone: str) -> str:
    """Return the default backward pass: 'dense' for backbones on a graph, else 'sampled'."""
    return "dense" if backbone in _ON_A_GRAPH else "sampled"


class SparseRec(Method):
    """Training with constant sparsity in the forward and the backward pass."""

    name: ClassVar[str] = "sparserec"
    config: ClassVar[type[SparseRecConfig]] = SparseRecConfig
    backbones: ClassVar[frozenset[str]] = SPARSE_BACKBONES
    cpu_only: ClassVar[bool] = True

    def fit(self, job: Job, config: SparseRecConfig) -> FitResult:
        """Train within the budget. Raises BudgetError if it leaves less than one value a row."""
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
