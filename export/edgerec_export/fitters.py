"""Fits of tables to limits: dense and prefix rows get fewer dimensions and bits, sparse tables fewer values."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from edgerec.budget import format_bytes
from edgerec.errors import BudgetError, RangeError
from edgerec_export.allocate import Allocation, Allocator, cut, pruned
from edgerec_export.cost import Calibration, Estimate, estimate
from edgerec_export.draft import Draft, draft_within
from edgerec_export.pack import distortion
from edgerec_export.request import ExportRequest
from edgerec_export.source import Source
from edgerec_export.values import BYTES

WELL_USED = 0.95
"""Smallest share of its budget that a fitted bundle should use, unless it stores the whole table."""
TURNS = 12
"""Maximum number of steps of a search for the largest bundle that fits."""
LEAST_STEP = 0.004
"""Smallest share by which a search reduces the capacity for values."""
WIDTHS_TRIED = 5
"""Number of widths that are compared for a dense bundle of two precisions."""
FEW_ROWS = 1 << 14
"""Number of rows below which the graphs of several blocks take a share of the bytes that counts."""
FULLY_USED = 0.97
"""As `WELL_USED`, for a dense bundle of two precisions, which can vary the number of rows in the larger one."""


class TooSlowError(BudgetError):
    """No bundle is within the time limit.

    Attributes:
        ms: the shortest expected time of a request; infinity if the calibration has none.
    """

    def __init__(self, max_ms: float, ms: float) -> None:
        measure = "measure your device with 'python -m edgerec_bench.calibrate'"
        if math.isinf(ms):
            super().__init__(f"the calibration has no times of this bundle, which --max-ms needs: {measure}")
        else:
            super().__init__(
                f"a request is expected to take {ms:.3g} ms at least, and --max-ms allows {max_ms:g}: allow more, "
                f"change --max-bytes or --precision, or {measure}"
            )
        self.ms = ms


@dataclass(frozen=True)
class Fit:
    """A draft that fits, the share of values that it stores, and the mean squared error of its scores."""

    draft: Draft
    cost: Estimate
    density: float
    distortion: float

    def rank(self, limit: int | None) -> tuple[bool, float, float, int]:
        """Return a sort key, lower for better fits.

        Bundles that use their budget or store whole tables come first, then those with less distortion (to two digits),
        then faster ones, then smaller ones.

        Args:
            limit: bytes to use; None where bundles have fewer because of their time.
        """
        unused = limit is not None and self.cost.nbytes < WELL_USED * limit and self.density < 1
        return unused, float(f"{self.distortion:.2g}"), self.cost.ms, self.cost.nbytes


Fitted = tuple[Draft, Estimate, float]
"""A draft that fits, its cost, and the share of the item table's values that it stores."""


@dataclass(frozen=True)
class Fitter(ABC):
    """A way to make tables smaller: a layout with some precisions.

    Attributes:
        source: the tables, before they are reduced.
        request: the settings.
        expected: approximate mean squared error of the scores of the bundle that fits.
    """

    source: Source
    calibration: Calibration
    request: ExportRequest
    expected: float

    @property
    @abstractmethod
    def name(self) -> str:
        """Layout and precisions."""

    @abstractmethod
    def fit(self, limit: int) -> Fitted:
        """Return the bundle that fits a limit in bytes. Raises BudgetError if one value a row is too much."""


def fit_within_limits(fitter: Fitter) -> Fit:
    """Return a fit within bytes, memory and time, with one scale a row if coarser scales round whole rows to zero."""
    try:
        draft, cost, density = _within_limits(fitter)
        return Fit(draft, cost, density, distortion(draft, fitter.source))
    except RangeError as error:
        finer = fitter.request.with_finer_scales(error.side)
        if finer is None:
            raise
        return fit_within_limits(replace(fitter, request=finer))


