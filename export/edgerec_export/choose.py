"""The choice of a bundle: layout, precision, block widths and row sizes within limits of bytes and memory.

With `fit`, tables that exceed the limits are shortened (dense, prefix) or pruned (sparse) so that scores change least.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from edgerec.budget import format_bytes
from edgerec.errors import BudgetError, RangeError, UnsupportedError
from edgerec.tables import CodedTable
from edgerec_export.allocate import Allocation, Allocator, cut, pruned, rotated
from edgerec_export.cost import Calibration, Estimate, default_calibration, estimate
from edgerec_export.draft import Draft, draft_within, too_large
from edgerec_export.follow import allocation_like, in_older_basis, is_fitted
from edgerec_export.layouts import BLOCKED, TableAllocation
from edgerec_export.magnitudes import in_range
from edgerec_export.pack import distortion
from edgerec_export.patch import PreviousBundle
from edgerec_export.request import ExportRequest
from edgerec_export.source import Source
from edgerec_export.values import BYTES

SMALL_ENOUGH = 1.25
"""Without a limit, `auto` takes the fastest layout of at most this factor times the bytes of the smallest."""
AT_ONCE_MS = 0.1
"""Milliseconds of a `recommend` below which layouts count as equally fast, and the smallest is chosen."""
DENSEST_USERS = 0.25
"""Largest share of nonzero user dimensions for which csc is compared; above it ell is faster."""
WELL_USED = 0.95
"""Smallest share of its budget that a fitted bundle should use, unless it stores the whole table."""
MOST_NARROWED = 0.1
"""Largest share of items that a bundle which follows another narrows to meet its limit."""
TURNS = 12
"""Maximum number of steps of a search for the largest bundle that fits."""
LEAST_STEP = 0.004
"""Smallest share by which a search reduces the capacity for values."""
WIDTHS_TRIED = 5
"""Number of widths that are compared for a dense bundle of two precisions."""
PROMISING = 3.0
"""Codings are fitted if their expected distortion is at most this factor of the least, and at least two are."""
FEW_ROWS = 1 << 14
"""Number of rows below which the graphs of several blocks take a share of the bytes that counts."""
FULLY_USED = 0.97
"""As `WELL_USED`, for a dense bundle of two precisions, which can vary the number of rows in the larger one."""


@dataclass(frozen=True)
class Tried:
    """A draft that was compared with others.

    Attributes:
        cost: its estimated cost.
        score_error: root mean squared error of its scores; None if it was not computed.
    """

    layout: str
    precision: str
    cost: Estimate
    score_error: float | None = None


@dataclass(frozen=True)
class Chosen:
    """The chosen draft, and the comparison that led to it.

    Attributes:
        tried: every draft that was compared, the chosen one first.
        why: the reason for the choice, as a text; '' if there was only one candidate.
        density: share of the item table's values that are stored; 1 if none was dropped.
    """

    draft: Draft
    tried: tuple[Tried, ...]
    why: str
    density: float = 1.0


@dataclass(frozen=True)
class ExportStep:
    """A step of an export, for a progress bar.

    Attributes:
        doing: text for the user.
        done, total: finished and all codings that are compared; 0 and None in steps of unknown length.
    """

    doing: str
    done: int = 0
    total: int | None = None


OnStep = Callable[[ExportStep], None]


def choose(source: Source, request: ExportRequest, progress: OnStep = lambda _: None) -> Chosen:
    """Return the draft of the bundle to write; `progress` is called before each step.

    Raises:
        UnsupportedError: an unknown layout, or settings that exclude each other.
        BudgetError: no bundle fits; the message names the smallest size, its largest parts and ways to reduce it.
        RangeError: scores leave the range of float32, or values that of every precision that is tried.
    """
    if source.scorer is not None:
        request = _for_a_scorer(request)
    if not request.users:
        if source.encoder is None:
            raise UnsupportedError(
                "this table cannot be exported without users: it has no encoder of histories; train the run again if "
                "it is an old one, or give from_arrays() an encoder"
            )
        # Without users in the bundle, items are rotated and pruned by themselves, and the encoder follows them.
        source = replace(source, users=None, user_ids=None)
    source = in_range(in_older_basis(source, request), request)
    calibration = default_calibration() if request.calibration is None else Calibration.read(Path(request.calibration))
    if request.previous is not None:
        return _followed(source, request, request.previous, calibration)
    try:
        if _is_trained_for(source, request):
            return _as_trained(source, request, calibration)
        if request.precision != "auto":
            return _best(source, request, calibration)
    except BudgetError:
        if not request.fit and request.precision != "auto":
            raise
    return _fitted(source, request, calibration, progress)


def _is_trained_for(source: Source, request: ExportRequest) -> bool:
    """Return True if the items are codes of the requested precision, or any, which a bundle can store as they are."""
    return (
        isinstance(source.items, CodedTable)
        and source.users is None
        and request.precision in ("auto", *source.items.row_codes.precisions()[0])
        and request.layout in ("auto", "mixed")
        and request.scales in ("auto", "row")
        and request.is_version_2
    )


def _as_trained(source: Source, request: ExportRequest, calibration: Calibration) -> Chosen:
    """Return the bundle of the codes of the items, in the basis in which they were trained."""
    items = cast(CodedTable, source.items)
    precisions, which = items.row_codes.precisions()
    nbytes = sum(BYTES[precision] * items.sizes()[which == number].sum() for number, precision in enumerate(precisions))
    share = TableAllocation(items.sizes(), precisions, which, 0.0, float(nbytes), exact=True)
    request = replace(request, layout="mixed", precision=precisions[0], scales="row", rotate=False)
    draft = draft_within(source, request, Allocation(share, None, whole=True))
    return Chosen(draft, (Tried("mixed", "+".join(precisions), estimate(draft, calibration)),), "")


def _best(source: Source, request: ExportRequest, calibration: Calibration) -> Chosen:
    """Return the best layout of unchanged tables."""
    drafts, refusals = [], []
    for layout in layouts(source, request):
        try:
            draft = draft_within(source, replace(request, layout=layout))
        except BudgetError as refusal:
            refusals.append(refusal)
            continue
        drafts.append((draft, estimate(draft, calibration)))
    if request.max_rss is not None and drafts:
        fitting = [(draft, cost) for draft, cost in drafts if cost.peak_bytes <= request.max_rss]
        if not fitting:
            least = min(cost.peak_bytes for _, cost in drafts)
            refusals = [
                BudgetError(
                    f"the bundle is expected to take {format_bytes(least)} of memory at its peak, and --max-rss allows "
                    f"{format_bytes(request.max_rss)}: --fit, or train with a smaller --budget"
                )
            ]
        drafts = fitting
    if request.max_ms is not None and drafts:
        fast = [(draft, cost) for draft, cost in drafts if cost.ms <= request.max_ms]
        if not fast:
            refusals = [too_slow(request.max_ms, min(cost.ms for _, cost in drafts))]
        drafts = fast
    if not drafts:
        raise min(refusals, key=_smallest)
    least = min(cost.nbytes for _, cost in drafts)
    most = SMALL_ENOUGH * least if request.max_bytes is None else request.max_bytes
    measured = all(math.isfinite(cost.ms) for _, cost in drafts)
    drafts.sort(key=lambda pair: (pair[1].nbytes > most, max(pair[1].ms, AT_ONCE_MS), pair[1].nbytes))
    bound = f"at most {SMALL_ENOUGH} times the smallest" if request.max_bytes is None else "that fit"
    why = f"the fastest of those {bound}, as expected; under {AT_ONCE_MS} ms the smallest"
    if not measured:
        why = f"the smallest of those {bound}: the calibration has no times of them"
    tried = tuple(Tried(draft.request.layout, draft.request.precision, cost) for draft, cost in drafts)
    return Chosen(drafts[0][0], tried, why if len(tried) > 1 else "")


def layouts(source: Source, request: ExportRequest) -> list[str]:
    """Return the layouts to compare: the requested one, or those for tables of this kind."""
    if request.layout != "auto":
        return [request.layout]
    if source.items.kind != "sparse":
        return ["mixed", "dense"]
    if request.precision == "int2":
        return ["dense"]
    users = source.users if request.users else None
    sparse_users = users is not None and users.n_values <= DENSEST_USERS * users.n_rows * users.d
    sparse_users = sparse_users and request.scales != "row"  # csc has no row scales
    return ["ell", *(["csc"] if sparse_users else []), "bitmask", "dense"]


def _followed(source: Source, request: ExportRequest, previous: PreviousBundle, calibration: Calibration) -> Chosen:
    """Return the bundle that follows an older one, within its limit.

    If a fitted bundle becomes too large, as few items as possible, the least popular first, get the narrowest block.

    Raises BudgetError if that is not enough.
    """

    def like(narrowed: int) -> Chosen:
        draft = draft_within(source, request, allocation_like(source, request, narrowed))
        cost = estimate(draft, calibration)
        tried = Tried(request.layout, "+".join(sorted(draft.precisions())), cost)
        return Chosen(draft, (tried,), "", min(1.0, draft.items.n_values / source.items.n_values))

    try:
        if not is_fitted(source, previous):
            return _best(source, request, calibration)
        with contextlib.suppress(BudgetError):
            return like(0)
        fewest, found = int(MOST_NARROWED * source.items.n_rows), like(int(MOST_NARROWED * source.items.n_rows))
    except BudgetError as refusal:
        size = refusal.smallest
        why = f"with the widths and precisions of {request.like} it takes {size} bytes: --max-bytes {size}, or export"
        raise BudgetError(
            too_large(request.max_bytes, f"{why} without --like to fit it again, and ship it whole"), size
        ) from None
    low = 0
    while fewest - low > max(1, fewest // 64):
        middle = (low + fewest) // 2
        try:
            found, fewest = like(middle), middle
        except BudgetError:
            low = middle
    return found


def _fitted(source: Source, request: ExportRequest, calibration: Calibration, progress: OnStep) -> Chosen:
    """Return the bundle within the limits that changes scores least, over the promising precisions and row sizes."""
    limit = request.max_bytes or request.max_rss
    if limit is None:
        raise UnsupportedError("--precision auto and --fit need a limit: give --max-bytes or --max-rss")
    request = replace(request, max_bytes=limit, fit=True)
    fitters: list[Fitter] = []
    refusals: list[BudgetError | RangeError] = []
    balanced = in_range(rotated(source), request)
    allocator = Allocator(balanced, users=request.users)
    codings = [(layout, *coding) for layout in layouts(source, request) for coding in _codings(layout, request)]
    for number, (layout, precisions, scales) in enumerate(codings):
        progress(ExportStep(f"estimating {layout} {'+'.join(precisions)}", number, len(codings)))
        one = replace(request, layout=layout, precision=precisions[0], scales=scales)
        if layout not in BLOCKED:
            fitters.append(_SparseFitter(source, calibration, one, 0.0))  # only a fit shows what is lost
            continue
        try:
            fitters.append(_BlockFitter.make(balanced, allocator, precisions, calibration, one, limit))
        except BudgetError as refusal:
            refusals.append(refusal)
    fitters.sort(key=lambda fitter: fitter.expected)
    least = min((fitter.expected for fitter in fitters if fitter.expected), default=0.0)
    promising = sum(fitter.expected <= PROMISING * least for fitter in fitters)
    found: list[Fit] = []
    least_ms = math.inf
    for number, fitter in enumerate(fitters):
        if len(found) > 1 and number >= promising:
            break
        progress(ExportStep(f"fitting {fitter.name}", number, max(promising, 2)))
        try:
            fit = _fit_within_limits(fitter)
        except (BudgetError, RangeError) as refusal:
            refusals.append(refusal)
            continue
        if request.max_ms is None or fit.cost.ms <= request.max_ms:
            found.append(fit)
        else:
            least_ms = min(least_ms, fit.cost.ms)
    if not found and least_ms < math.inf:
        raise too_slow(request.max_ms or 0.0, least_ms)
    if not found:
        raise min(refusals, key=_smallest)
    found.sort(key=lambda fit: fit.rank(limit))
    tried = tuple(
        Tried(fit.draft.request.layout, "+".join(sorted(fit.draft.precisions())), fit.cost, math.sqrt(fit.distortion))
        for fit in found
    )
    why = f"it changes scores least of those that use {WELL_USED:.0%} of the limit or are whole"
    return Chosen(found[0].draft, tried, why, found[0].density)


def _fit_within_limits(fitter: Fitter) -> Fit:
    """Return a fit within bytes and memory, with one scale a row if coarser scales round whole rows to zero."""
    try:
        draft, cost, density = within_memory(fitter)
        return Fit(draft, cost, density, distortion(draft, fitter.source))
    except RangeError as error:
        finer = fitter.request.with_finer_scales(error.side)
        if finer is None:
            raise
        return _fit_within_limits(replace(fitter, request=finer))


def _codings(layout: str, request: ExportRequest) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the codings to compare: the precisions, of which each row gets one, and the unit that has one scale."""
    if request.precision != "auto":
        yield (request.precision,), request.scales
        return
    yield from [((precision,), "auto") for precision in ("fp32", "fp16", "int8")]
    if layout != "csc":
        yield ("int4",), "row"
    if layout in BLOCKED:
        yield ("int8", "int4"), "row"
        if request.is_version_2:
            yield ("int4", "int2"), "row"


