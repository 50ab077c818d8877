"""Policies of streams, by which a method sizes all rows when a segment begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BLOCK_OVERHEAD, MOST_WIDTHS, Budget, SizeBudget, bundle_overhead
from edgerec.data import Interactions, Segment
from edgerec.methods.base import Configured
from edgerec.methods.search import SearchHistory, size_deciles
from edgerec.methods.stream.warm_start import Carry, sides_of
from edgerec.models import SizePlan, State
from edgerec.training import Progress, Step

Counts = NDArray[np.int64]
UserMetric = NDArray[np.float64]


@dataclass(frozen=True)
class SegmentContext:
    """A segment with its budget and the tables of the previous one.

    Attributes:
        segment: the segment; policies must not use the test part of the current one.
        budget: budget of its tables.
        carry: tables of the previous segment; None at the first.
    """

    segment: Segment
    budget: SizeBudget
    carry: Carry | None

    def counts(self, of: str) -> tuple[Counts, Counts]:
        """Return (n_users,) and (n_items,) interactions in the train part of the 'segment', or in 'all' known ones."""
        part = self.segment.train if of == "segment" else self.segment.known
        return part.user_counts(), part.item_counts()

    def ranked(self, by: str) -> tuple[Counts, Counts]:
        """Return user rows and item rows, the most frequent first; ties by all known interactions."""
        first, then = self.counts(by), self.counts("all")
        return (
            np.lexsort((np.arange(first[0].size), -then[0], -first[0])),
            np.lexsort((np.arange(first[1].size), -then[1], -first[1])),
        )

    def uniform_sizes(self) -> SizePlan:
        """Return one size for all rows; the remainder of the division goes to the most frequent ones."""
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
    """The information of a policy when a segment begins.

    Attributes:
        now: the segment.
        before: the previous segment, whose test part is known; None at the first.
        evaluate: returns each test user's metric at `before` for a plan deployed there.
        history: trials so far, those of an interrupted process included, so that none is evaluated twice.
        progress: called once for each evaluated trial.
    """

    now: SegmentContext
    before: SegmentContext | None
    evaluate: Callable[[SizePlan], UserMetric]
    history: SearchHistory
    progress: Progress


class SizePolicy(Protocol):
    """A method's decisions on one stream; `state` holds everything that it remembers."""

    def plan(self, context: DecisionContext) -> SizePlan:
        """Return sizes of all rows within the budget of the segment."""
        ...

    def report(self) -> dict[str, Any]:
        """Describe the last plan, as JSON."""
        ...

    def state(self) -> State:
        """Return the state from which `restore` continues to the same sizes to the bit."""
        ...

    def restore(self, state: State) -> None:
        """Continue from `state()` of a policy with the same arguments."""
        ...


class StreamMethod(Configured, Protocol):
    """A method for streams; registered in `edgerec.methods.stream`."""

    def policy(self, config: Any, d: int, seed: int) -> SizePolicy:
        """Return a policy for a stream whose full rows have `d` dimensions."""
        ...


@dataclass(frozen=True)
class Trial:
    """The evaluation of a plan on the previous segment.

    Attributes:
        value: mean metric of users.
        gain: mean difference from the reference plan.
        error: standard error of `gain` over users.
    """

    value: float
    gain: float
    error: float

    @property
    def ratio(self) -> float:
        """The value over that of the reference plan."""
        return self.value / max(self.value - self.gain, 1e-12)

    def lower_bound(self, doubt: float) -> float:
        """Return the gain minus `doubt` standard errors: the best of many trials owes part of its gain to chance."""
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
    metric: UserMetric | None = None,
) -> Trial:
    """Evaluate a plan on the previous segment and store the trial in the history; stored trials are not repeated.

    Args:
        number: number of the trial.
        of: number of planned trials, for progress reports.
        why, action: strategy and action, as in `edgerec.methods.search.history`.
        reference: (n,) user metric of the reference plan; None if this plan is the reference.
        metric: (n,) user metric of this plan if it is known.
    """
    evaluated = context.history.evaluated
    if number < len(evaluated):
        return Trial(*(evaluated[number][name] for name in ("eval", "gain", "error")))
    started = time.perf_counter()
    metric = context.evaluate(plan) if metric is None else metric
    found = _compared(metric, metric if reference is None else reference)
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


def _compared(metric: UserMetric, reference: UserMetric) -> Trial:
    gains = metric - reference
    error = gains.std(ddof=1) / np.sqrt(gains.size) if gains.size > 1 else np.inf
    # A single user gives no standard error (inf); 1, the range of the metric, is finite and so can be stored as JSON.
    return Trial(float(metric.mean()), float(gains.mean()), float(min(error, 1.0)))


def size_budget(budget: Budget, known: Interactions, d: int, *, bytes_per_value: float = 4.0) -> SizeBudget:
    """Return the budget of tables for the users and items of `known`.

    A share or bytes a row fix the mean size, so that the total grows with the number of rows; bytes of a bundle or a
    parameter count fix the total, so that the mean size falls as rows are added.

    Raises BudgetError for less than one value a row.
    """
    in_bytes = budget.kind == "bytes"
    blocks = 2 * MOST_WIDTHS * BLOCK_OVERHEAD
    overhead = bundle_overhead(known.item_ids, known.user_ids) + blocks if in_bytes else 0
    total = budget.values(sum(known.shape), d, bytes_per_value=bytes_per_value, overhead=overhead)
    widths = MOST_WIDTHS if in_bytes else None
    return SizeBudget(known.n_users, known.n_items, total, d, widths, widths)


def values_of(plan: SizePlan) -> int:
    """Return the number of values of a plan that sizes users and items."""
    return sum(int(sizes.sum()) for sizes in sides_of(plan))
