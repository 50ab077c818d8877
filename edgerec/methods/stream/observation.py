"""What SCALL's agent sees, and what its action does: both of a fixed length, whatever the numbers of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.methods.stream.base import Scene
from edgerec.models import SizePlan

Floats = NDArray[np.float32]

SHAPES = (0.1, 30.0)
"""Smallest and largest shape of the power law (SCALL's code)."""
_TINY = 1e-300
"""The smallest weight: a power law of a small shape underflows to zero, and a weight is positive."""


@dataclass(frozen=True)
class SizeAction:
    """Sizes of whole tables in three numbers.

    Attributes:
        share: of the budget that goes to users, in 0..1.
        users, items: shapes of the power laws that sizes follow: 0.1 gives nearly all to few rows, 30 nearly the same
            to each.
    """

    share: float
    users: float
    items: float

    @classmethod
    def of(cls, action: NDArray[Any], *, log: bool = True) -> SizeAction:
        """Of (3,) numbers in 0..1. With `log` (ours) shapes are read on a logarithmic scale: on the authors' linear
        one, 24 actions of 25 are nearly uniform, with a shape above 1.3."""
        low, high = SHAPES
        unit = np.clip(np.asarray(action, np.float64), 0, 1)
        shapes = low * (high / low) ** unit if log else low + (high - low) * unit
        return cls(float(unit[0]), float(shapes[1]), float(shapes[2]))

    def to_json(self) -> dict[str, float]:
        return {"share": self.share, "users": self.users, "items": self.items}

    def plan(self, scene: Scene, counts: str = "segment") -> SizePlan:
        """Sizes within the scene's room, the n-th largest for the n-th most frequent row: a row that was never seen
        before is sized as any other."""
        sides = []
        for order, shape in zip(scene.ranked(counts), (self.users, self.items), strict=True):
            weights = np.empty(order.size)
            weights[order] = power_law(order.size, shape)
            sides.append(weights)
        return scene.room.plan(sides[0], sides[1], self.share)


def power_law(n: int, shape: float) -> NDArray[np.float64]:
    """(n,) quantiles of the power law with density a x^(a - 1) on 0..1, descending: what the mean of many sorted
    samples comes to, which the authors' code draws a hundred times."""
    return np.maximum(((n - np.arange(n) - 0.5) / n) ** (1 / shape), _TINY)


def length(d: int, groups: int) -> int:
    """Of an observation."""
    return 2 * groups + 2 + 2 * d + 2


def observed(scene: Scene, ratio: float, plan: SizePlan, *, groups: int, counts: str) -> Floats:
    """(length,) float32: pooled frequencies of users and items, the last reward's ratio, the users' share of the rows,
    the mean user and item as they were kept, and the spread of the last sizes of each side (SCALL's code)."""
    room = scene.room
    frequencies = [pooled(side, groups) for side in scene.counts(counts)]
    means = np.zeros(2 * room.d) if scene.carry is None else scene.carry.means()
    spreads = [np.ptp(sizes) / max(room.d - 1, 1) for sizes in (plan.users, plan.items) if sizes is not None]
    share = room.n_users / (room.n_users + room.n_items)
    return np.concatenate([*frequencies, [ratio, share], means, spreads]).astype(np.float32)


def pooled(counts: NDArray[np.int64], groups: int) -> Floats:
    """(groups,) float32: frequencies in descending order, scaled to 0..1, the means of so many parts of equal length. A
    part may have a fraction of a row: there is no least number of rows."""
    ordered = np.sort(counts)[::-1].astype(np.float64)
    scaled = (ordered - ordered[-1]) / max(float(np.ptp(ordered)), 1e-9)
    summed = np.concatenate([[0], np.cumsum(scaled)])
    ends = np.interp(np.linspace(0, scaled.size, groups + 1), np.arange(scaled.size + 1), summed)
    parts: Floats = (np.diff(ends) * (groups / scaled.size)).astype(np.float32)
    return parts
