"""The output of `edgerec export` for a finished export: for people, or as JSON."""

from __future__ import annotations

import math
from typing import Any

from edgerec.budget import format_bytes
from edgerec.cli.output import print_json, say
from edgerec.cli.quality import encoder_text, truncation_text
from edgerec.console import print_table
from edgerec.runtime.manifest import section_name


def show_export(
    done: Any,
    truncated: dict[str, Any] | None,
    cost: dict[str, Any] | None,
    users: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Print an export: its parts in bytes, the choice, and what was truncated, measured and verified.

    Args:
        truncated: how much of the tables a limit left, as `truncation_text` takes it; None for whole tables.
        cost: the metric of the run and of the bundle; None if it was not measured.
        users: figures of the encoder that replaces the user table; None with a user table.
    """
    if as_json:
        print_json(_record(done, truncated, cost, users))
        return
    rows = [[section_name(name), f"{size:,}"] for name, size in done.parts.items()]
    alignment = f"{done.nbytes - sum(done.parts.values()):,}"
    total = f"{done.nbytes:,} ({format_bytes(done.nbytes)})"
    print_table(str(done.folder), ["part", "bytes"], [*rows, ["alignment", alignment], ["total", total]])
    _show_choice(done.chosen)
    if done.similar_left_out:
        say("similar items: left out to meet the limit; --similar keeps their graph and two bytes an item")
    if done.obstacle:
        say(f"small patches cannot follow: {done.obstacle}")
    else:
        say(f"small patches can follow: export the next version with --like {done.folder}")
    if truncated is not None:
        say(f"truncated after training: {truncation_text(truncated)}")
    if users is not None:
        say(f"users from histories: {encoder_text(users)}")
    if cost is not None:
        change = f" ({cost['bundle'] / cost['run'] - 1:+.2%})" if cost["run"] else ""
        say(f"{cost['metric']} on the {cost['part']} part: {cost['run']:.4f} -> {cost['bundle']:.4f}{change}")
    if done.peak_bytes is not None:
        say(f"peak memory of a request above a bare session: {format_bytes(done.peak_bytes)}")
    for side, count in done.rounded_to_zero.items():
        rows_are = "row is" if count == 1 else "rows are"
        reason = "all their values are below one quantization step"
        say(f"{count} {side} {rows_are} stored as zeros: {reason}; avoid it with --scales row or --precision fp32")
    if (checked := done.verification) is not None:
        say(f"verified in a fresh process: scores within {checked.max_error:.1e} of numpy")


def _record(
    done: Any, truncated: dict[str, Any] | None, cost: dict[str, Any] | None, users: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the same for --json."""
    return {
        "bundle": str(done.folder),
        "bytes": done.nbytes,
        "parts": done.parts,
        "tried": [
            {
                "layout": one.layout,
                "precision": one.precision,
                **vars(one.cost),
                "ms": _measured(one.cost.ms),
                "score_error": one.score_error,
            }
            for one in done.chosen.tried
        ],
        "why": done.chosen.why,
        "density": done.chosen.density,
        "peak_bytes": done.peak_bytes,
        "rounded_to_zero": done.rounded_to_zero,
        "similar_left_out": done.similar_left_out,
        "small_patches": {"can_follow": not done.obstacle, "obstacle": done.obstacle or None},
        "cost": cost,
        "truncation": truncated,
        "users from histories": users,
        "verification": None if done.verification is None else vars(done.verification),
    }


def _show_choice(chosen: Any) -> None:
    """Print the layouts and precisions that were compared, the chosen one first, and how much of the table is left."""
    if len(chosen.tried) > 1:
        rows = [
            [
                one.layout,
                one.precision,
                f"{one.cost.nbytes:,}",
                "" if _measured(one.cost.ms) is None else f"{_measured(one.cost.ms):g}",
                format_bytes(one.cost.peak_bytes),
                "" if one.score_error is None else f"{one.score_error:.2g}",
            ]
            for one in chosen.tried
        ]
        columns = ["layout", "precision", "bytes", "expected ms", "peak memory", "score error"]
        print_table("compared, the chosen one first", columns, rows)
        say(f"{chosen.tried[0].layout} {chosen.tried[0].precision}: {chosen.why}")
    if chosen.density < 1:
        say(f"fitted: {chosen.density:.1%} of the item table's values are left")


def _measured(ms: float) -> float | None:
    """Return milliseconds to three digits; None if the calibration has no figure for a layout."""
    return float(f"{ms:.3g}") if math.isfinite(ms) else None
