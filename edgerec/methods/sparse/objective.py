"""What a backbone is to a sparse trainer: steps, and the gradient of the rows that it asks for.

A backbone joins by one line in `_HOME`: a class that is started with (train, d, config, threads, rows).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.methods.sparse.table import Floats, Rows
from edgerec.models import Vectors

_HOME = {
    "lightgcn": ("edgerec.methods.sparse.lightgcn", "LightGCNObjective"),
    "mf": ("edgerec.methods.sparse.mf", "MFObjective"),
}

SPARSE_BACKBONES = frozenset(_HOME)
"""Names of backbones that train in sparse form."""


class Source(Protocol):
    """What an objective may ask of a table; `edgerec.methods.sparse.table.ActiveTable` is one."""

    @property
    def n_rows(self) -> int: ...

    def rows(self, rows: Rows) -> Floats:
        """(n, d) those rows in full."""
        ...

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """(n, d) which of those rows' values are active."""
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
    """

    steps: int

    def start(self, seed: int) -> Floats | float:
        """(n_rows, d) initial values, of which the active ones are taken; or the standard deviation of noise."""
        ...

    def lr(self, epoch: int) -> float:
        """The step size in an epoch, counted from 0."""
        ...

    def batches(self, table: Source, generator: Any) -> Iterator[Any]:
        """The steps of an epoch, each drawn when its turn comes; `generator` is a torch.Generator."""
        ...

    def touched(self, batch: Any) -> Rows:
        """(n,) rows that may have a gradient, ascending, each once."""
        ...

    def gradient(self, table: Source, batch: Any, rows: Rows) -> tuple[float, Floats]:
        """The ranking loss, and the objective's gradient (n, d) by each of `rows`, n of those that are touched,
        ascending."""
        ...

    def vectors(self, table: Source) -> Vectors:
        """What ships, with no more values than the table has."""
        ...


class ObjectiveClass(Protocol):
    """Starts an objective."""

    __name__: ClassVar[str]

    def __call__(self, train: Interactions, d: int, config: Any, threads: int | None, rows: int | None) -> Objective:
        """`rows`: at most so many have a gradient at a step, None for all; a step should not touch many more."""
        ...


def objective(backbone: str) -> ObjectiveClass:
    """The objective of a backbone, one of SPARSE_BACKBONES."""
    module, name = _HOME[backbone]
    found: ObjectiveClass = getattr(import_module(module), name)
    return found
