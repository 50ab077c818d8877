"""What is asked of a layout, and the choices that it offers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import Table
from edgerec_export.allocate import Share
from edgerec_export.layouts.base import Plan
from edgerec_export.values import chunks

ROWS_AT_ONCE = 1 << 16
RUN_ROWS = 1 << 15
"""Rows that are scored together or not at all, at least."""


@dataclass(frozen=True)
class Wish:
    """A table that is to be stored.

    Attributes:
        table: (n_rows, d).
        precision: of its values.
        rows_by_id: (n_rows,) its rows in the order of their ids, which they keep inside a block.
        scales: what of integers has a scale of its own: the 'table', a 'block' or a 'row'.
        scored: all rows are scored for each user; otherwise rows are only looked up.
        d: dimensions of a decoded row.
        share: what a byte budget buys of the table, where one was allocated; a row may get more where its block is
            wider.
        widths: of the blocks, ascending, of an older bundle to follow; a wider one is added where rows need it.
    """

    table: Table
    precision: str
    rows_by_id: NDArray[np.int64]
    scales: str = "table"
    scored: bool = True
    d: int = 1 << 30
    share: Share | None = None
    widths: tuple[int, ...] = ()

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(n_rows,) dimensions of each row up to its last value, at least 1 and at most `d`."""
        if self.share is not None:
            return np.clip(self.share.sizes, 1, self.d)
        found = self.table.sizes()
        if self.table.kind == "sparse":
            for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
                used = self.table.rows(np.arange(part.start, part.stop)) != 0
                found[part] = np.where(used.any(1), self.table.d - used[:, ::-1].argmax(1), 1)
        return np.clip(found, 1, self.d)

    @cached_property
    def classes(self) -> list[tuple[str, NDArray[np.int64]]]:
        """The rows by the precision that they are given, ascending."""
        everyone = np.arange(self.table.n_rows)
        if self.share is None:
            return [(self.precision, everyone)]
        pairs = [(name, np.flatnonzero(self.share.which == n)) for n, name in enumerate(self.share.precisions)]
        return [(name, rows) for name, rows in pairs if rows.size]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(n_rows,) values of each row that are not zero; 1 for a row without any, which stores a zero."""
        found = np.empty(self.table.n_rows, np.int64)
        for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
            found[part] = np.count_nonzero(self.table.rows(np.arange(part.start, part.stop)), axis=1)
        return np.maximum(found, 1)

    @property
    def is_large(self) -> bool:
        """Whether it is worth asking which rows a search needs."""
        return self.scored and self.table.n_rows >= 2 * RUN_ROWS

    @cached_property
    def lengths(self) -> NDArray[np.float32]:
        """(n_rows,) the length of each row."""
        found = np.empty(self.table.n_rows, np.float32)
        for part in chunks(self.table.n_rows, ROWS_AT_ONCE):
            found[part] = np.linalg.norm(self.table.rows(np.arange(part.start, part.stop)), axis=1)
        return found


@dataclass(frozen=True)
class Choice:
    """One way to lay a table out.

    Attributes:
        widths: of the blocks, ascending, for each of the wish's classes; of layouts that have some.
    """

    widths: tuple[tuple[int, ...], ...] = ()


class Layout(Protocol):
    """A way to lay tables out."""

    @property
    def name(self) -> str:
        """What the command line calls it."""
        ...

    @property
    def scores_rows(self) -> bool:
        """Whether scoring some rows is cheaper by looking them up than by scoring all."""
        ...

    def choices(self, wish: Wish) -> list[Choice]:
        """The ways worth trying, the fastest first."""
        ...

    def plan(self, wish: Wish, choice: Choice) -> Plan:
        """Where every value goes."""
        ...
