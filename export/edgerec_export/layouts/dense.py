"""The dense layout: one block as wide as the widest row. What every other layout has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KINDS = frozenset({"dense", "prefix"})


def width_choices(sizes: NDArray[np.int64], precision: str) -> list[NDArray[np.int64]]:
    """The only choice: every row padded to the widest."""
    return [np.array([sizes.max()], np.int64)]
