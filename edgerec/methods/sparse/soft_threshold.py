"""A dense table whose values shrink by learnt thresholds until few remain (PEP)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgerec.extras import require
from edgerec.methods.sparse.masks import Mask, largest_mask
from edgerec.methods.sparse.plan import Objective
from edgerec.methods.sparse.table import Floats, Ints, whole
from edgerec.models import torch_threads
from edgerec.models.adam import Adam

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")


_BLOCK = 2048
"""Number of rows processed at once, which limits memory."""
_SHAPES = {"global": (False, False), "dimension": (False, True), "feature": (True, False), "feature-dim": (True, True)}
"""Granularities of thresholds: True if each row, and each column, has its own."""


class SoftTable:
    """The table sign(E) max(|E| - sigmoid(s), 0), with E (n_rows, d) and s both trained by Adam."""

    def __init__(self, values: Floats, granularity: str, threshold: float, decay: float) -> None:
        """Initialise with s = `threshold`; its weight `decay` pulls s to 0 and so raises thresholds."""
        by_row, by_column = _SHAPES[granularity]
        shape = (values.shape[0] if by_row else 1, values.shape[1] if by_column else 1)
        self._values = torch.from_numpy(values)
        self._thresholds = torch.full(shape, float(threshold))
        self._decay = decay
        self._adam = Adam({"values": self._values, "thresholds": self._thresholds})
        self._limits = torch.sigmoid(self._thresholds)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self._values)

    @property
    def count(self) -> int:
        """Number of remaining values."""
        return sum(int(np.count_nonzero(block > 0)) for block in self.margins())

    def margins(self) -> list[Floats]:
        """Return magnitudes minus thresholds, as (n, d) blocks of consecutive rows; negative margins mean zeros."""
        blocks = (slice(start, start + _BLOCK) for start in range(0, self.n_rows, _BLOCK))
        return [np.abs(values) - limits for values, limits in map(self._of, blocks)]

    def rows(self, rows: Ints) -> Floats:
        return _shrunk(*self._of(rows))

    def dots(self, vectors: Floats, rows: Ints) -> Floats:
        products: Floats = np.einsum("nd,nd->n", vectors, self.rows(rows))
        return products

    def dimensions(self, start: int, stop: int) -> Floats:
        own = self._limits if self._limits.shape[1] == 1 else self._limits[:, start:stop]
        return _shrunk(self._values[:, start:stop].numpy(), own.numpy())

    def step(self, rows: Ints, gradients: Floats, lr: float) -> None:
        """Make one step of Adam on values and thresholds, with gradients (n, d) of rows; the others' are zero."""
        at = torch.from_numpy(rows)
        values, limits = map(torch.from_numpy, self._of(rows))
        own = torch.from_numpy(gradients) * (values.abs() > limits)
        of_values = torch.zeros_like(self._values).index_copy_(0, at, own)
        of_limits = torch.zeros_like(self._values).index_copy_(0, at, -own * values.sign())
        slope = torch.addcmul(self._limits, self._limits, self._limits, value=-1)
        of_thresholds = of_limits.sum_to_size(self._thresholds.shape).mul_(slope)
        self._adam.step([of_values, of_thresholds.add_(self._thresholds, alpha=self._decay)], lr)
        self._limits = torch.sigmoid(self._thresholds)

    def _of(self, rows: Ints | slice) -> tuple[Floats, Floats]:
        """Return the values and thresholds of rows."""
        if isinstance(rows, slice):
            return self._values[rows].numpy(), self._limits[rows if len(self._limits) > 1 else slice(None)].numpy()
        at = torch.from_numpy(rows)
        own = self._limits.index_select(0, at) if len(self._limits) > 1 else self._limits
        return self._values.index_select(0, at).numpy(), own.numpy()


def _shrunk(values: Floats, limits: Floats) -> Floats:
    shrunk: Floats = np.sign(values) * np.maximum(np.abs(values) - limits, 0)
    return shrunk


def searched_mask(
    objective: Objective,
    table: SoftTable,
    count: int,
    epochs: int,
    *,
    seed: int,
    threads: int | None,
    tell: Callable[[int], None] = lambda epoch: None,
) -> Mask:
    """Train until at most `count` values remain, or for `epochs` epochs; return the mask of `count` values.

    These are the values with the largest difference from their thresholds, which may be negative, with at least one a
    row.

    Args:
        tell: called with the number of each epoch, from 1, when it ends or the search ends in it.
    """
    generator = torch.Generator().manual_seed(seed)

    def reached(batch: Any) -> bool:
        """Make a step on a batch; return True if at most `count` values remain."""
        rows = objective.active_rows(batch)
        _, gradients = objective.gradient(table, batch, rows)
        table.step(rows, whole(gradients), objective.lr(0))
        objective.step(objective.lr(0))
        return table.count <= count

    with torch_threads(threads):
        for epoch in range(1, epochs + 1):
            ended = any(map(reached, objective.batches(table, generator)))
            tell(epoch)
            if ended:
                break
    return _mask_of_largest_margins(table, count)


def _mask_of_largest_margins(table: SoftTable, count: int) -> Mask:
    margins = table.margins()
    least = min(float(block.min()) for block in margins)
    return largest_mask(lambda: (block - np.float32(least) for block in margins), count)
