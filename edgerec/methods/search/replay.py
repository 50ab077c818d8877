"""The replay memory of one side: its sizes and qualities, from which transitions are made when they are drawn.

A transition stored in full takes 8 floats; here it is a size of one or two bytes and a quality of four, and the states
before and after are made of the popularity that all have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.models import State

Floats = NDArray[np.float32]
Sizes = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Transitions.

    Attributes:
        states: (b, n_state) float32 before the action.
        actions: (b,) float32, or (b, n_action) where they are of several numbers.
        rewards: (b,) float32.
        following: (b, n_state) float32 states after it.
    """

    states: Floats
    actions: Floats
    rewards: Floats
    following: Floats


@dataclass(frozen=True)
class Drawn:
    """Transitions as they are stored.

    Attributes:
        rows: (b,) the entities.
        sizes_before, sizes: (b,) before and after the action; the latter are the action.
        shown_before, shown: (b,) the quality that an agent sees, likewise.
        paid: (b,) the quality that it is paid for.
    """

    rows: NDArray[np.int64]
    sizes_before: Sizes
    sizes: Sizes
    shown_before: Floats
    shown: Floats
    paid: Floats


class Replay:
    """The last visits of a search over `n` entities with sizes 1..d; an episode begins with full rows of quality 1.

    Attributes:
        known: (n,) whether anything is known of the quality that is paid for; of other entities nothing is learnt.
        pushed: how many visits there have been.
    """

    def __init__(self, n: int, d: int, visits: int, known: NDArray[np.bool_], lanes: int = 1) -> None:
        """`visits`: how many are kept, at least 1; they are of `lanes` episodes by turns."""
        self._d, self.known, self._lanes = d, known, lanes
        # More than is drawn from: the oldest are only what the next ones began with.
        iterations = visits + lanes - 1
        self._sizes = np.zeros((iterations + 1, n), np.uint8 if d <= 255 else np.uint16 if d <= 65535 else np.uint32)
        self._shown, self._paid = np.zeros((2, iterations + 1, n), np.float32)
        self._begins = np.zeros(iterations + 1, np.bool_)
        self._rows = np.flatnonzero(known)
        self.pushed = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are held, however long the search."""
        return self._sizes.nbytes + self._shown.nbytes + self._paid.nbytes + self._begins.nbytes

    def push(self, sizes: Sizes, shown: Floats, paid: Floats, *, begins: bool) -> None:
        """Keep one visit, sizes (n,) and both qualities (n,); `begins` where it is the first of an episode."""
        at = self.pushed % len(self._sizes)
        self._sizes[at], self._shown[at], self._paid[at], self._begins[at] = sizes, shown, paid, begins
        self.pushed += 1

    def last(self, lane: int) -> tuple[Sizes, Floats]:
        """(n,) sizes of the last visit of a lane, and (n,) the quality that is seen there, after as many of each."""
        at = (self.pushed - self._lanes + lane) % len(self._sizes)
        return self._sizes[at].astype(np.int64), self._shown[at].copy()

    def _slots(self) -> NDArray[np.int64]:
        """Where there are whole transitions."""
        kept = len(self._sizes)
        numbers = np.arange(max(self.pushed - kept + self._lanes, 0), self.pushed)
        return numbers % kept

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return self._slots().size * self._rows.size

    def draw(self, count: int, rng: np.random.Generator) -> Drawn:
        """`count` transitions, each as likely as any other, with replacement; there must be one."""
        slots = rng.choice(self._slots(), count)
        rows = rng.choice(self._rows, count)
        before, begins = (slots - self._lanes) % len(self._sizes), self._begins[slots]
        return Drawn(
            rows,
            np.where(begins, self._d, self._sizes[before, rows]).astype(np.int64),
            self._sizes[slots, rows].astype(np.int64),
            np.where(begins, np.float32(1), self._shown[before, rows]),
            self._shown[slots, rows],
            self._paid[slots, rows],
        )

    def state(self) -> State:
        """All that is kept."""
        return {
            "sizes": self._sizes.copy(),
            "shown": self._shown.copy(),
            "paid": self._paid.copy(),
            "begins": self._begins.copy(),
            "pushed": np.array(self.pushed),
        }

    def restore(self, state: State) -> None:
        """Continue from `state()` of one that was made with the same arguments."""
        for name, kept in (("sizes", self._sizes), ("shown", self._shown), ("paid", self._paid)):
            kept[:] = state[name]
        self._begins[:] = state["begins"]
        self.pushed = int(state["pushed"])
