"""Rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's rank correlation of two equally long sequences; equal values share their mean rank.

    None where there is none: fewer than two values, or all equal on one side.
    """
    one, other = (_ranks(np.asarray(values, np.float64)) for values in (a, b))
    if one.size < 2 or one.std() == 0 or other.std() == 0:
        return None
    return float(((one - one.mean()) * (other - other.mean())).mean() / (one.std() * other.std()))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(values)
    first, behind = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray(first + behind - 1) / 2