def _within_limits(fitter: Fitter) -> Fitted:
    """Return a fit whose expected memory and time are within the limits too.

    Raises BudgetError if there is none: TooSlowError if it is the time that is exceeded.
    """
    request, times = fitter.request, list[tuple[int, float]]()
    max_ms, limit = math.inf if request.max_ms is None else request.max_ms, request.max_bytes or 0
    for _ in range(TURNS):
        try:
            found = fitter.fit(limit)
        except BudgetError:
            if times:
                break
            raise
        cost = found[1]
        excess = 0 if request.max_rss is None else cost.peak_bytes - request.max_rss
        if excess <= 0 and cost.ms <= max_ms:
            return found
        limit -= max(excess, 0)
        if cost.ms > max_ms:
            times.append((cost.nbytes, cost.ms))
            limit = min(limit, _bytes_within(max_ms, times))
        if limit <= 0:
            break
    if times:
        raise TooSlowError(max_ms, min(ms for _, ms in times))
    raise BudgetError(
        f"no bundle is expected to stay within the {format_bytes(request.max_rss or 0)} of memory that --max-rss "
        "allows: allow more, or train with a smaller --budget"
    )


def _bytes_within(max_ms: float, times: list[tuple[int, float]]) -> int:
    """Return the bytes of a bundle that takes `max_ms`, on the line of the last two (bytes, ms), or through zero.

    Sizes change in steps, so that they fall by `LEAST_STEP` at least. It is 0 if times are not known.
    """
    (nbytes, ms), (more, longer) = times[-1], times[-2] if len(times) > 1 else (0, 0.0)
    if not math.isfinite(ms):
        return 0
    slope = (longer - ms) / (more - nbytes) if more != nbytes else 0.0
    wanted = nbytes - (ms - max_ms) / slope if slope > 0 else nbytes * max_ms / ms
    return int(min(wanted, nbytes * (1 - LEAST_STEP)))


Drafted = tuple[Draft, Estimate, Allocation]


def _other_bytes(drafted: Drafted) -> int:
    """Return the bytes besides values: graphs, ids and manifest take about the same in every bundle."""
    draft, cost, _ = drafted
    parts = draft.tables.parts()
    return cost.nbytes - sum(parts[name] for name in draft.plans())


