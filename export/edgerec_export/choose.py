"""Choosing a bundle: layout, precision, widths and sizes that keep to bytes and memory, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgerec.budget import format_bytes
from edgerec.errors import BudgetError, UnsupportedError
from edgerec.runtime.manifest import SECTION_NAMES
from edgerec_export.allocate import Allocation, allocate, pruned, rotated
from edgerec_export.cost import Calibration, Estimate, default_calibration, estimate
from edgerec_export.draft import Draft, Wishes
from edgerec_export.options import Options
from edgerec_export.packing import distortion, packed_in_memory
from edgerec_export.source import Source

BLOCKED = ("dense", "mixed")
SMALL_ENOUGH = 1.25
"""Without a limit, `auto` takes the fastest layout of those that are at most this much larger than the smallest."""
WELL_USED = 0.95
"""A fitted bundle uses at least this share of its budget, unless the whole table is smaller."""
FITTING_TURNS = 8
DENSEST_USERS = 0.25
"""csc is tried for users that are active in at most this share of their dimensions; for others ell is faster."""


@dataclass(frozen=True)
class Chosen:
    """A draft, and how it was come to.

    Attributes:
        source: of the draft; smaller than what was asked for where it was fitted.
        tried: layout, precision and expected cost of each draft that was compared, the chosen one first.
        kept: the share of the source's values that are left; 1 where nothing was dropped.
    """

    draft: Draft
    tried: tuple[tuple[str, str, Estimate], ...]
    kept: float = 1.0


def choose(source: Source, options: Options) -> Chosen:
    """The bundle to write.

    Raises:
        UnsupportedError: there is no such layout, or parts that do not go together.
        BudgetError: none fits; the message names the smallest size there is, what takes the space, and what would
            make it smaller.
    """
    if not options.users and source.encoder is None:
        raise UnsupportedError(
            "this table cannot ship without users: no history weights make a user's vector; the svd backbone has them"
        )
    calibration = default_calibration() if options.calibration is None else Calibration.read(options.calibration)
    if options.precision != "auto":
        try:
            return _best(source, options, calibration)
        except BudgetError:
            if not options.fit or options.max_bytes is None:
                raise
    return _fitted(source, options, calibration)


def _best(source: Source, options: Options, calibration: Calibration) -> Chosen:
    """The best layout for tables as they are."""
    drafts, refusals = [], []
    for layout in layouts(source, options):
        try:
            draft = draft_within(source, replace(options, layout=layout))
        except BudgetError as refusal:
            refusals.append(refusal)
            continue
        drafts.append((draft, estimate(draft, calibration)))
    if options.max_rss is not None and drafts:
        fitting = [(draft, cost) for draft, cost in drafts if cost.peak_bytes <= options.max_rss]
        if not fitting:
            least = min(cost.peak_bytes for _, cost in drafts)
            refusals = [
                BudgetError(
                    f"the bundle is expected to take {format_bytes(least)} of memory at its peak, of {options.max_rss} "
                    "bytes are allowed: train with a smaller --budget, or export with --precision int8"
                )
            ]
        drafts = fitting
    if not drafts:
        raise min(refusals, key=_smallest_named)
    if options.max_bytes is None:
        least = min(cost.nbytes for _, cost in drafts)
        drafts.sort(key=lambda pair: (pair[1].nbytes > SMALL_ENOUGH * least, pair[1].ms))
    else:
        drafts.sort(key=lambda pair: pair[1].ms)
    return Chosen(drafts[0][0], tuple((draft.options.layout, draft.options.precision, cost) for draft, cost in drafts))


def layouts(source: Source, options: Options) -> list[str]:
    """The layouts to compare: the one asked for, or those made for tables of this kind."""
    if options.layout != "auto":
        return [options.layout]
    if source.items.kind != "sparse":
        return ["mixed", "dense"]
    users = source.users if options.users else None
    sparse_users = users is not None and users.n_values <= DENSEST_USERS * users.n_rows * users.d
    return ["ell", *(["csc"] if sparse_users else []), "bitmask", "dense"]


def draft_within(source: Source, options: Options, allocation: Allocation | None = None) -> Draft:
    """The fastest draft of a layout that keeps to `options.max_bytes`.

    Raises BudgetError where there is none.
    """
    if options.similar is None:
        with_similar = replace(options, similar=True)
        if options.max_bytes is None:
            return draft_within(source, with_similar, allocation)
        try:
            return draft_within(source, with_similar, allocation)
        except BudgetError:
            return draft_within(source, replace(options, similar=False), allocation)
    wishes = Wishes.of(source, options, allocation)
    user_choices = wishes.user_choices()
    limit = options.max_bytes
    drafts = []
    for choice in wishes.items_layout.choices(wishes.items):
        draft = Draft(source, options, wishes, choice, user_choices[0])
        if limit is None or draft.nbytes() <= limit:
            return draft
        drafts.append(draft)
    smallest = min(drafts, key=Draft.nbytes)
    # Items and users add up, so the smallest of each is the smallest of both.
    others = [Draft(source, options, wishes, smallest.choice, choice) for choice in user_choices]
    smallest = min(others, key=Draft.nbytes)
    if limit is not None and smallest.nbytes() <= limit:
        return smallest
    raise BudgetError(_refusal(smallest, options))


@dataclass(frozen=True)
class _Fit:
    """A draft that fits, how much of the source it keeps, and what it does to scores."""

    draft: Draft
    cost: Estimate
    kept: float
    distortion: float

    def rank(self, limit: int) -> tuple[bool, float]:
        """Lower is better: bundles that use their budget, or are whole; of them those that change scores least."""
        return self.cost.nbytes < WELL_USED * limit and self.kept < 1, self.distortion


def _fitted(source: Source, options: Options, calibration: Calibration) -> Chosen:
    """The bundle within `max_bytes` that changes scores least, of all that precisions and sizes allow."""
    limit = options.max_bytes
    if limit is None:
        raise UnsupportedError("--precision auto and --fit need a limit to keep to: give --max-bytes")
    found, refusals = [], []
    turned = rotated(source)
    for layout in layouts(source, options):
        for precisions, scales in _codings(layout, options):
            one = replace(options, layout=layout, precision=precisions[0], scales=scales)
            try:
                if layout in BLOCKED:
                    found.append(_fit_blocks(turned, one, precisions, limit, calibration))
                else:
                    found.append(_fit_sparse(source, one, limit, calibration))
            except BudgetError as refusal:
                refusals.append(refusal)
    if not found:
        raise min(refusals, key=_smallest_named)
    found.sort(key=lambda fit: fit.rank(limit))
    tried = tuple((fit.draft.options.layout, "+".join(sorted(fit.draft.precisions())), fit.cost) for fit in found)
    return Chosen(found[0].draft, tried, found[0].kept)


def _codings(layout: str, options: Options) -> Iterator[tuple[tuple[str, ...], str]]:
    """The sets of precisions to compare, of which every row takes one, and what has a scale."""
    if options.precision != "auto":
        yield (options.precision,), options.scales
        return
    yield from [(("fp32",), "block"), (("fp16",), "block"), (("int8",), "block")]
    if layout != "csc":
        yield ("int4",), "row"
    if layout in BLOCKED:
        yield ("int8", "int4"), "row"


def _fit_blocks(
    source: Source, options: Options, precisions: tuple[str, ...], limit: int, calibration: Calibration
) -> _Fit:
    """Shorten rows, and choose their bits, until the bundle fits closely."""
    room, low, high = float(limit), 0.0, float(limit)
    best: tuple[Draft, Estimate, Allocation] | None = None
    failure = BudgetError(f"nothing fits {limit} bytes")
    for _ in range(FITTING_TURNS):
        allocation = allocate(source, precisions, room, users=options.users)
        try:
            draft = draft_within(source, options, allocation)
        except BudgetError as refusal:
            failure, high = refusal, room
            over = 1.02 * (_smallest_named(refusal) - limit)
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
    kept = min(1.0, draft.items.n_values / source.items.n_values)
    return _Fit(draft, cost, kept, distortion(packed_in_memory(draft), source))


def _fit_sparse(source: Source, options: Options, limit: int, calibration: Calibration) -> _Fit:
    """Prune values until the bundle fits closely."""
    whole = source.items.n_values + (source.users.n_values if source.users is not None and options.users else 0)
    low, high, n_values = 0.0, float(whole), float(whole)
    best: tuple[Draft, Estimate, Source] | None = None
    failure = BudgetError(f"nothing fits {limit} bytes")
    for _ in range(2 * FITTING_TURNS):
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
    return _Fit(draft, cost, kept, distortion(packed_in_memory(draft), source))


def _smallest_named(refusal: BudgetError) -> int:
    """The smallest size that a refusal names."""
    return int(str(refusal).partition(" allows is ")[2].split()[0] or 0) if " allows is " in str(refusal) else 1 << 62


def _refusal(draft: Draft, options: Options) -> str:
    total = draft.nbytes()
    parts = draft.tables.parts()
    parts["graphs, manifest and card"] = total - draft.tables.nbytes
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    takes = ", ".join(
        f"{SECTION_NAMES.get(name, name.replace('_', ' '))} {format_bytes(size)}" for name, size in largest
    )
    advice = ["--fit", "train with a smaller --budget"]
    if options.precision in ("fp32", "fp16"):
        advice.insert(0, "--precision int8")
    if "item_titles" in parts:
        advice.insert(0, "leave --titles out")
    return (
        f"the bundle does not fit {options.max_bytes} bytes; the smallest that --layout {options.layout} "
        f"--precision {options.precision} allows is {total} bytes ({takes}): " + ", or ".join(advice)
    )
