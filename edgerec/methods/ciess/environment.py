"""What an agent of CIESS sees and is paid: the state, the quality and the reward of every user and item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.models import State

Floats = NDArray[np.float32]
Sizes = NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """How quality and memory make a reward (CIESS, section 3.1, and where the authors' code differs).

    Attributes:
        cost: lambda, what a full row's memory costs.
        ratio: quality is the share of the full model's metric, at most 1, as in the paper; else the metric itself.
        zero_based_cost: a row of one dimension costs nothing, as in the code; else as much as it has, as in the paper.
    """

    cost: float
    ratio: bool = True
    zero_based_cost: bool = False

    def reward(self, quality: Floats, sizes: Sizes, d: int) -> Floats:
        """(n,) q - lambda (size / d)^2."""
        share = (sizes - (1 if self.zero_based_cost else 0)) / np.float32(d)
        return (quality - self.cost * np.square(share)).astype(np.float32)


class Environment:
    """Users and items of `train`, what the full model makes of them, and the rules.

    Everywhere users come before items, as pairs of arrays.
    """

    def __init__(
        self, train: Interactions, full: Floats, d: int, rules: tuple[Rules, Rules], *, log: bool = False
    ) -> None:
        """`full`: (n_users,) the full model's metric of each user, NaN where nothing was held back of one. With `log`
        sizes and frequencies are seen by their logarithm."""
        self._train, self._d, self.rules, self._log = train, d, rules, log
        self._full = self._both(full)
        self.popularity = tuple(_scaled(counts, log) for counts in (train.user_counts(), train.item_counts()))
        self.known = tuple(np.isfinite(side) for side in self._full)

    def _both(self, users: Floats) -> tuple[Floats, Floats]:
        """The metric of users, and of items: the mean over the users that have one in training. NaN for unknown."""
        known = np.isfinite(users)
        matrix = self._train.matrix().T.tocsr()
        total = matrix @ np.where(known, users, 0).astype(np.float64)
        count = matrix @ known.astype(np.float64)
        items = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return users.astype(np.float32), items.astype(np.float32)

    def quality(self, users: Floats) -> tuple[Floats, Floats]:
        """(n_users,) and (n_items,) quality of a table whose users have the metric `users` (n_users,).

        Where nothing is known of an entity it has the mean of its side. A user that the full model does nothing for
        loses nothing either, and has quality 1: ours, the paper leaves it open.
        """
        made = []
        for found, full, known, rules in zip(self._both(users), self._full, self.known, self.rules, strict=True):
            quality = found
            if rules.ratio:
                quality = np.where(full > 0, np.minimum(found / np.where(full > 0, full, 1), 1), 1)
            mean = quality[known].mean() if known.any() else 1.0
            made.append(np.where(known, quality, mean).astype(np.float32))
        return made[0], made[1]

    def mean_quality(self, quality: tuple[Floats, Floats]) -> float:
        """Over all users and items of which something is known."""
        parts = [side[known] for side, known in zip(quality, self.known, strict=True)]
        return float(np.concatenate(parts).mean(dtype=np.float64))

    def states(self, side: int, rows: NDArray[np.int64] | slice, sizes: Sizes, quality: Floats) -> Floats:
        """(b, 3) float32: popularity, size and quality of `rows` of one side, each in -1..1."""
        share = np.log(sizes) / np.log(max(self._d, 2)) if self._log else sizes / np.float32(self._d)
        parts = (self.popularity[side][rows], share, quality)
        return np.stack([2 * part - 1 for part in parts], axis=1).astype(np.float32)

    def reward(self, side: int, quality: Floats, sizes: Sizes) -> Floats:
        """(b,) what entities of one side are paid for that quality and size."""
        return self.rules[side].reward(quality, sizes, self._d)


def _scaled(counts: NDArray[np.int64], log: bool) -> Floats:
    """0..1, from the rarest to the most frequent."""
    seen = np.log1p(counts) if log else counts
    scaled: Floats = ((seen - seen.min()) / max(float(np.ptp(seen)), 1e-9)).astype(np.float32)
    return scaled


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
