"""A line of made-up bundles, each changed in a tenth of its rows from the one before: what patches are measured on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import PrefixTable, SparseTable, Table
from edgerec_export import ExportRequest, Source, export_request

WIDTHS, SHARES = (2, 4, 8, 16, 32, 64), (0.40, 0.25, 0.15, 0.10, 0.06, 0.04)
"""Sizes of rows as a budget of a tenth gives them: 7 values on average of 64."""
MOVED = 0.2
"""Of the rows that change, those that get another size."""
RENEWED = 0.01
"""Items that go, and as many that come, at each step."""


class _Side:
    """Rows with ids, all of which may change; new values have nothing in common with the old ones, which is the most
    that a patch can have to say."""

    def __init__(self, rows: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self.ids = np.sort(rng.choice(10 * rows, rows, replace=False))
        self.values, self.sizes = self._new(rows)

    def _new(self, rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        values = self._rng.standard_normal((rows, WIDTHS[-1]), np.float32)
        return values, self._rng.choice(WIDTHS, rows, p=SHARES)

    def change(self, share: float, renewed: float) -> None:
        """A share of the rows in place, another goes and comes."""
        rows = self._rng.permutation(len(self.ids))[: round(share * len(self.ids))]
        values, sizes = self._new(len(rows))
        moved = round(MOVED * len(rows))
        self.values[rows], self.sizes[rows[:moved]] = values, sizes[:moved]
        count = round(renewed * len(self.ids))
        gone = self._rng.permutation(len(self.ids))[:count]
        free = np.setdiff1d(np.arange(10 * len(self.ids)), self.ids)
        self.ids[gone] = self._rng.choice(free, count, replace=False)
        self.values[gone], self.sizes[gone] = self._new(count)

    def table(self, *, sparse: bool) -> Table:
        """Leading values, or as many at any positions."""
        if not sparse:
            return PrefixTable.from_dense(self.values, self.sizes)
        rank = np.argsort(np.argsort(-np.abs(self.values), axis=1), axis=1)
        return SparseTable.from_dense(self.values, rank < self.sizes[:, None])


def versions(items: int, users: int, share: float = 0.1, *, sparse: bool = False, seed: int = 0) -> Iterator[Source]:
    """Source after source, without end; the same for the same seed."""
    rng = np.random.default_rng(seed)
    sides = _Side(items, rng), _Side(users, rng)
    number = 0
    while True:
        tables = [side.table(sparse=sparse) for side in sides]
        about: dict[str, Any] = {"backbone": "random", "method": f"version {number}"}
        yield Source(tables[0], sides[0].ids.copy(), tables[1], sides[1].ids.copy(), about=about)
        sides[0].change(share, RENEWED)
        sides[1].change(share, 0)
        number += 1


def export_line(source: Iterator[Source], folder: Path, count: int, options: ExportRequest) -> list[Path]:
    """The first `count` of them as bundles, each like the one before."""
    bundles: list[Path] = []
    for number in range(count):
        how = ExportRequest(like=bundles[-1], verify=options.verify) if bundles else options
        bundles.append(export_request(next(source), folder / f"version-{number}.bundle", how).folder)
    return bundles
