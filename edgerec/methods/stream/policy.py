"""Policies of a stream: a method sizes all rows again when a segment begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BLOCK_OVERHEAD, MOST_WIDTHS, Budget, SizeBudget, bundle_overhead
from edgerec.data import Interactions, Segment
from edgerec.methods.search.history import SearchHistory, size_deciles
from edgerec.methods.stream.warm_start import Carry, sides_of
from edgerec.models import SizePlan, State
from edgerec.training import Progress, Step

Counts = NDArray[np.int64]
UserMetric = NDArray[np.float64]


@dataclass(frozen=True)
class SegmentContext:
    """Where sizes are needed.

    Attributes:
        segment: its test part is not to be looked at while it is the current one.
        budget: what is left to its tables.
        carry: what the segment before it has left; None at the first.
    """

    segment: Segment
    budget: SizeBudget
    carry: Carry | None

    def counts(self, of: str) -> tuple[Counts, Counts]:
        """(n_users,) and (n_items,) interactions in the train part of the 'segment', or in 'all' that is known."""
        part = self.segment.train if of == "segment" else self.segment.known
        return part.user_counts(), part.item_counts()

    def ranked(self, by: str) -> tuple[Counts, Counts]:
        """Rows of users and items, the most frequent first; of equal ones those with more of all that is known."""
        first, then = self.counts(by), self.counts("all")
        return (
            np.lexsort((np.arange(first[0].size), -then[0], -first[0])),
            np.lexsort((np.arange(first[1].size), -then[1], -first[1])),
        )

    def uniform_sizes(self) -> SizePlan:
        """The same size for all rows; what the division leaves goes to the most frequent, so that the budget is spent
        as everywhere."""
        budget = self.budget
        size, rest = divmod(budget.total, budget.n_rows)
        for_users = min(round(rest * budget.n_users / budget.n_rows), budget.n_users)
        sides = []
        for order, extra in zip(self.ranked("all"), (for_users, rest - for_users), strict=True):
            sizes = np.full(order.size, size, np.int64)
            sizes[order[:extra]] += 1
            sides.append(sizes)
        return SizePlan(budget.d, *sides)


@dataclass(frozen=True)
class DecisionContext:
    """What a method may know when a segment begins to train.

    Attributes:
        now: the segment.
        before: the one before, which is wholly known; None at the first.
        evaluate: each test user's metric at `before` if a plan had been deployed there.
        history: what was tried so far, also before a kill: the same is not evaluated twice.
        progress: called once for each trial that is evaluated.
    """

    now: SegmentContext
    before: SegmentContext | None
    evaluate: Callable[[SizePlan], UserMetric]
    history: SearchHistory
    progress: Progress


class SizePolicy(Protocol):
    """A method that follows one stream. All that it remembers is its state."""

    def plan(self, context: DecisionContext) -> SizePlan:
        """Sizes of all rows: within the budget of the segment."""
        ...

    def report(self) -> dict[str, Any]:
        """What is worth telling of the last plan, as JSON."""
        ...

    def state(self) -> State:
        """All that `restore` needs to go on to the same sizes, to the bit."""
        ...

    def restore(self, state: State) -> None:
        """Go on from `state()` of one that was made with the same arguments."""
        ...


class StreamMethod(Protocol):
    """Registered in `edgerec.methods.stream`.

    Attributes:
        name: as spelled on the command line.
        config: its frozen dataclass; every field has a default and is documented.
    """

    name: ClassVar[str]
    config: ClassVar[type[Any]]

    def policy(self, config: Any, d: int, seed: int) -> SizePolicy:
        """Start to follow a stream whose full rows have `d` dimensions."""
        ...


@dataclass(frozen=True)
class Trial:
    """What a plan was worth at the segment before.

    Attributes:
        value: to a user, in the mean.
        gain: over the plan that tries are compared with, in the mean.
        error: standard error of `gain`, over the users.
    """

    value: float
    gain: float
    error: float

    @property
    def ratio(self) -> float:
        """The value over that of the plan it is compared with."""
        return self.value / max(self.value - self.gain, 1e-12)

    def surely(self, doubt: float) -> float:
        """The gain less so many standard errors: what is best of many tries is so by chance too."""
        return self.gain - doubt * self.error


def evaluate_on_previous(
    context: DecisionContext,
    before: SegmentContext,
    plan: SizePlan,
    number: int,
    of: int,
    why: str,
    action: dict[str, Any] | None,
    reference: UserMetric | None = None,
    worth: UserMetric | None = None,
) -> Trial:
    """Return the trial of a plan on the segment before. The history keeps it, and what it holds is not evaluated again.

    Args:
        of: tries that are planned.
        number, why, action: of the try, as `edgerec.methods.search.history` has them.
        reference: (n,) what the plan that this one is compared with is worth; None where this is it.
        worth: (n,) what this one is worth, where that is known.
    """
    evaluated = context.history.evaluated
    if number < len(evaluated):
        return Trial(*(evaluated[number][name] for name in ("eval", "gain", "error")))
    started = time.perf_counter()
    worth = context.evaluate(plan) if worth is None else worth
    found = _compared(worth, worth if reference is None else reference)
    context.history.add(
        {
            "iteration": number,
            "action": action,
            "strategy": why,
            "predicted": None,
            "fitness": found.ratio,
            "eval": found.value,
            "gain": found.gain,
            "error": found.error,
            "density": values_of(plan) / ((before.budget.n_users + before.budget.n_items) * before.budget.d),
            "seconds": round(time.perf_counter() - started, 3),
            "sizes": size_deciles(plan, *before.counts("all")),
        }
    )
    context.progress(Step("search", 1, 1, number, of, {"ratio": found.ratio}))
    return found


def _compared(worth: UserMetric, reference: UserMetric) -> Trial:
    gains = worth - reference
    error = gains.std(ddof=1) / np.sqrt(gains.size) if gains.size > 1 else np.inf
    # A single user says nothing of others.
    return Trial(float(worth.mean()), float(gains.mean()), float(min(error, 1.0)))


def size_budget(budget: Budget, known: Interactions, d: int, *, bytes_per_value: float = 4.0) -> SizeBudget:
    """Return what `budget` leaves the users and items of `known`.

    A share or bytes a row fix the mean size, and the total grows with the rows; bytes of a bundle or a parameter count
    fix the total, and the mean size falls.

    Raises BudgetError where it is less than one value a row.
    """
    in_bytes = budget.kind == "bytes"
    blocks = 2 * MOST_WIDTHS * BLOCK_OVERHEAD
    overhead = bundle_overhead(known.item_ids, known.user_ids) + blocks if in_bytes else 0
    total = budget.values(sum(known.shape), d, bytes_per_value=bytes_per_value, overhead=overhead)
    widths = MOST_WIDTHS if in_bytes else None
    return SizeBudget(known.n_users, known.n_items, total, d, widths, widths)


def values_of(plan: SizePlan) -> int:
    """Return the values of a plan that sizes both sides."""
    return sum(int(sizes.sum()) for sizes in sides_of(plan))
