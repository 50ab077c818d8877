"""Random-walk exploration (CIESS, section 3.3): from an actor's size to near ones, of which a critic chooses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgerec.models.settings import check_range

Sizes = NDArray[np.int64]


class Walk:
    """A walk on the sizes 1..d_max, where those at most `reach` apart are neighbours.

    A step goes to a neighbour with a probability proportional to 1 / distance, as the authors' code has it; it never
    stays where it is, but where there is no other size.
    """

    def __init__(self, d_max: int, reach: int = 5) -> None:
        """Raises SettingError for less than one size, or a reach below one."""
        check_range("d_max", d_max, 1, 1e9)
        check_range("reach", reach, 1, 1e9)
        self.d_max = d_max
        self._offsets = np.array([s for s in range(-min(reach, d_max), min(reach, d_max) + 1) if s != 0])
        ends = np.arange(1, d_max + 1)[:, None] + self._offsets
        weights = np.where((ends >= 1) & (ends <= d_max), 1 / np.abs(self._offsets), 0.0)
        total = weights.sum(1, keepdims=True)
        self._cumulated = np.cumsum(weights / np.where(total > 0, total, 1), axis=1)

    def step(self, sizes: Sizes, rng: np.random.Generator) -> Sizes:
        """(n,) sizes, one step on from (n,) sizes in 1..d_max, each drawn on its own."""
        if self.d_max == 1:
            return sizes.copy()
        rows = self._cumulated[sizes - 1]
        # Strictly above, and below the row's end: an offset of no weight is never drawn, whatever rounding leaves.
        drawn = rng.random(sizes.size) * rows[:, -1]
        ends: Sizes = sizes + self._offsets[(rows <= drawn[:, None]).sum(1)]
        return ends

    def visited(self, start: Sizes, steps: int, rng: np.random.Generator) -> Sizes:
        """(n, steps + 1) sizes: the start, and where `steps` steps lead one after another."""
        at = [start]
        for _ in range(steps):
            at.append(self.step(at[-1], rng))
        return np.stack(at, axis=1)


def nearest_size(actions: NDArray[np.floating], d_max: int) -> Sizes:
    """(n,) sizes in 1..d_max nearest to (n,) real actions."""
    sizes: Sizes = np.clip(np.rint(actions), 1, d_max).astype(np.int64)
    return sizes
