"""Protocols of a method: a name, a frozen config, the supported backbones, and the fit of a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from edgerec.budget import BLOCK_OVERHEAD, PREFIX, Budget, SizeBudget, sparse_positions
from edgerec.data import Interactions, Split
from edgerec.errors import BudgetError
from edgerec.models import BACKBONES, Backbone, SizePlan, Vectors
from edgerec.training import Checkpoint, FitOptions, FitResult, Progress, Start

Workers = int | str | None
"""Workers that run the trainings of a search: None for this process, a number of processes, or a Ray cluster, by its
address ('ray://HOST:PORT') or a local one ('ray')."""


def check_user_share(share: float | None) -> None:
    """Raise BudgetError unless `share` is None or in (0, 1)."""
    if share is not None and not 0 < share < 1:
        raise BudgetError(f"user_share must be between 0 and 1, got {share}")


class FitWithin(Protocol):
    """A function that trains the job's backbone within given sizes."""

    def __call__(
        self,
        sizes: SizePlan,
        *,
        keep_chosen: bool = False,
        start: Start | None = None,
        least: int = 0,
        final: bool = True,
        chosen: FitResult | None = None,
        choose: bool = False,
    ) -> FitResult:
        """Train within `sizes`.

        Args:
            keep_chosen: return the vectors that were best on validation as well.
            start: creates the trainer, instead of `Backbone.trainer`.
            least: minimum number of epochs: training does not stop early before.
            final: False to skip the final training on all of train and return the best on validation.
            chosen: the result of an earlier call with `final=False` and the same sizes; only the final training
                remains.
            choose: choose the settings that the user left open for these sizes; else the first fit chooses them for
                all.
        """
        ...


@dataclass(frozen=True)
class Job:
    """The task of a method: data, backbone, budget, and the functions to train and validate.

    Attributes:
        backbone: the backbone that `fit` trains.
        train: interactions that a method may use; methods that size rows by popularity count them here.
        d: dimensions of a full row.
        user_table: True if user rows are stored, and so are part of the budget.
        budget: the budget, or None.
        bytes_per_value, overhead: bytes of a stored value, and of everything else in the bundle, for budgets in bytes.
        code_bits: bits of the codes that the backbone trains; None for floats.
        row_bits: bits of codes among which a method may choose for each row, the largest first; empty for floats. With
            several, a value is a byte.
        block_overhead: bytes of each distinct size of a table, for budgets in bytes.
        seed: seed of every random choice.
        fit: trains the backbone within sizes; a method may call it more than once.
        validate: returns the validation metrics of vectors that were trained without the validation part; users without
            a table are recomputed from their histories in train.
        progress: called by a search once a trial; `fit` reports its epochs itself.
        config: config of the backbone.
        split: for methods that train on their own; they must not use its test part.
        options: threads, device and epochs of trainings.
        checkpoint: checkpoint of the run, next to which a search stores its results; None to store nothing.
        workers: workers of a search.
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
    code_bits: int | None = None
    row_bits: tuple[int, ...] = ()
    block_overhead: int = BLOCK_OVERHEAD

    @property
    def n_rows(self) -> int:
        """Number of stored rows."""
        return self.train.n_items + (self.train.n_users if self.user_table else 0)

    def values(self, *, blocks: int = 2, sparse: bool = False) -> int:
        """Return the number of values that the budget allows for all tables together.

        Args:
            blocks: number of distinct sizes of all tables; each is a block of the exported graph, and takes bytes of a
                budget in bytes.
            sparse: True if values may be anywhere in a row, so that a budget in bytes covers their positions too, as
                those of a backbone with sparse rows do.

        Raises BudgetError if no budget is given or it is too small.
        """
        if self.budget is None:
            raise BudgetError("this method needs a --budget such as 10%, 512KiB, 8B/row or a parameter count")
        rows = [self.train.n_items, self.train.n_users] if self.user_table else [self.train.n_items]
        columns = self.train.n_items if self.backbone.sparse_rows else self.d
        sparse = sparse or self.backbone.sparse_rows
        return self.budget.values(
            self.n_rows,
            self.d,
            bytes_per_value=self.bytes_per_value,
            overhead=self.overhead + blocks * self.block_overhead,
            positions=sparse_positions(rows, columns) if sparse else (PREFIX,),
        )

    def size_budget(self, *, user_widths: int | None = None, item_widths: int | None = None) -> SizeBudget:
        """Return the budget for tables of at most these numbers of distinct sizes; None for any number.

        Raises BudgetError if no budget is given or it is too small.
        """
        blocks = (item_widths or 0) + (user_widths or 0 if self.user_table else 0)
        return replace(self._split(self.values(blocks=blocks)), user_widths=user_widths, item_widths=item_widths)

    def users_part(self, total: int, share: float | None) -> int:
        """Return the number of values for users of `total`, as `SizeBudget.users_part` does."""
        return self._split(total).users_part(share)

    def _split(self, total: int) -> SizeBudget:
        return SizeBudget(self.train.n_users if self.user_table else 0, self.train.n_items, total, self.d)


class Configured(Protocol):
    """The common part of methods for tables and for streams.

    Attributes:
        name: name on the command line.
        config: frozen dataclass of its settings; every field has a default and is documented.
        variants: configs by name, such as the paper's.
    """

    name: ClassVar[str]
    config: ClassVar[type[Any]]
    variants: ClassVar[Mapping[str, Any]] = MappingProxyType({})


class Method(Configured, Protocol):
    """Fits tables into a budget; registered in `edgerec.methods`.

    Attributes:
        backbones: names of the supported backbones.
        budgeted: False if it takes no budget.
        cpu_only: True if it trains on the CPU alone.
        codes_rows: True if it rounds rows to integer codes itself, in the bits of the precision; the precision 'auto'
            lets it choose them for each row.
    """

    backbones: ClassVar[frozenset[str]] = frozenset(BACKBONES)
    budgeted: ClassVar[bool] = True
    cpu_only: ClassVar[bool] = False
    codes_rows: ClassVar[bool] = False

    def fit(self, job: Job, config: Any) -> FitResult:
        """Train within the budget. Raises BudgetError."""
        ...


VARIANT = "variant"
"""The setting that selects the config to which the other settings of a method apply."""
