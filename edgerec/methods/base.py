"""What a method is: a name, a frozen config, the backbones it works with, and how it fits a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from edgerec.budget import BLOCK_OVERHEAD, PREFIX, Budget, SizeBudget, sparse_positions
from edgerec.data import Interactions, Split
from edgerec.errors import BudgetError
from edgerec.models import Backbone, SizePlan, Vectors
from edgerec.training import Checkpoint, FitOptions, FitResult, Progress, Start

Workers = int | str | None
"""Who makes the trainings of a search: this process, so many processes beside it, or a Ray cluster, by its address
('ray://HOST:PORT') or a local one ('ray')."""


def check_user_share(share: float | None) -> None:
    """Raise BudgetError unless `share` is None or in (0, 1)."""
    if share is not None and not 0 < share < 1:
        raise BudgetError(f"user_share must be between 0 and 1, got {share}")


class FitWithin(Protocol):
    """Trains the job's backbone."""

    def __call__(
        self,
        sizes: SizePlan,
        *,
        keep_chosen: bool = False,
        start: Start | None = None,
        least: int = 0,
        final: bool = True,
        chosen: FitResult | None = None,
    ) -> FitResult:
        """Train within `sizes`; with `keep_chosen` the vectors that were best on validation come back as well, with
        `start` its trainer takes the place of the backbone's, and is not given up for lack of progress in its `least`
        epochs; without `final` nothing is trained once more on all of train, and what was best on validation is the
        result. `chosen` is such a result, of the same sizes: what is left is the training on all of train."""
        ...


@dataclass(frozen=True)
class Job:
    """What a method is asked to do.

    Attributes:
        backbone: what `fit` trains.
        train: what may be looked at; sizes follow its counts.
        d: dimensions of a full row.
        user_table: whether user rows are stored, and so are part of the budget.
        budget: as asked, or None.
        bytes_per_value, overhead: of the bundle that a budget in bytes is meant for.
        seed: of every random choice.
        fit: trains the backbone within sizes; a method may call it more than once.
        validate: metrics of vectors that know nothing of the validation part, on it; users without a table are made
            anew from their histories in train.
        progress: called by a method that searches, once a try; `fit` tells of its epochs itself.
        config: of the backbone.
        split: for a method that trains on its own: its test part is not to be looked at.
        options: threads, device and epochs of trainings.
        checkpoint: of the run; beside it a search keeps what it has found out. None where nothing is kept.
        workers: who makes the trainings of a search.
    """

    backbone: Backbone
    train: Interactions
    d: int
    user_table: bool
    budget: Budget | None
    bytes_per_value: float
    overhead: int
    seed: int
    fit: FitWithin
    validate: Callable[[Vectors], dict[str, float]]
    progress: Progress
    config: Any
    split: Split
    options: FitOptions
    checkpoint: Checkpoint | None = None
    workers: Workers = None

    @property
    def n_rows(self) -> int:
        """Rows that are stored."""
        return self.train.n_items + (self.train.n_users if self.user_table else 0)

    def values(self, *, blocks: int = 2, sparse: bool = False) -> int:
        """The number of values that the budget allows tables of so many distinct sizes in all.

        With `sparse`, values stand anywhere, and a budget in bytes pays for saying where.

        Raises BudgetError where no budget is given or it is too small.
        """
        if self.budget is None:
            raise BudgetError("this method needs a --budget such as 10%, 512KiB, 8B/row or a parameter count")
        rows = [self.train.n_items, self.train.n_users] if self.user_table else [self.train.n_items]
        return self.budget.values(
            self.n_rows,
            self.d,
            bytes_per_value=self.bytes_per_value,
            overhead=self.overhead + blocks * BLOCK_OVERHEAD,
            positions=sparse_positions(rows, self.d) if sparse else (PREFIX,),
        )

    def size_budget(self, *, user_widths: int | None = None, item_widths: int | None = None) -> SizeBudget:
        """Return what the budget leaves tables of at most so many distinct sizes each; None for any number.

        Raises BudgetError if no budget is given or it is too small.
        """
        blocks = (item_widths or 0) + (user_widths or 0 if self.user_table else 0)
        return replace(self._split(self.values(blocks=blocks)), user_widths=user_widths, item_widths=item_widths)

    def users_part(self, total: int, share: float | None) -> int:
        """Return how many of `total` values go to users, as `SizeBudget.users_part` does."""
        return self._split(total).users_part(share)

    def _split(self, total: int) -> SizeBudget:
        return SizeBudget(self.train.n_users if self.user_table else 0, self.train.n_items, total, self.d)


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


VARIANT = "variant"
"""The setting that names the config which all other settings of a method change."""


def variants_of(method: Any) -> Mapping[str, Any]:
    """Return whole configs of a method of tables or of streams by name, such as the paper's; empty if it has one."""
    found: Mapping[str, Any] = getattr(method, "variants", {})
    return found