def too_slow(max_ms: float, least: float) -> BudgetError:
    """Return the refusal of a time limit, which names the shortest expected time."""
    return BudgetError(
        f"a request is expected to take {least:.3g} ms at least, and --max-ms allows {max_ms:g}: allow more, "
        "change --max-bytes or --precision, or measure your device with 'python -m edgerec_bench.calibrate'"
    )


def _smallest(refusal: BudgetError | RangeError) -> float:
    smallest = refusal.smallest if isinstance(refusal, BudgetError) else None
    return float("inf") if smallest is None else smallest


def _for_a_scorer(request: ExportRequest) -> ExportRequest:
    """Return the request for tables with a scorer. Raises UnsupportedError for settings that need inner products."""
    if request.fit or request.precision == "auto":
        raise UnsupportedError(
            "--fit and --precision auto choose by inner products, which an NCF model's scores are not; train within "
            "the --budget, and name a --precision"
        )
    if request.similar:
        raise UnsupportedError("--similar compares rows by their angle, which an NCF model's scores do not follow")
    if not request.users:
        raise UnsupportedError("an NCF model needs its user table: it has no encoder of histories")
    return replace(request, similar=False)


@dataclass(frozen=True)
class Fit:
    """A draft that fits, the share of values that it stores, and the mean squared error of its scores."""

    draft: Draft
    cost: Estimate
    density: float
    distortion: float

    def rank(self, limit: int) -> tuple[bool, float, float, int]:
        """Return a sort key, lower for better fits.

        Bundles that use their budget or store whole tables come first, then those with less distortion (to two digits),
        then faster ones, then smaller ones.
        """
        unused = self.cost.nbytes < WELL_USED * limit and self.density < 1
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


def within_memory(fitter: Fitter) -> Fitted:
    """Return a fit whose expected memory is within `max_rss` too. Raises BudgetError if there is none."""
    max_rss, limit = fitter.request.max_rss, fitter.request.max_bytes or 0
    for _ in range(TURNS):
        found = fitter.fit(limit)
        excess = 0 if max_rss is None else found[1].peak_bytes - max_rss
        if excess <= 0:
            return found
        limit -= excess
        if limit <= 0:
            break
    raise BudgetError(
        f"no bundle is expected to stay within the {format_bytes(max_rss or 0)} of memory that --max-rss "
        "allows: allow more, or train with a smaller --budget"
    )


Drafted = tuple[Draft, Estimate, Allocation]


def _other_bytes(drafted: Drafted) -> int:
    """Return the bytes besides values: graphs, ids and manifest take about the same in every bundle."""
    draft, cost, _ = drafted
    parts = draft.tables.parts()
    return cost.nbytes - sum(parts[name] for name in draft.plans())


@dataclass(frozen=True)
class _BlockFitter(Fitter):
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
    ) -> _BlockFitter:
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
            if self.width > 1 and math.isnan(best[2].distortion):  # not even the smallest precision fits
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
class _SparseFitter(Fitter):
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
