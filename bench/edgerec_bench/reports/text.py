"""Results and comparisons as Markdown, for people who write pages, and as CSV, for other programs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from itertools import groupby
from typing import Any

from edgerec.errors import BenchError
from edgerec_bench.comparison import Change, Comparison
from edgerec_bench.result import AnyResult, Result, differences, lines, shown, with_unique_names
from edgerec_bench.result import markdown as markdown_table

COMPARED = ("figure", "unit", "base", "new", "ratio", "low", "high", "verdict")
FORMATS = ("markdown", "csv")


def report_text(results: Sequence[AnyResult], form: str) -> str:
    """Every figure of the results side by side.

    Args:
        form: of `FORMATS`. Markdown has the texts of the page, with ratios and warnings; CSV has plain numbers: bytes,
            and milliseconds or millions of instructions as the heading of their lines says.

    Raises:
        BenchError: no result, or one of the comparison at scale, which has a table of its own.
    """
    taken = with_unique_names([result for result in results if isinstance(result, Result)])
    if len(taken) < len(results) or not taken:
        raise BenchError("only results of 'edgerec bench' have this form; show others on the page, with --format html")
    return {"markdown": _markdown_report, "csv": _csv_report}[form](taken)


def compare_text(comparisons: Sequence[Comparison], form: str) -> str:
    """Every change, a comparison after the other. In CSV, numbers that are not known are empty."""
    return {"markdown": _markdown_changes, "csv": _csv_changes}[form](comparisons)


def _markdown_report(results: Sequence[Result]) -> str:
    names = [result.bundle.name for result in results]
    parts = []
    for group, members in groupby(lines(results), key=lambda line: line.group):
        rows = [[one.label, *map(_with_ratio, one.texts, one.ratios)] for one in members]
        parts.append(f"### {group}\n\n{markdown_table(['', *names], rows)}\n")
    if unlike := differences(results):
        parts.append(f"Unlike devices: these results differ in {', '.join(unlike)}.\n")
    warnings = [f"- {warning}\n" for result in results for warning in result.warnings]
    return "\n".join(
        [*parts, *(["".join(["Measure again before you rely on a figure:\n\n", *warnings])] if warnings else [])]
    )


def _with_ratio(text: str, ratio: str) -> str:
    return f"{text} ({ratio})" if ratio else text


def _csv_report(results: Sequence[Result]) -> str:
    head = ["group", "figure", *(result.bundle.name for result in results)]
    return _csv(head, ([one.group, one.label, *one.values] for one in lines(results)))


def _markdown_changes(comparisons: Sequence[Comparison]) -> str:
    columns = ["", "base", "new", "ratio", "95 % interval", "verdict"]
    tables = [(_title(one), [list(change_row(change)) for change in one.changes]) for one in comparisons]
    return "\n".join(f"### {title}\n\n{markdown_table(columns, rows)}\n" for title, rows in tables)


def _csv_changes(comparisons: Sequence[Comparison]) -> str:
    rows = ([one.base, one.new, *_numbers(change)] for one in comparisons for change in one.changes)
    return _csv(["base bundle", "new bundle", *COMPARED], rows)


def _numbers(change: Change) -> list[Any]:
    interval = change.interval.to_json()
    limits = [interval[name] for name in ("ratio", "low", "high")]
    return [change.figure, change.unit, change.base, change.new, *limits, change.verdict]


def _title(one: Comparison) -> str:
    return one.new if one.new == one.base else f"{one.base} -> {one.new}"


def change_row(change: Change) -> tuple[str, ...]:
    """A change for people: figure, base, new, ratio, interval, verdict. Exact figures have no interval."""
    interval, show = change.interval, shown(change.unit)
    name = change.figure if change.unit == "bytes" else f"{change.figure}, {change.unit}"
    between = f"{interval.low:.3f} to {interval.high:.3f}"
    if interval.low == interval.high:
        between = "exact"
    elif interval.low == 0:
        between = "unknown: one process"
    return name, show(change.base), show(change.new), f"{interval.ratio:.3f}", between, change.verdict


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = StringIO()
    writer: Callable[[Sequence[Any]], Any] = csv.writer(buffer, lineterminator="\n").writerow
    for row in (head, *rows):
        writer(row)
    return buffer.getvalue()
