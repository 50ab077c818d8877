"""What a backbone is to a sparse trainer: steps, and the gradient of the rows that it asks for.

A backbone joins by one line in `_HOME`: a class that is started as `ObjectiveClass` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar, Protocol

from edgerec.data import Interactions
from edgerec.methods.sparse.table import Floats, Parts, Rows
from edgerec.models import State, Vectors

_HOME = {
    "lightgcn": ("edgerec.methods.sparse.lightgcn", "LightGCNObjective"),
    "mf": ("edgerec.methods.sparse.mf", "MFObjective"),
    "ncf": ("edgerec.methods.sparse.ncf", "NCFObjective"),
    "ngcf": ("edgerec.methods.sparse.ngcf", "NGCFObjective"),
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

    def rows(self, rows: Rows) -> Floats:
        """(n, d) those rows in full."""
        ...

    def dots(self, vectors: Floats, rows: Rows) -> Floats:
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

    def settle(self, table: Source) -> None:
        """Choose anew, before an epoch, what depends on the whole table, such as what of a propagated table ships."""
        ...

    def batches(self, table: Source, generator: Any) -> Iterator[Any]:
        """The steps of an epoch, each drawn when its turn comes; `generator` is a torch.Generator."""
        ...

    def touched(self, batch: Any) -> Rows:
        """(n,) rows that may have a gradient, ascending, each once."""
        ...

    def gradient(self, table: Source, batch: Any, rows: Rows) -> tuple[float, Parts]:
        """The ranking loss, and the objective's gradient (n, width) by each of `rows`, n of those that are touched,
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