@dataclass(frozen=True)
class BlockFitter(Fitter):
    """Shortens rows, and chooses their precisions: `mixed` for each row, `dense` with one width of all rows.

    A dense bundle of two precisions has the larger one in as many rows as possible.

    Attributes:
        precisions: of which each row gets one, the largest first.
        width: the expected width of all rows; None for `mixed`.
    """

    allocator: Allocator
    precisions: tuple[str, ...]
    width: int | None = None

    @classmethod
    def make(
        cls,
        source: Source,
        allocator: Allocator,
        precisions: tuple[str, ...],
        calibration: Calibration,
        request: ExportRequest,
        limit: int,
    ) -> BlockFitter:
        """Return the fitter with its expected figures. Raises BudgetError if one value a row is too much."""
        found = cls(source, calibration, request, math.inf, allocator, precisions)
        # The graph of similar items is left out where it does not fit.
        least = replace(found, request=replace(request, similar=bool(request.similar)))
        capacity = limit - _other_bytes(least._drafted(allocator.smallest(precisions), limit))
        if request.layout == "mixed" and source.items.n_rows <= FEW_ROWS:
            capacity += limit - least._nbytes(allocator.within(capacity, precisions), limit)
        widths = found._widths(capacity)
        estimates = {width: allocator.estimate(capacity, precisions, width) for width in widths}
        width = min(estimates, key=lambda one: estimates[one])
        return replace(found, width=width, expected=estimates[width])

    @property
    def name(self) -> str:
        return f"{self.request.layout} {'+'.join(self.precisions)}"

    def fit(self, limit: int) -> Fitted:
        if self.request.layout == "dense" and len(self.precisions) == 1:
            best = self._widest(limit)
        elif self.width is None:
            best = self._closest(limit, WELL_USED)
        else:
            best = self._closest(limit, FULLY_USED)
            one_value = self.allocator.smallest(self.precisions).nbytes
            if self.width > 1 and best[2].nbytes <= one_value:  # this width fits in no precision
                return replace(self, width=self.width - max(1, self.width // 16)).fit(limit)
        draft, cost, allocation = best
        density = 1.0 if allocation.whole else min(1.0, draft.items.n_values / self.source.items.n_values)
        return draft, cost, density

    def _drafted(self, allocation: Allocation, limit: int) -> Drafted:
        """Return the draft of an allocation. Raises BudgetError if it takes more than `limit` bytes."""
        draft = draft_within(self.source, replace(self.request, max_bytes=limit), allocation)
        return draft, estimate(draft, self.calibration), allocation

    def _nbytes(self, allocation: Allocation, limit: int) -> int:
        """Return the bytes of an allocation's bundle, also if they exceed the limit."""
        try:
            return self._drafted(allocation, limit)[1].nbytes
        except BudgetError as refusal:
            return refusal.smallest or limit

    def _widths(self, capacity: float) -> list[int | None]:
        """Return the widths to compare of all rows; [None] if each row has its own."""
        if self.request.layout != "dense":
            return [None]
        users = self.source.users if self.request.users else None
        rows = self.source.items.n_rows + (0 if users is None else users.n_rows)
        ends = [min(max(int(capacity / rows / BYTES[one]), 1), self.source.items.d) for one in self.precisions]
        return sorted({round(width) for width in np.linspace(ends[0], ends[-1], WIDTHS_TRIED)})

    def _closest(self, limit: int, well_used: float) -> Drafted:
        """Return the draft with the largest capacity for values within the limit, up to the share `well_used`.

        Raises BudgetError if the smallest draft is too large.
        """
        best = self._drafted(self.allocator.smallest(self.precisions), limit)
        low, high = best[2].nbytes, float(limit)
        capacity = max(low, limit - _other_bytes(best))
        for _ in range(TURNS):
            try:
                found = self._drafted(self.allocator.within(capacity, self.precisions, self.width), limit)
            except BudgetError as refusal:
                high = capacity
                # Sizes change in steps: a reduction of less than a step would be refused again.
                over = max(1.02 * ((refusal.smallest or 2 * limit) - limit), LEAST_STEP * capacity)
                capacity = max(capacity - over, (low + capacity) / 2)
                continue
            best, low = found, capacity
            _, cost, allocation = found
            if cost.nbytes >= well_used * limit or allocation.nbytes < 0.9 * capacity:
                break
            capacity = min(capacity + (limit - cost.nbytes), (capacity + high) / 2)
        return best

    def _widest(self, limit: int) -> Drafted:
        """Return the draft with the largest number of dimensions within the limit."""

        def drafted(width: int) -> Drafted | None:
            allocation = cut(self.source, self.precisions[0], width, users=self.request.users)
            try:
                return self._drafted(allocation, limit)
            except BudgetError:
                return None

        width = self.width or 1
        while (best := drafted(width)) is None and width > 1:
            width -= 1
        if best is None:
            return self._drafted(self.allocator.smallest(self.precisions), limit)
        while True:
            # In int4 an even width takes the bytes of the odd width before it, and its graph is smaller.
            for wider in (width + 2, width + 1):
                if wider <= self.source.items.d and (found := drafted(wider)) is not None:
                    best, width = found, wider
                    break
            else:
                return best


@dataclass(frozen=True)
class SparseFitter(Fitter):
    """Prunes values of sparse tables."""

    @property
    def name(self) -> str:
        return f"{self.request.layout} {self.request.precision}"

    def fit(self, limit: int) -> Fitted:
        users = self.source.users if self.request.users else None
        whole = self.source.items.n_values + (0 if users is None else users.n_values)

        def drafted(n_values: float) -> tuple[Draft, Estimate, Source]:
            smaller = pruned(self.source, n_values)
            draft = draft_within(smaller, replace(self.request, max_bytes=limit))
            return draft, estimate(draft, self.calibration), smaller

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
        return draft, cost, smaller.items.n_values / self.source.items.n_values
