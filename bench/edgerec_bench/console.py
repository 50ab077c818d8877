"""What bench shows in a terminal: a progress bar on standard error, tables at scale on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from edgerec.console import messages, print_table, results
from edgerec_bench import scale_rows
from edgerec_bench.scale_result import ScaleResult
from edgerec_bench.scale_targets import targets
from edgerec_bench.turns import Progress


@contextmanager
def show_progress(first: str) -> Iterator[Progress]:
    """A bar on standard error while the block runs; `first` stands there until the first measurement."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task(first, total=None)

        def update(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield update


def print_scale(result: ScaleResult, *, markdown: bool = False) -> None:
    """Print the table, how to read it, and each target; or only the documentation's table."""
    if markdown:
        _print_markdown(scale_rows.SHORT, scale_rows.scale_rows(result, scale_rows.SHORT))
        return
    print_table(scale_rows.heading(result), scale_rows.SPEED, scale_rows.scale_rows(result, scale_rows.SPEED))
    console = results()
    console.print()
    print_table("", scale_rows.MORE, scale_rows.scale_rows(result, scale_rows.MORE))
    for note in scale_rows.NOTES:
        console.print(note, style="dim")
    for target in targets(result):
        console.print(f"{'met' if target.met else 'missed':6}  {target.text}")
    for warning in scale_rows.scale_warnings(result):
        console.print(f"warning  {warning}")


def print_growth(measured: Sequence[ScaleResult], *, markdown: bool = False) -> None:
    """Print milliseconds and times faster by number of items."""
    columns, rows = scale_rows.growth_columns(measured), scale_rows.growth_rows(measured)
    if markdown:
        _print_markdown(columns, rows)
        return
    print_table("milliseconds a call (times faster than the first row)", columns, rows)
    for result in measured:
        for name, reason in result.left_out:
            results().print(f"{result.items:,} items: {name}: {reason}")
        for warning in scale_rows.scale_warnings(result):
            results().print(f"warning  {result.items:,} items: {warning}")


def print_profile(name: str, profile: dict[str, Any]) -> None:
    """Print a bundle's time by operator."""
    title = f"{name}: {profile['p50_ms']:.2f} ms a call under the profiler"
    print_table(title, scale_rows.PROFILE_COLUMNS, scale_rows.profile_rows(profile))


def _print_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    sys.stdout.write(scale_rows.markdown(columns, rows) + "\n")
