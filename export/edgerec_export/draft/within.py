"""The fastest draft within a number of bytes, or a refusal that names the smallest and what makes it smaller."""

from __future__ import annotations

from dataclasses import replace

from edgerec.budget import BITS_PER_VALUE, format_bytes
from edgerec.errors import BudgetError
from edgerec.models.encoder import LeastSquaresEncoder
from edgerec.runtime.manifest import section_name
from edgerec_export.allocate import Allocation
from edgerec_export.draft.draft import Draft
from edgerec_export.draft.requests import BundleRequest
from edgerec_export.request import ExportRequest
from edgerec_export.source import Source

REST = "graphs, manifest and card"
DEFLATED = 0.6
"""Share of the graphs, manifest and card that one file saves, at least."""
HASH_BYTES = 8
"""Bytes of a hashed id, at most."""


def draft_within(source: Source, request: ExportRequest, allocation: Allocation | None = None) -> Draft:
    """Return the fastest draft of a layout within `request.max_bytes`. Raises BudgetError if there is none."""
    if request.similar is None:
        # A limit that is too small without the graph of similar items is so with it.
        without = (
            None if request.max_bytes is None else draft_within(source, replace(request, similar=False), allocation)
        )
        try:
            return draft_within(source, replace(request, similar=True), allocation)
        except BudgetError:
            if without is None:
                raise
            return without
    bundle_request = BundleRequest.of(source, request, allocation)
    user_variants = bundle_request.user_variants()
    limit = request.max_bytes
    drafts = []
    for variant in bundle_request.items_layout.variants(bundle_request.items):
        draft = Draft(source, request, bundle_request, variant, user_variants[0])
        if limit is None or (draft.tables.nbytes <= limit and draft.nbytes() <= limit):
            return draft
        drafts.append(draft)
    smallest = _smallest(drafts)
    # The sizes of items and users add up, so the smallest variants of each make the smallest bundle.
    others = [Draft(source, request, bundle_request, smallest.variant, variant) for variant in user_variants[1:]]
    smallest = _smallest([smallest, *others])
    if limit is not None and smallest.nbytes() <= limit:
        return smallest
    raise BudgetError(_refusal(smallest, request), smallest.nbytes())


def _smallest(drafts: list[Draft]) -> Draft:
    """Return the draft of the fewest bytes, without the graphs of those whose tables alone take more."""
    first, *others = sorted(drafts, key=lambda draft: draft.tables.nbytes)
    for draft in others:
        if draft.tables.nbytes < first.nbytes() and draft.nbytes() < first.nbytes():
            first = draft
    return first


def _refusal(draft: Draft, request: ExportRequest) -> str:
    total = draft.nbytes()
    parts = draft.tables.parts()
    parts[REST] = total - draft.tables.nbytes
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    takes = ", ".join(f"{section_name(name)} {format_bytes(size)}" for name, size in largest)
    fitted = ", with one value a row," if request.fit else ""
    cures = " or ".join(_cures(draft, parts, total - (request.max_bytes or 0)))
    return too_large(
        request.max_bytes,
        f"the smallest that layout {request.layout} in {request.precision} allows{fitted} is {total} bytes ({takes}): "
        f"{cures}",
    )


def _cures(draft: Draft, parts: dict[str, int], excess: int) -> list[str]:
    """Return the settings that save at least `excess` bytes, those that cost least quality first.

    If none is enough alone, it is the shortest list of settings, those that save most first, that are together.
    """
    request, source = draft.request, draft.source
    values = sum(parts[name] for name in draft.plans())
    saved: dict[str, float] = {
        "leave --titles out": _of(parts, "item_title"),
        "leave --attributes out": _of(parts, "attribute_"),
    }
    if request.is_version_2 and not request.one_file:
        saved["--out NAME.edgerec"] = DEFLATED * parts[REST]
    if "str" in draft.id_kinds.values():
        stored = sum(HASH_BYTES * plan.n_rows for name, plan in draft.plans().items() if name != "l")
        if request.is_version_2:
            saved["--ids hash64"] = _of(parts, "item_id", "user_id") - stored
    if draft.users is not None and source.encoder is not None:
        saved["--no-users"] = sum(parts[name] for name in parts if name in ("u", "us", "uf")) + _of(parts, "user_id")
        if isinstance(source.encoder, LeastSquaresEncoder):
            saved["--no-users"] -= 4 * source.items.d**2
    if request.precision in ("fp32", "fp16"):
        saved["--precision int8"] = values * (1 - 8 / BITS_PER_VALUE[request.precision])
    smallest = draft.items.n_rows + (0 if draft.users is None else draft.users.n_rows)
    if not request.fit and source.scorer is None:
        saved["--fit"] = values * (1 - smallest / max(sum(plan.n_values for plan in draft.plans().values()), 1))
    saved = {name: size for name, size in saved.items() if size > 0}
    if enough := [name for name, size in saved.items() if size >= excess]:
        return enough
    needed: list[str] = []
    for name in sorted(saved, key=lambda one: -saved[one]):
        needed.append(name)
        excess -= int(saved[name])
        if excess <= 0:
            return [" and ".join(needed)]
    return [" and ".join([*needed, "train on fewer items or with a smaller --budget"])]


def _of(parts: dict[str, int], *stems: str) -> int:
    return sum(size for name, size in parts.items() if name.startswith(stems))


def too_large(limit: int | None, why: str) -> str:
    """Return the message of a refused size limit; `why` names the smallest size."""
    return f"the bundle does not fit {limit} bytes; {why}"
