"""PEP: learnt thresholds select a few values of a dense table, which are then trained again from their initial values.

Plug-in embedding pruning (Liu et al. 2021, arXiv 2101.07577): values are soft-thresholded by the sigmoid of a learnt
s, one for each value, row, column or the table; the mask is taken when the count first falls below the target, and its
values are trained again from the initial values of the search (the lottery ticket). Weight decay pulls s towards zero,
and so raises thresholds.

Choices of ours: the mask is taken after the first step, not the first check, that leaves at most the budget, and filled
up to it exactly with the values that are least below their thresholds; every row has at least one value; the step size
of the search does not decay, since thresholds would stop changing. The search runs at the start of the first epoch and
is not checkpointed: a run that is stopped during it starts it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgerec.data import Interactions
from edgerec.errors import SettingError
from edgerec.methods.base import Job, Method
from edgerec.methods.sparse.plan import SPARSE_BACKBONES, Objective, SparsePlan, fit_sparse, one_table
from edgerec.methods.sparse.table import ActiveTable
from edgerec.models import Trainer, check_range
from edgerec.training import FitResult, Step

OF_BUDGET = "of the budget"
"""Name, in the progress of the search, of the number of remaining values over that which the budget allows."""
GRANULARITIES = ("global", "dimension", "feature", "feature-dim")


@dataclass(frozen=True)
class PEPConfig:
    """Settings of PEP.

    Attributes:
        granularity: unit that has its own threshold: the whole table ('global'), a 'dimension', a 'feature' (a row), or
            each value ('feature-dim').
        threshold: initial s.
        threshold_decay: weight decay of s.
        search_epochs: maximum number of epochs of the search; None for the backbone's.
    """

    granularity: str = "feature-dim"
    threshold: float = -15.0
    threshold_decay: float = 1e-4
    search_epochs: int | None = None

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        if self.granularity not in GRANULARITIES:
            known = ", ".join(GRANULARITIES)
            raise SettingError(f"the setting granularity must be one of {known}, got {self.granularity!r}")
        check_range("threshold", self.threshold, -1e3, 0)
        check_range("threshold_decay", self.threshold_decay, 0, 1e3)
        check_range("search_epochs", self.search_epochs, 1, 1e9)


class PEP(Method):
    """Finds a mask by training thresholds, and trains the values of the mask."""

    name: ClassVar[str] = "pep"
    config: ClassVar[type[PEPConfig]] = PEPConfig
    backbones: ClassVar[frozenset[str]] = SPARSE_BACKBONES
    cpu_only: ClassVar[bool] = True

    def fit(self, job: Job, config: PEPConfig) -> FitResult:
        """Train within the budget. Raises BudgetError if it leaves less than one value a row."""
        bounds, counts = one_table(job)
        plan = SparsePlan(bounds, counts)

        def make(train: Interactions, objective: Objective, seed: int, threads: int | None) -> Trainer:
            from edgerec.methods.sparse.masks import with_values
            from edgerec.methods.sparse.soft_threshold import SoftTable, searched_mask
            from edgerec.methods.sparse.trainer import SparseTrainer

            def begin(rng: np.random.Generator) -> ActiveTable:
                start, before = objective.start(), objective.state()
                if isinstance(start, float):
                    start = np.float32(start) * rng.standard_normal((job.n_rows, objective.width), np.float32)
                table = SoftTable(start.copy(), config.granularity, config.threshold, config.threshold_decay)
                epochs = config.search_epochs or job.backbone.max_epochs
                count = min(counts[0], start.size)

                def tell(epoch: int) -> None:
                    job.progress(Step("mask", 1, 1, epoch, epochs, {OF_BUDGET: table.count / count}))

                mask = searched_mask(objective, table, count, epochs, seed=seed, threads=threads, tell=tell)
                objective.restore(before)
                return with_values(mask, mask.of(start))

            popularity = np.concatenate([train.user_counts(), train.item_counts()])
            return SparseTrainer(objective, plan, popularity, begin, seed=seed, threads=threads)

        return fit_sparse(job, make, counts[0])
