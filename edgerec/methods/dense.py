"""No compression: every row has all its dimensions. The baseline of baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgerec.errors import BudgetError
from edgerec.methods.base import Job
from edgerec.models import SizePlan
from edgerec.training import FitResult


@dataclass(frozen=True)
class DenseConfig:
    """Nothing to set."""


class Dense:
    """Full rows; takes no budget."""

    name: ClassVar[str] = "dense"
    config: ClassVar[type[DenseConfig]] = DenseConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf", "svd"})
    budgeted: ClassVar[bool] = False

    def fit(self, job: Job, config: DenseConfig) -> FitResult:
        """Raises BudgetError where a budget is given: it could not be kept."""
        if job.budget is not None:
            raise BudgetError(
                "the method 'dense' keeps every value and takes no budget; 'uniform' is the same within one"
            )
        return job.fit(SizePlan(job.d))
