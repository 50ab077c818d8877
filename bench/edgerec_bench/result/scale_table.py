"""Tables, notes and warnings of the comparison at scale, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from edgerec.budget import format_bytes
from edgerec_bench.result.figures import CONTESTED, UNSTEADY
from edgerec_bench.result.scale import PROMISES, Contender, ScaleResult
from edgerec_bench.result.side_by_side import milliseconds

_CELLS: dict[str, Callable[[ScaleResult, Contender], str]] = {
    "": lambda result, one: one.name,
    "p50 ms": lambda result, one: f"{one.measured.latency():.2f}",
    "ms a call": lambda result, one: milliseconds(one.measured.latency()),
    "times faster": lambda result, one: _times(result.faster(one)),
    "by round": lambda result, one: f"{_times(min(result.ratios(one)))} to {_times(max(result.ratios(one)))}",
    "score 1": lambda result, one: _ms(one.score_ms(1)),
    "score 50": lambda result, one: _ms(one.score_ms(50)),
    "score 1000": lambda result, one: _ms(one.score_ms(1000)),
    "load ms": lambda result, one: _once(one.measured.load_ms),
    "verify ms": lambda result, one: _once(one.measured.verify_ms),
    "bytes": lambda result, one: format_bytes(one.nbytes),
    "of dense": lambda result, one: f"{result.share(one):.1%}",
    "peak memory": lambda result, one: _bytes(one.peak),
    "bound": lambda result, one: _bytes(_bound(result, one)),
    "a graph more": lambda result, one: _bytes(one.a_graph),
    "same top 20": lambda result, one: f"{one.same_top:.1%}",
    "built with": lambda result, one: ", ".join(
        str(value) if name in ("version", "tool") else f"{name} {value}" for name, value in one.built_with.items()
    ),
}
COLUMNS = tuple(name for name in _CELLS if name != "ms a call")
"""The columns of the report page, with milliseconds to two decimals."""
SPEED = ("", "p50 ms", "times faster", "by round", "bytes", "of dense", "peak memory", "bound", "same top 20")
MORE = ("", "score 1", "score 50", "score 1000", "load ms", "verify ms", "a graph more", "built with")
"""The columns in two tables, for a terminal."""
SHORT = ("", "p50 ms", "times faster", "score 1000", "bytes", "of dense", "peak memory", "same top 20")
"""The columns of the README's table."""
PEERS = ("", "ms a call", "times faster", "load ms", "bytes", "peak memory", "same top 20", "built with")
"""The columns of the table of other libraries."""

NOTES = (
    "Milliseconds are medians over fresh processes. Times faster is the ratio of the first row's p50 to the "
    "contender's in the same round, the median over the rounds; the range over the rounds follows.",
    "Of dense: bytes, without raw ids and the norms of the 'similar' graph, as a share of both tables in fp32. "
    "Bundles and plain models contain the users, other libraries do not.",
    "Peak memory is VmHWM above a bare onnxruntime session with one graph open; for other libraries above a process "
    "that imported them. A graph more: the largest growth of proportional memory (Pss) from recommend to score to "
    "similar, each opened and called in one process.",
    "Bundles take k and exclude (20 random items per call) as inputs; plain models and other libraries exclude "
    "nothing, which favours them. Files are in the page cache.",
    "Score: milliseconds per call by number of candidates. csc is measured with 10 %-dense user vectors, ell with "
    "dense ones. Quantised and approximate contenders report the share of their answers that is among numpy's best 20.",
)


def heading(result: ScaleResult) -> str:
    """Describe the measurement in one line."""
    settings = result.settings
    densities = ", ".join(f"{share:.1%} of the values ({name})" for name, share in result.densities.items())
    return (
        f"{result.items:,} items x {result.dimensions}, {densities}, "
        f"{settings['threads']} thread, {settings['rounds']} fresh processes each"
    )


def scale_rows(result: ScaleResult, columns: Sequence[str] = COLUMNS) -> list[list[str]]:
    """Return a table row for each contender; contenders that were left out have only the reason."""
    rows = [[_CELLS[column](result, one) for column in columns] for one in result.contenders]
    return rows + [[name, reason, *[""] * (len(columns) - 2)] for name, reason in result.left_out]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _once(ms: float | None) -> str:
    return "" if ms is None else f"{ms:.1f}"


def _tenth(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 0.95 else f"{ratio:.2g}"


def _bytes(count: float | None) -> str:
    return "" if count is None else format_bytes(count)


def _bound(result: ScaleResult, one: Contender) -> int | None:
    promise = PROMISES.get(one.name)
    return promise.peak(one, result.items) if promise else None


def scale_warnings(result: ScaleResult) -> list[str]:
    """Return a sentence for each reason to distrust the figures, with the command to run next."""
    again = f"measure again with --rounds {max(10, 2 * int(result.settings['rounds']))}"
    warnings = []
    taken = 1 - min(one.measured.latency("recommend", "cpu_share") for one in result.contenders)
    if taken > 1 - CONTESTED:
        warnings.append(f"other programs took up to {taken:.0%} of the processor; close them and {again}")
    for one in result.contenders:
        ratios = result.ratios(one)
        reasons = [f"fresh processes differ by {one.measured.spread():.0%}"] if one.measured.spread() > UNSTEADY else []
        if max(ratios) - min(ratios) > UNSTEADY * result.faster(one):
            reasons.append(f"rounds range from {_times(min(ratios))} to {_times(max(ratios))} times faster")
        if reasons:
            warnings.append(f"{one.name}: {', '.join(reasons)}; {again}")
    return warnings


def growth_columns(results: Sequence[ScaleResult]) -> list[str]:
    """Return the column headings, one for each number of items."""
    return ["", *(f"{result.items:,} items" for result in results)]


def growth_rows(results: Sequence[ScaleResult]) -> list[list[str]]:
    """Return a row for each contender: milliseconds and speed relative to that size's baseline; '-' if left out."""
    names = dict.fromkeys(one.name for result in results for one in result.contenders)
    return [[name, *(_growth_cell(result, name) for result in results)] for name in names]


def _growth_cell(result: ScaleResult, name: str) -> str:
    for one in result.contenders:
        if one.name == name:
            return f"{_ms(one.measured.latency())} ({_times(result.faster(one))})"
    return "-"


def profile_rows(profile: dict[str, Any]) -> list[list[str]]:
    """Return a row for each operator: milliseconds and runs per call, and its share of the time of all operators."""
    whole = sum(spent["ms"] for spent in profile["operators"].values())
    return [
        [name, f"{spent['ms']:.3f}", f"{spent['count']:g}", f"{spent['ms'] / whole:.1%}"]
        for name, spent in profile["operators"].items()
    ]


PROFILE_COLUMNS = ("operator", "ms a call", "runs a call", "share")


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
