"""Tables made smaller until a bundle keeps to its limits: shortened or pruned so as to change scores least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgerec.errors import BudgetError
from edgerec_export.allocate import Allocation, allocate, pruned
from edgerec_export.cost import Calibration, Estimate, estimate
from edgerec_export.draft import Draft
from edgerec_export.drafting import draft_within
from edgerec_export.options import Options
from edgerec_export.packing import distortion, packed_in_memory
from edgerec_export.source import Source

WELL_USED = 0.95
"""A fitted bundle uses at least this share of its budget, unless the whole table is smaller."""
TURNS = 8


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
"""Options and the limit in bytes that they name, to what fits it."""


def within_memory(fit: FitTo, options: Options) -> Fit:
    """A fit that is expected to keep to `max_rss` too."""
    limit = options.max_bytes or 0
    for _ in range(TURNS):
        found = fit(replace(options, max_bytes=limit), limit)
        excess = 0 if options.max_rss is None else found.cost.peak_bytes - options.max_rss
        if excess <= 0:
            return found
        limit -= excess
        if limit <= 0:
            break
    raise BudgetError(
        f"no bundle is expected to keep to {options.max_rss} bytes of memory: allow more, or train with a smaller "
        "--budget"
    )


def fit_blocks(
    source: Source, precisions: tuple[str, ...], calibration: Calibration, options: Options, limit: int
) -> Fit:
    """Shorten rows, and choose their bits, until the bundle fits closely."""
    room, low, high = float(limit), 0.0, float(limit)
    best: tuple[Draft, Estimate, Allocation] | None = None
    failure = BudgetError(f"nothing fits {limit} bytes")
    for _ in range(TURNS):
        allocation = allocate(source, precisions, room, users=options.users)
        try:
            draft = draft_within(source, options, allocation)
        except BudgetError as refusal:
            failure, high = refusal, room
            if refusal.smallest is None:
                raise
            over = 1.02 * (refusal.smallest - limit)
            room = max(room - over, (low + room) / 2) if low else room - over
            if room <= 0:
                break
            continue
        cost = estimate(draft, calibration)
        best, low = (draft, cost, allocation), room
        if cost.nbytes >= WELL_USED * limit or allocation.nbytes < 0.9 * room:
            break
        room = min(room + (limit - cost.nbytes), (room + high) / 2)
    if best is None:
        raise failure
    draft, cost, allocation = best
    kept = 1.0 if allocation.whole else min(1.0, draft.items.n_values / source.items.n_values)
    return Fit(draft, cost, kept, distortion(packed_in_memory(draft), source))


def fit_sparse(source: Source, calibration: Calibration, options: Options, limit: int) -> Fit:
    """Prune values until the bundle fits closely."""
    whole = source.items.n_values + (source.users.n_values if source.users is not None and options.users else 0)
    low, high, n_values = 0.0, float(whole), float(whole)
    best: tuple[Draft, Estimate, Source] | None = None
    failure = BudgetError(f"nothing fits {limit} bytes")
    for _ in range(2 * TURNS):
        smaller = pruned(source, n_values)
        try:
            draft = draft_within(smaller, options)
        except BudgetError as refusal:
            failure, high = refusal, n_values
            n_values = (low + high) / 2
            continue
        cost = estimate(draft, calibration)
        best, low = (draft, cost, smaller), n_values
        if cost.nbytes >= WELL_USED * limit or n_values >= whole:
            break
        n_values = (low + high) / 2
    if best is None:
        raise failure
    draft, cost, smaller = best
    kept = smaller.items.n_values / source.items.n_values
    return Fit(draft, cost, kept, distortion(packed_in_memory(draft), source))
