"""The choice of a bundle: layout, precision, block widths and row sizes within limits of bytes and memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from edgerec.budget import format_bytes
from edgerec.errors import BudgetError, RangeError, UnsupportedError
from edgerec.tables import CodedTable
from edgerec_export.allocate import Allocation, Allocator, rotated
from edgerec_export.cost import Calibration, Estimate, default_calibration, estimate
from edgerec_export.draft import Draft, draft_within, too_large
from edgerec_export.fitters import WELL_USED, BlockFitter, Fit, Fitter, SparseFitter, TooSlowError, fit_within_limits
from edgerec_export.follow import allocation_like, in_older_basis, is_fitted
from edgerec_export.layouts import BLOCKED, TableAllocation
from edgerec_export.magnitudes import in_range
from edgerec_export.patch import PreviousBundle
from edgerec_export.request import ExportRequest
from edgerec_export.source import Source
from edgerec_export.thin import is_thin
from edgerec_export.values import BYTES, PER_BYTE

SMALL_ENOUGH = 1.25
"""Without a limit, `auto` takes the fastest layout of at most this factor times the bytes of the smallest."""
AT_ONCE_MS = 0.1
"""Milliseconds of a `recommend` below which layouts count as equally fast, and the smallest is chosen."""
DENSEST_USERS = 0.25
"""Largest share of nonzero user dimensions for which csc is compared; above it ell is faster."""
MOST_NARROWED = 0.1
"""Largest share of items that a bundle which follows another narrows to meet its limit."""
MOST_COLUMNS = 1 << 16
"""Columns of a thin table that can be stored."""
PROMISING = 3.0
"""Codings are fitted if their expected distortion is at most this factor of the least, and at least two are."""


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
    _check_thin(source, request)
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
            refusals = [TooSlowError(request.max_ms, min(cost.ms for _, cost in drafts))]
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
    if is_thin(source.items) and source.users is None:
        return ["ell"]
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
    to_compare = layouts(source, request)
    codings = [(layout, *coding) for layout in to_compare for coding in _codings(layout, request)]
    if is_thin(source.items) and source.users is None:
        codings = [coding for coding in codings if not set(coding[1]) & set(PER_BYTE)]
    balanced, allocator = source, None
    if any(layout in BLOCKED for layout in to_compare):
        balanced = in_range(rotated(source), request)
        allocator = Allocator(balanced, users=request.users)
    for number, (layout, precisions, scales) in enumerate(codings):
        progress(ExportStep(f"estimating {layout} {'+'.join(precisions)}", number, len(codings)))
        one = replace(request, layout=layout, precision=precisions[0], scales=scales)
        if allocator is None or layout not in BLOCKED:
            fitters.append(SparseFitter(source, calibration, one, 0.0))  # only a fit shows what is lost
            continue
        try:
            fitters.append(BlockFitter.make(balanced, allocator, precisions, calibration, one, limit))
        except BudgetError as refusal:
            refusals.append(refusal)
    fitters.sort(key=lambda fitter: fitter.expected)
    least = min((fitter.expected for fitter in fitters if fitter.expected), default=0.0)
    promising = sum(fitter.expected <= PROMISING * least for fitter in fitters)
    found: list[Fit] = []
    for number, fitter in enumerate(fitters):
        if len(found) > 1 and number >= promising:
            break
        progress(ExportStep(f"fitting {fitter.name}", number, max(promising, 2)))
        try:
            found.append(fit_within_limits(fitter))
        except (BudgetError, RangeError) as refusal:
            refusals.append(refusal)
    if not found:
        slow = [refusal for refusal in refusals if isinstance(refusal, TooSlowError)]
        raise min(slow, key=lambda refusal: refusal.ms) if slow else min(refusals, key=_smallest)
    found.sort(key=lambda fit: fit.rank(limit if request.max_ms is None else None))
    tried = tuple(
        Tried(fit.draft.request.layout, "+".join(sorted(fit.draft.precisions())), fit.cost, math.sqrt(fit.distortion))
        for fit in found
    )
    used = f"use {WELL_USED:.0%} of the limit or are whole" if request.max_ms is None else "are fast enough"
    why = f"it changes scores least of those that {used}"
    return Chosen(found[0].draft, tried, why, found[0].density)


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


def _check_thin(source: Source, request: ExportRequest) -> None:
    """Raise UnsupportedError for a thin table and a layout or a precision of dense rows, or too many columns."""
    if source.users is not None or not is_thin(source.items):
        return
    # In 4 bits an item's own value leaves nothing of those of its neighbours.
    for other in {request.layout} - {"auto", "ell"} | {request.precision} & set(PER_BYTE):
        raise UnsupportedError(
            f"rows of few values in {source.items.d} columns are stored in the layout ell and in int8, fp16 or fp32, "
            f"not in {other}; leave it out"
        )
    if source.items.d > MOST_COLUMNS:
        raise UnsupportedError(
            f"the layout ell stores a column in two bytes, for at most {MOST_COLUMNS} items, got {source.items.d}"
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
