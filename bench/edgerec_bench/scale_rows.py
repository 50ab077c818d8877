"""The comparison at scale as text: rows of a table, and whether each target was met."""

from __future__ import annotations

from edgerec.budget import format_bytes
from edgerec_bench.scale_result import FASTER, LOAD_MS, Contender, ScaleResult

COLUMNS = (
    "",
    "p50 ms",
    "times faster",
    "load ms",
    "verify ms",
    "bytes",
    "of dense",
    "peak memory",
    "bound",
    "same top 20",
)

NOTES = (
    "Medians over processes. Peak memory is VmHWM above a bare onnxruntime session; the bound is the bundle, "
    "10 bytes an item and 4 MB.",
    "Bundles exclude 20 random items a call in the graph, plain dense excludes nothing. Files are in the page cache.",
)


def heading(result: ScaleResult) -> str:
    """One line: what was measured."""
    settings = result.settings
    return (
        f"{result.items:,} items x {result.dimensions}, {result.kept:.1%} of the values kept, "
        f"{settings['threads']} thread, {settings['rounds']} fresh processes each"
    )


def scale_rows(result: ScaleResult) -> list[list[str]]:
    """One row a contender, under COLUMNS."""
    return [_row(result, contender) for contender in result.contenders]


def _row(result: ScaleResult, one: Contender) -> list[str]:
    verify, peak = one.measured.verify_ms, one.peak
    return [
        one.name,
        f"{one.measured.latency():.2f}",
        f"{result.faster(one):.1f}",
        f"{one.measured.load_ms:.1f}",
        "" if verify is None else f"{verify:.1f}",
        format_bytes(one.nbytes),
        f"{one.nbytes / result.dense_nbytes:.1%}",
        "" if peak is None else format_bytes(peak),
        format_bytes(one.bound(result.items)) if one.ours else "",
        f"{one.same_top:.1%}",
    ]


def targets(result: ScaleResult) -> list[tuple[str, bool]]:
    """What was promised for the mixed bundles of a million items, and whether these figures keep it."""
    checks: list[tuple[str, bool]] = []
    for one in result.contenders:
        if not one.name.startswith("EdgeRec mixed"):
            continue
        if "fp32" in one.name:
            times = result.faster(one)
            checks.append((f"{one.name}: {times:.1f} times faster, target {FASTER:g}", times >= FASTER))
        if one.peak is not None:
            bound = one.bound(result.items)
            shown = f"peak memory {format_bytes(one.peak)}, bound {format_bytes(bound)}"
            checks.append((f"{one.name}: {shown}", one.peak <= bound))
        load = one.measured.load_ms
        checks.append((f"{one.name}: load {load:.1f} ms, target {LOAD_MS:g}", load < LOAD_MS))
    return checks


def scale_warnings(result: ScaleResult) -> list[str]:
    """Contenders whose processes disagree, and what to run next."""
    more = max(10, 2 * int(result.settings["rounds"]))
    return [
        f"{one.name}: fresh processes differ by more than 10 % ({', '.join(one.measured.unsteady())}); "
        f"close other programs and measure again with --rounds {more}"
        for one in result.contenders
        if one.measured.unsteady()
    ]
