"""Data whose answer is known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.data import Interactions
from edgerec.models import SizePlan


class Checkerboard:
    """60 users x 40 items: even users take even items, odd users odd ones; the pairs with (u + i) % 10 == 0 are
    left out of `data`, for a model to find.

    Attributes:
        data: what is observed.
        taken, held_out: (60, 40) bool, the truth and the part of it that is left out.
    """

    def __init__(self) -> None:
        users, items = np.indices((60, 40))
        self.taken = (users + items) % 2 == 0
        self.held_out = (users + items) % 10 == 0
        self.data = Interactions.from_pairs(*np.nonzero(self.taken & ~self.held_out))


@pytest.fixture(scope="session")
def checkerboard() -> Checkerboard:
    return Checkerboard()


@pytest.fixture(scope="session")
def random_data() -> Interactions:
    """80 users x 50 items, each item with its own popularity; user rows of 1 to about 40 observations."""
    rng = np.random.default_rng(7)
    seen = rng.random((80, 50)) < rng.beta(0.8, 2, (80, 1)) * rng.uniform(0.2, 1, (1, 50))
    seen[np.arange(80), np.arange(80) % 50] = True
    users, items = np.nonzero(seen)
    return Interactions.from_pairs(users, items)


@pytest.fixture(scope="session")
def uneven(random_data: Interactions) -> SizePlan:
    """A full width of 12 and every size from 1 to 12 on both sides."""
    return SizePlan(12, np.arange(80, dtype=np.int64) % 12 + 1, np.arange(50, dtype=np.int64)[::-1] % 12 + 1)
