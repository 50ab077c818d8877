"""Compare bundles of a large synthetic catalogue with the plain dense ONNX export and with other libraries.

usage: python -m bench.experiments.scale [--items 1000000] [--dimensions 64] [--users 1000] [--rounds 5] [--out FILE]
       python -m bench.experiments.scale --peers [--items 100000]          other libraries and other roundings
       python -m bench.experiments.scale --growth [--out FILE]             from 10,000 to 10,000,000 items
       python -m bench.experiments.scale --profile 'csc int8'              time by operator
       python -m bench.experiments.scale --show result.json [--markdown]   an earlier result; several as a growth table

Every contender answers for the same users in fresh processes, interleaved in rounds, so that a drift of the machine
affects all alike. Calls use one thread, batch 1 and k = 20. Bundles exclude 20 random items per call in the graph;
plain models and other libraries exclude nothing, which favours them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from bench.experiments.scale.contenders import BASELINE
from bench.experiments.scale.measure import command_of, compare, profile
from bench.experiments.scale.targets import bound_of, targets, write_with_targets
from edgerec.console import print_table, results
from edgerec.errors import BenchError
from edgerec_bench.command import bench_command, show_progress
from edgerec_bench.result import (
    MORE,
    NOTES,
    SPEED,
    ScaleResult,
    heading,
    read_results,
    scale_rows,
    scale_warnings,
    short_ms,
    short_ratio,
)
from edgerec_bench.result import markdown as markdown_table

GROWTH = (10_000, 100_000, 1_000_000, 10_000_000)
SHORT = ("", "p50 ms", "times faster", "score 1000", "bytes", "of dense", "peak memory", "same top 20")
"""The columns of the documentation's table."""
PEERS = ("", "ms a call", "times faster", "load ms", "bytes", "peak memory", "same top 20", "built with")
"""The columns of the table of other libraries."""
PROFILE = ("operator", "ms a call", "runs a call", "share")


@bench_command
@click.option("--items", default=1_000_000, show_default=True, help="Number of items.")
@click.option("--dimensions", default=64, show_default=True, help="Dimensions of the tables.")
@click.option("--users", default=1000, show_default=True, help="Number of users.")
@click.option("--rounds", default=5, show_default=True, help="Fresh processes of each contender.")
@click.option(
    "--only", multiple=True, metavar="NAME", help=f"Measure this contender and {BASELINE.name} only. Repeatable."
)
@click.option("--peers", is_flag=True, help="Measure other libraries and quantisers (pip install 'edgerec[peers]').")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result as JSON.")
@click.option("--growth", is_flag=True, help=f"Measure {GROWTH[0]:,} to {GROWTH[-1]:,} items, one size after another.")
@click.option("--profile", "profiled", metavar="NAME", help="Print the time by operator of a bundle.")
@click.option(
    "--show",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Print an earlier result instead of measuring. Repeatable.",
)
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown, with the columns of the documentation.")
def main(
    out: Path | None, growth: bool, profiled: str | None, show: tuple[Path, ...], markdown: bool, **chosen: Any
) -> None:
    """Compare bundles of a large catalogue with the plain dense ONNX export, or with other libraries."""
    if growth + bool(profiled) + bool(show) > 1:
        raise BenchError("--growth, --profile and --show cannot be combined; give one of them")
    if profiled:
        _print_profile(profiled, profile(profiled, **{name: chosen[name] for name in ("items", "dimensions", "users")}))
    elif show:
        _print([result for path in show for result in _stored(path)], markdown)
    else:
        _print(_measured(chosen, GROWTH if growth else (chosen["items"],), out), markdown)


def _measured(chosen: dict[str, Any], sizes: Sequence[int], out: Path | None) -> list[ScaleResult]:
    """Measure each size and write its result to `out` at once. With several sizes, reuse the results in `out`, so that
    an interrupted measurement can be continued."""
    before = {result.command: result for result in _stored(out)} if out and out.exists() and len(sizes) > 1 else {}
    results: list[ScaleResult] = []
    for items in sizes:
        options = {**chosen, "items": items}
        result = before.get(command_of(**options))
        if result is None:
            with show_progress("generating the tables") as progress:
                result = compare(**options, progress=progress)
        results.append(result)
        if out:
            write_with_targets(out, results)
    return results


def _stored(path: Path) -> list[ScaleResult]:
    return [result for result in read_results(path) if isinstance(result, ScaleResult)]


def _print(results: Sequence[ScaleResult], markdown: bool) -> None:
    if len(results) > 1:
        _print_growth(results, markdown=markdown)
    for result in results if len(results) == 1 else ():
        if markdown and "--peers" in result.command.split():
            sys.stdout.write(markdown_table(PEERS, scale_rows(result, PEERS)) + "\n")
        else:
            _print_scale(result, markdown=markdown)


def _print_scale(result: ScaleResult, *, markdown: bool = False) -> None:
    """Print the table, its notes and each target; or only the table of the documentation."""
    if markdown:
        _print_markdown(SHORT, scale_rows(result, SHORT))
        return
    bounds = [bound_of(result, one) for one in result.contenders]
    rows = [[*row, bound] for row, bound in zip_longest(scale_rows(result, SPEED), bounds, fillvalue="")]
    print_table(heading(result), (*SPEED, "peak at most"), rows)
    console = results()
    console.print()
    print_table("", MORE, scale_rows(result, MORE))
    for note in NOTES:
        console.print(note, style="dim")
    for target in targets(result):
        console.print(f"{'met' if target.met else 'missed':6}  {target.text}")
    for warning in scale_warnings(result):
        console.print(f"warning  {warning}")


def _print_growth(measured: Sequence[ScaleResult], *, markdown: bool = False) -> None:
    """Print milliseconds and relative speed by number of items."""
    columns, rows = growth_columns(measured), growth_rows(measured)
    if markdown:
        _print_markdown(columns, rows)
        return
    print_table("milliseconds a call (times faster than the first row)", columns, rows)
    for result in measured:
        for name, reason in result.left_out:
            results().print(f"{result.items:,} items: {name}: {reason}")
        for warning in scale_warnings(result):
            results().print(f"warning  {result.items:,} items: {warning}")


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
            return f"{short_ms(one.measured.latency())} ({short_ratio(result.faster(one))})"
    return "-"


def _print_profile(name: str, profile: dict[str, Any]) -> None:
    """Print a bundle's milliseconds and runs per call by operator, and the shares of the time of all operators."""
    operators = profile["operators"]
    whole = sum(spent["ms"] for spent in operators.values())
    rows = [
        [operator, f"{spent['ms']:.3f}", f"{spent['count']:g}", f"{spent['ms'] / whole:.1%}"]
        for operator, spent in operators.items()
    ]
    print_table(f"{name}: {profile['p50_ms']:.2f} ms a call under the profiler", PROFILE, rows)


def _print_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    sys.stdout.write(markdown_table(columns, rows) + "\n")


if __name__ == "__main__":
    main()
