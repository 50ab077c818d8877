"""One size for all rows, as large as the budget allows: ES in CIESS, SU in BET."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgerec.methods.base import Job
from edgerec.models import SizePlan
from edgerec.training import FitResult


@dataclass(frozen=True)
class UniformConfig:
    """Nothing to set."""


class Uniform:
    """A dense table of fewer dimensions."""

    name: ClassVar[str] = "uniform"
    config: ClassVar[type[UniformConfig]] = UniformConfig
    backbones: ClassVar[frozenset[str]] = frozenset({"ials", "lightgcn", "mf", "ncf", "ngcf", "svd"})
    budgeted: ClassVar[bool] = True

    def fit(self, job: Job, config: UniformConfig) -> FitResult:
        """Raises BudgetError where the budget leaves less than one value a row."""
        return job.fit(SizePlan(job.values() // job.n_rows))
