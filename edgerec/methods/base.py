"""What a method is: a name, a frozen config, the backbones it works with, and how it fits a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from edgerec.budget import BLOCK_OVERHEAD, Budget
from edgerec.data import Interactions
from edgerec.errors import BudgetError
from edgerec.models import SizePlan
from edgerec.training import FitResult


@dataclass(frozen=True)
class Job:
    """What a method is asked to do.

    Attributes:
        train: what may be looked at; sizes follow its counts.
        d: dimensions of a full row.
        user_table: whether user rows are stored, and so are part of the budget.
        budget: as asked, or None.
        bytes_per_value, overhead: of the bundle that a budget in bytes is meant for.
        seed: of every random choice.
        fit: trains the backbone within sizes; a method may call it more than once.
    """

    train: Interactions
    d: int
    user_table: bool
    budget: Budget | None
    bytes_per_value: float
    overhead: int
    seed: int
    fit: Callable[[SizePlan], FitResult]

    @property
    def n_rows(self) -> int:
        """Rows that are stored."""
        return self.train.n_items + (self.train.n_users if self.user_table else 0)

    def values(self, *, blocks: int = 2) -> int:
        """The number of values that the budget allows tables of so many distinct sizes in all.

        Raises BudgetError where no budget is given or it is too small.
        """
        if self.budget is None:
            raise BudgetError("this method needs a --budget such as 10%, 512KiB, 8B/row or a parameter count")
        return self.budget.values(
            self.n_rows, self.d, bytes_per_value=self.bytes_per_value, overhead=self.overhead + blocks * BLOCK_OVERHEAD
        )


class Method(Protocol):
    """Keeps tables under a budget; registered in `edgerec.methods`.

    Attributes:
        name: as spelled on the command line.
        config: its frozen dataclass; every field has a default and is documented.
        backbones: names it works with.
        budgeted: False where it takes no budget.
    """

    name: ClassVar[str]
    config: ClassVar[type[Any]]
    backbones: ClassVar[frozenset[str]]
    budgeted: ClassVar[bool]

    def fit(self, job: Job, config: Any) -> FitResult:
        """Train within the budget. Raises BudgetError."""
        ...
