"""Tables made smaller until a bundle keeps to its limits: shortened or pruned so as to change scores least."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edgerec.budget import format_bytes
from edgerec.errors import BudgetError
from edgerec_export.allocate import Allocation, allocate, cut, pruned
from edgerec_export.cost import Calibration, Estimate, estimate
from edgerec_export.draft import Draft
from edgerec_export.drafting import draft_within
from edgerec_export.options import Options
from edgerec_export.packing import distortion, packed_in_memory
from edgerec_export.source import Source

WELL_USED = 0.95
"""A fitted bundle uses at least this share of its budget, unless the whole table is smaller."""
TURNS = 12
WIDTHS_TRIED = 5
FULLY_USED = 0.97
"""What a dense bundle of two precisions uses: how many rows have the dearer one is free to choose."""


@dataclass(frozen=True)
class Fit:
    """A draft that fits, how much of the source it keeps, and what it does to scores."""

    draft: Draft
    cost: Estimate
    kept: float
    distortion: float

    def rank(self, limit: int) -> tuple[bool, float, int]:
        """Lower is better: bundles that use their budget, or are whole; of them those that change scores least, of
        which a hundredth more or less is nothing to pay bytes for."""
        unused = self.cost.nbytes < WELL_USED * limit and self.kept < 1
        return unused, float(f"{self.distortion:.2g}"), self.cost.nbytes


FitTo = Callable[[Options, int], Fit]
"""Options and a limit in bytes, to what fits it."""


def within_memory(fit: FitTo, options: Options) -> Fit:
    """A fit that is expected to keep to `max_rss` too."""
    limit = options.max_bytes or 0
    for _ in range(TURNS):
        found = fit(options, limit)
        excess = 0 if options.max_rss is None else found.cost.peak_bytes - options.max_rss
        if excess <= 0:
            return found
        limit -= excess
        if limit <= 0:
            break
    raise BudgetError(
        f"no bundle is expected to keep to the {format_bytes(options.max_rss or 0)} of memory that --max-rss allows: "
        "allow more, or train with a smaller --budget"
    )


def fit_blocks(
    source: Source, precisions: tuple[str, ...], calibration: Calibration, options: Options, limit: int
) -> Fit:
    """Shorten rows, and choose their bits, until the bundle fits closely.

    Raises BudgetError where one value a row is too much.
    """

    def drafted(room: float) -> Drafted:
        allocation = allocate(source, precisions, room, users=options.users)
        return _drafted(source, calibration, options, limit, allocation)

    return _fit(source, _closest(drafted, limit))


def fit_dense(
    source: Source, precisions: tuple[str, ...], calibration: Calibration, options: Options, limit: int
) -> Fit:
    """Cut all rows to the same number of dimensions, as many as fit. Of two precisions, rows of the first take what
    rows of the second leave.

    Raises BudgetError where one value a row is too much.
    """

    def whole(precision: str, width: int) -> Drafted:
        allocation = cut(source, precision, width, users=options.users)
        return _drafted(source, calibration, options, limit, allocation)

    def in_part(width: int, room: float) -> Drafted:
        allocation = allocate(source, precisions, room, users=options.users, width=width)
        return _drafted(source, calibration, options, limit, allocation)

    *dearer, cheapest = (partial(whole, precision) for precision in precisions)
    most = _widest(cheapest, source)
    if not dearer:
        return _fit(source, cheapest(most))
    least = 1
    with contextlib.suppress(BudgetError):
        least = _widest(dearer[0], source)
    widths = sorted({round(width) for width in np.linspace(least, most, WIDTHS_TRIED)})
    found = [_closest(partial(in_part, width), limit, FULLY_USED) for width in widths]
    return _fit(source, min(found, key=lambda one: one[2].distortion))


Drafted = tuple[Draft, Estimate, Allocation]


def _drafted(source: Source, calibration: Calibration, options: Options, limit: int, allocation: Allocation) -> Drafted:
    """The draft of an allocation. Raises BudgetError where it takes more than `limit` bytes."""
    draft = draft_within(source, replace(options, max_bytes=limit), allocation)
    return draft, estimate(draft, calibration), allocation


def _closest(drafted: Callable[[float], Drafted], limit: int, well_used: float = WELL_USED) -> Drafted:
    """The draft of as much room for values as the limit leaves, to a share of it.

    Raises BudgetError where the least is too much.
    """
    best = drafted(0.0)
    low, high = best[2].nbytes, float(limit)
    # What is no value takes about as much in every bundle.
    room = max(low, limit - (best[1].nbytes - low))
    for _ in range(TURNS):
        try:
            found = drafted(room)
        except BudgetError as refusal:
            high = room
            over = 1.02 * ((refusal.smallest or 2 * limit) - limit)
            room = max(room - over, (low + room) / 2)
            continue
        best, low = found, room
        _, cost, allocation = found
        if cost.nbytes >= well_used * limit or allocation.nbytes < 0.9 * room:
            break
        room = min(room + (limit - cost.nbytes), (room + high) / 2)
    return best


def _widest(drafted: Callable[[int], Drafted], source: Source) -> int:
    """The most dimensions that a draft keeps to its limit with. Raises BudgetError where one is too much."""
    drafted(1)

    def fits(width: int) -> bool:
        try:
            drafted(width)
        except BudgetError:
            return False
        return True

    low, high = 1, source.items.d + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    # In int4 a pair of dimensions takes as much as the odd one before it, whose graph is larger.
    return next((width for width in (low + 2, low + 1) if width <= source.items.d and fits(width)), low)


def _fit(source: Source, best: Drafted) -> Fit:
    draft, cost, allocation = best
    kept = 1.0 if allocation.whole else min(1.0, draft.items.n_values / source.items.n_values)
    return Fit(draft, cost, kept, distortion(packed_in_memory(draft), source))


def fit_sparse(source: Source, calibration: Calibration, options: Options, limit: int) -> Fit:
    """Prune values until the bundle fits closely.

    Raises BudgetError where one value a row is too much.
    """
    whole = source.items.n_values + (source.users.n_values if source.users is not None and options.users else 0)

    def drafted(n_values: float) -> tuple[Draft, Estimate, Source]:
        smaller = pruned(source, n_values)
        draft = draft_within(smaller, replace(options, max_bytes=limit))
        return draft, estimate(draft, calibration), smaller

    best = drafted(0.0)
    low, high, n_values = 0.0, float(whole), float(whole)
    for _ in range(2 * TURNS):
        try:
            best, low = drafted(n_values), n_values
        except BudgetError:
            high = n_values
        if best[1].nbytes >= WELL_USED * limit or low >= whole:
            break
        n_values = (low + high) / 2
    draft, cost, smaller = best
    kept = smaller.items.n_values / source.items.n_values
    return Fit(draft, cost, kept, distortion(packed_in_memory(draft), source))
