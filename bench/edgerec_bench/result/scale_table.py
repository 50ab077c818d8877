"""Tables, notes and warnings of the comparison at scale, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edgerec.budget import format_bytes
from edgerec_bench.result.figures import CONTESTED, UNSTEADY
from edgerec_bench.result.scale import Contender, ScaleResult
from edgerec_bench.result.side_by_side import milliseconds

_CELLS: dict[str, Callable[[ScaleResult, Contender], str]] = {
    "": lambda result, one: one.name,
    "p50 ms": lambda result, one: f"{one.measured.latency():.2f}",
    "ms a call": lambda result, one: milliseconds(one.measured.latency()),
    "times faster": lambda result, one: short_ratio(result.faster(one)),
    "by round": lambda result, one: f"{short_ratio(min(result.ratios(one)))} to {short_ratio(max(result.ratios(one)))}",
    "score 1": lambda result, one: short_ms(one.score_ms(1)),
    "score 50": lambda result, one: short_ms(one.score_ms(50)),
    "score 1000": lambda result, one: short_ms(one.score_ms(1000)),
    "load ms": lambda result, one: _once(one.measured.load_ms),
    "verify ms": lambda result, one: _once(one.measured.verify_ms),
    "bytes": lambda result, one: format_bytes(one.nbytes),
    "of dense": lambda result, one: f"{result.share(one):.1%}",
    "peak memory": lambda result, one: _bytes(one.peak),
    "a graph more": lambda result, one: _bytes(one.a_graph),
    "same top 20": lambda result, one: f"{one.same_top:.1%}",
    "built with": lambda result, one: ", ".join(
        str(value) if name in ("version", "tool") else f"{name} {value}" for name, value in one.built_with.items()
    ),
}
COLUMNS = tuple(name for name in _CELLS if name != "ms a call")
"""All columns with milliseconds to two decimals."""
SPEED = ("", "p50 ms", "times faster", "by round", "bytes", "of dense", "peak memory", "same top 20")
MORE = ("", "score 1", "score 50", "score 1000", "load ms", "verify ms", "a graph more", "built with")
"""The columns in two tables, for the report page and a terminal."""

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


def short_ms(value: float | None) -> str:
    """Format milliseconds, with three decimals below one; None as nothing."""
    return "" if value is None else f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _once(ms: float | None) -> str:
    return "" if ms is None else f"{ms:.1f}"


def short_ratio(ratio: float) -> str:
    """Format a ratio with one decimal, or two digits if it is small."""
    return f"{ratio:.1f}" if ratio >= 0.95 else f"{ratio:.2g}"


def _bytes(count: float | None) -> str:
    return "" if count is None else format_bytes(count)


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
            reasons.append(f"rounds range from {short_ratio(min(ratios))} to {short_ratio(max(ratios))} times faster")
        if reasons:
            warnings.append(f"{one.name}: {', '.join(reasons)}; {again}")
    return warnings


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
