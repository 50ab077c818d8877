"""A series of synthetic bundles for measuring patches, each with 10 % of the rows changed since the one before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.tables import PrefixTable, SparseTable, Table
from edgerec_export import ExportRequest, Source, export_request

WIDTHS, SHARES = (2, 4, 8, 16, 32, 64), (0.40, 0.25, 0.15, 0.10, 0.06, 0.04)
"""Row sizes and their probabilities, as under a budget of 10 %: on average 7 of 64 values."""
MOVED = 0.2
"""Share of the changed rows that get another size."""
RENEWED = 0.01
"""Share of the items that are replaced at each step."""


class _ChangingTable:
    """A table whose rows, sizes and ids change. New values are independent of the old ones, the worst case for a
    patch."""

    def __init__(self, rows: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self.ids = np.sort(rng.choice(10 * rows, rows, replace=False))
        self.values, self.sizes = self._new(rows)

    def _new(self, rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        values = self._rng.standard_normal((rows, WIDTHS[-1]), np.float32)
        return values, self._rng.choice(WIDTHS, rows, p=SHARES)

    def change(self, share: float, renewed: float) -> None:
        """Give a share of the rows new values, and replace the share `renewed` by rows with new ids."""
        rows = self._rng.permutation(len(self.ids))[: round(share * len(self.ids))]
        values, sizes = self._new(len(rows))
        moved = round(MOVED * len(rows))
        self.values[rows], self.sizes[rows[:moved]] = values, sizes[:moved]
        count = round(renewed * len(self.ids))
        replaced = self._rng.permutation(len(self.ids))[:count]
        free = np.setdiff1d(np.arange(10 * len(self.ids)), self.ids)
        self.ids[replaced] = self._rng.choice(free, count, replace=False)
        self.values[replaced], self.sizes[replaced] = self._new(count)

    def table(self, *, sparse: bool) -> Table:
        """Return the table with leading values, or with equally many values at any positions."""
        if not sparse:
            return PrefixTable.from_dense(self.values, self.sizes)
        rank = np.argsort(np.argsort(-np.abs(self.values), axis=1), axis=1)
        return SparseTable.from_dense(self.values, rank < self.sizes[:, None])


def versions(items: int, users: int, share: float = 0.1, *, sparse: bool = False, seed: int = 0) -> Iterator[Source]:
    """Yield an endless series of sources, determined by the seed."""
    rng = np.random.default_rng(seed)
    sides = _ChangingTable(items, rng), _ChangingTable(users, rng)
    number = 0
    while True:
        tables = [side.table(sparse=sparse) for side in sides]
        about: dict[str, Any] = {"backbone": "random", "method": f"version {number}"}
        yield Source(tables[0], sides[0].ids.copy(), tables[1], sides[1].ids.copy(), about=about)
        sides[0].change(share, RENEWED)
        sides[1].change(share, 0)
        number += 1


def export_line(source: Iterator[Source], folder: Path, count: int, options: ExportRequest) -> list[Path]:
    """Export the first `count` sources as bundles, each like the one before."""
    bundles: list[Path] = []
    for number in range(count):
        how = ExportRequest(like=bundles[-1], verify=options.verify) if bundles else options
        bundles.append(export_request(next(source), folder / f"version-{number}.bundle", how).folder)
    return bundles
