"""The environment of CIESS's agents: the state, the quality and the reward of every user and item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions

Floats = NDArray[np.float32]
Sizes = NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """The reward function of quality and memory (CIESS, section 3.1, with the variants of the authors' code).

    Attributes:
        cost: lambda, the cost of a full row's memory.
        ratio, zero_based_cost: as in `CIESSConfig`.
    """

    cost: float
    ratio: bool = True
    zero_based_cost: bool = False

    def reward(self, quality: Floats, sizes: Sizes, d: int) -> Floats:
        """Return (n,) rewards quality - cost (size / d)^2; with `zero_based_cost`, (size - 1) instead of size."""
        share = (sizes - (1 if self.zero_based_cost else 0)) / np.float32(d)
        return (quality - self.cost * np.square(share)).astype(np.float32)


class AgentEnvironment:
    """The states and rewards that agents see, and the reward rules.

    Attributes:
        popularity: (n,) popularity in 0..1 of the entities of each side.
        known: (n,) True for entities with a known quality.
        weights: (n,) number of rows of each entity; None for one.
        rules: reward rules of each side.
    """

    def __init__(
        self,
        popularity: tuple[Floats, ...],
        known: tuple[NDArray[np.bool_], ...],
        d: int,
        rules: tuple[Rules, ...],
        *,
        log: bool = False,
        weights: NDArray[np.int64] | None = None,
    ) -> None:
        """Initialise the environment of sizes 1..d; `log` shows sizes by their logarithm."""
        self.popularity, self.known, self.weights = popularity, known, weights
        self._d, self.rules, self._log = d, rules, log

    def states(self, side: int, rows: NDArray[np.int64] | slice, sizes: Sizes, quality: Floats) -> Floats:
        """Return (b, 3) float32: popularity, size and quality of `rows` of one side, each in -1..1."""
        share = np.log(sizes) / np.log(max(self._d, 2)) if self._log else sizes / np.float32(self._d)
        parts = (self.popularity[side][rows], share, quality)
        return np.stack([2 * part - 1 for part in parts], axis=1).astype(np.float32)

    def reward(self, side: int, quality: Floats, sizes: Sizes) -> Floats:
        """Return the (b,) rewards of entities of one side for a quality and size."""
        return self.rules[side].reward(quality, sizes, self._d)


class Environment(AgentEnvironment):
    """Users and items of `train`, the full model's metric of them, and the reward rules.

    Pairs of arrays have users before items.
    """

    def __init__(
        self, train: Interactions, full: Floats, d: int, rules: tuple[Rules, Rules], *, log: bool = False
    ) -> None:
        """Initialise the environment.

        Args:
            full: (n_users,) the full model's metric of each user, NaN for users without held-back interactions.
            log: True to show sizes and frequencies by their logarithm.
        """
        self._train = train
        self._full = self._both(full)
        popularity = tuple(scaled(counts, log) for counts in (train.user_counts(), train.item_counts()))
        super().__init__(popularity, tuple(np.isfinite(side) for side in self._full), d, rules, log=log)

    def _both(self, users: Floats) -> tuple[Floats, Floats]:
        """Return the metric of users and of items; an item's is the mean over its users in training. NaN if unknown."""
        known = np.isfinite(users)
        matrix = self._train.matrix().T.tocsr()
        total = matrix @ np.where(known, users, 0).astype(np.float64)
        count = matrix @ known.astype(np.float64)
        items = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return users.astype(np.float32), items.astype(np.float32)

    def quality(self, users: Floats) -> tuple[Floats, Floats]:
        """Return the (n_users,) and (n_items,) quality of a table whose users have the metric `users` (n_users,).

        Unknown users have the mean quality of users, and unknown items that of items. A user whose metric is 0 with
        the full model can lose nothing, and has quality 1 (ours: the paper leaves it open).
        """
        qualities = []
        for found, full, known, rules in zip(self._both(users), self._full, self.known, self.rules, strict=True):
            quality = found
            if rules.ratio:
                quality = np.where(full > 0, np.minimum(found / np.where(full > 0, full, 1), 1), 1)
            mean = quality[known].mean() if known.any() else 1.0
            qualities.append(np.where(known, quality, mean).astype(np.float32))
        return qualities[0], qualities[1]

    def mean_quality(self, quality: tuple[Floats, Floats]) -> float:
        """Return the mean quality of all known users and items."""
        parts = [side[known] for side, known in zip(quality, self.known, strict=True)]
        return float(np.concatenate(parts).mean(dtype=np.float64))


def scaled(counts: NDArray[np.int64] | NDArray[np.float64], log: bool) -> Floats:
    """Return counts scaled to 0..1, from the rarest to the most frequent."""
    seen = np.log1p(counts) if log else counts
    between: Floats = ((seen - seen.min()) / max(float(np.ptp(seen)), 1e-9)).astype(np.float32)
    return between


@dataclass(frozen=True)
class Drawn:
    """Transitions of the replay memory.

    Attributes:
        rows: (b,) the entities.
        sizes_before, sizes: (b,) sizes before and after the action; the latter are the action.
        shown_before, shown: (b,) quality that the agent observes before and after the action.
        paid: (b,) quality after the action from which its reward is computed.
    """

    rows: NDArray[np.int64]
    sizes_before: Sizes
    sizes: Sizes
    shown_before: Floats
    shown: Floats
    paid: Floats


class Replay:
    """The replay memory: the last visits of a search over `n` rows with sizes 1..d.

    An episode starts at full rows of quality 1. A transition joins two consecutive visits of one lane, that is of one
    of the parallel episodes.

    Attributes:
        known: (n,) True for entities with a known rewarded quality; agents learn from no others.
        pushed: number of visits so far.
    """

    def __init__(self, n: int, d: int, visits: int, known: NDArray[np.bool_], lanes: int = 1) -> None:
        """Allocate the memory of the last `visits`, at least 1, of `lanes` interleaved episodes."""
        self._d, self.known, self._lanes = d, known, lanes
        # A transition needs the visit of its lane before it, so the oldest `lanes` visits serve as predecessors only.
        slots = visits + lanes
        self._sizes = np.zeros((slots, n), np.uint8 if d <= 255 else np.uint16 if d <= 65535 else np.uint32)
        self._shown, self._paid = np.zeros((2, slots, n), np.float32)
        self._begins = np.zeros(slots, np.bool_)
        self._rows = np.flatnonzero(known)
        self.pushed = 0

    @property
    def nbytes(self) -> int:
        """Bytes in memory, independent of the length of the search."""
        return self._sizes.nbytes + self._shown.nbytes + self._paid.nbytes + self._begins.nbytes

    def push(self, sizes: Sizes, shown: Floats, paid: Floats, *, begins: bool) -> None:
        """Store one visit, sizes (n,) and both qualities (n,); `begins` is True for the first of an episode."""
        at = self.pushed % len(self._sizes)
        self._sizes[at], self._shown[at], self._paid[at], self._begins[at] = sizes, shown, paid, begins
        self.pushed += 1

    def last(self, lane: int) -> tuple[Sizes, Floats]:
        """Return the (n,) sizes and (n,) observed quality of a lane's last visit; lanes have equally many visits."""
        at = (self.pushed - self._lanes + lane) % len(self._sizes)
        return self._sizes[at].astype(np.int64), self._shown[at].copy()

    def _slots(self) -> NDArray[np.int64]:
        """Return the slots of complete transitions."""
        capacity = len(self._sizes)
        numbers = np.arange(max(self.pushed - capacity + self._lanes, 0), self.pushed)
        return numbers % capacity

    def __len__(self) -> int:
        """Return the number of transitions that can be drawn."""
        return self._slots().size * self._rows.size

    def draw(self, count: int, rng: np.random.Generator) -> Drawn:
        """Draw `count` transitions uniformly with replacement; there must be at least one."""
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
