"""Which rows get a gradient: drawn by importance, so many at each step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.sparse.table import Floats, Rows
from edgerec.models import State
from edgerec.models.losses import inclusion_chances

_MEMORY = 0.9
"""What an importance keeps of itself when its row has a gradient."""


class RowSampler:
    """Draws rows by the running mean of their gradients' norms, which begins as their popularity.

    Importances are mixed with a uniform share, so that every row has a chance. Choices of ours: the paper says that a
    subset of important vectors is sampled, not how.

    Attributes:
        importance: (n_rows,) float32, positive.
    """

    def __init__(self, popularity: NDArray[np.int64], uniform: float) -> None:
        """`uniform`: the share, 0 to 1, that is drawn whatever the importance."""
        self.importance = np.maximum(popularity, 1).astype(np.float32)
        self._uniform = uniform

    def chances(self, rows: Rows, count: int) -> NDArray[np.float64]:
        """(n,) with which each of `rows` is drawn where `count` are: proportional to its weight, at most 1."""
        own = self.importance[rows].astype(np.float64)
        return inclusion_chances((1 - self._uniform) * own / own.sum() + self._uniform / rows.size, count)

    def told(self, rows: Rows, norms: Floats) -> None:
        """Learn from the norms (n,) of rows' gradients: what these rows hold together is shared out by them."""
        if (total := norms.sum()) > 0:
            own = self.importance[rows]
            self.importance[rows] = _MEMORY * own + (1 - _MEMORY) * norms * (own.sum() / total)

    def state(self) -> State:
        """A copy of the importances."""
        return {"importance": self.importance.copy()}

    def restore(self, state: State) -> None:
        """Become what `state()` was of."""
        self.importance = state["importance"].copy()
