"""The fastest draft of a layout that keeps to a limit in bytes, or what the smallest would take."""

from __future__ import annotations

from dataclasses import replace

from edgerec.budget import format_bytes
from edgerec.errors import BudgetError
from edgerec.runtime.manifest import section_name
from edgerec_export.allocate import Allocation
from edgerec_export.draft import Draft, Wishes
from edgerec_export.options import Options
from edgerec_export.source import Source


def draft_within(source: Source, options: Options, allocation: Allocation | None = None) -> Draft:
    """The fastest draft of a layout that keeps to `options.max_bytes`.

    Raises BudgetError where there is none.
    """
    if options.similar is None:
        try:
            return draft_within(source, replace(options, similar=True), allocation)
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
    raise BudgetError(_refusal(smallest, options), smallest.nbytes())


def _refusal(draft: Draft, options: Options) -> str:
    total = draft.nbytes()
    parts = draft.tables.parts()
    parts["graphs, manifest and card"] = total - draft.tables.nbytes
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    takes = ", ".join(f"{section_name(name)} {format_bytes(size)}" for name, size in largest)
    advice = ["train with a smaller --budget"]
    if not options.fit:
        advice = [*(["--precision int8"] if options.precision in ("fp32", "fp16") else []), "--fit", *advice]
    if "item_titles" in parts:
        advice.insert(0, "leave --titles out")
    fitted = ", with one value a row," if options.fit else ""
    return (
        f"the bundle does not fit {options.max_bytes} bytes; the smallest that layout {options.layout} in "
        f"{options.precision} allows{fitted} is {total} bytes ({takes}): {', or '.join(advice)}"
    )
