"""The comparison at scale for people: a table, and whether each target was met."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgerec.budget import format_bytes
from edgerec.extras import require
from edgerec_bench.scale_result import FASTER, LOAD_MS, Contender, ScaleResult

require("rich", "bench")

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402

COLUMNS = ("", "p50 ms", "times faster", "load ms", "verify ms", "bytes", "of dense", "peak memory", "bound", "same top 20")


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
    """What was promised for the mixed bundles, and whether these figures keep it."""
    checks: list[tuple[str, bool]] = []
    for one in result.contenders:
        if not one.name.startswith("EdgeRec mixed"):
            continue
        if "fp32" in one.name:
            times = result.faster(one)
            checks.append((f"{one.name}: {times:.1f} times faster, target {FASTER:g}", times >= FASTER))
        if one.peak is not None:
            bound = one.bound(result.items)
            shown = f"peak {format_bytes(one.peak)}, bound {format_bytes(bound)}"
            checks.append((f"{one.name}: {shown}", one.peak <= bound))
        load = one.measured.load_ms
        checks.append((f"{one.name}: load {load:.1f} ms, target {LOAD_MS:g}", load < LOAD_MS))
    return checks


def heading(result: ScaleResult) -> str:
    """One line: what was measured."""
    settings = result.settings
    return (
        f"{result.items:,} items x {result.dimensions}, {result.kept:.1%} of the values kept, "
        f"{settings['threads']} thread, {settings['rounds']} fresh processes each"
    )


def notes() -> tuple[str, ...]:
    """How to read the table."""
    return (
        "Medians over processes. Peak memory is VmHWM above a bare onnxruntime session; the bound is the bundle, "
        "10 bytes an item and 4 MB.",
        "Bundles exclude 20 random items a call in the graph, plain dense excludes nothing. Files are in the page cache.",
    )


def print_scale(result: ScaleResult) -> None:
    """Print the table and the targets on standard output."""
    console = Console(highlight=False)
    table = Table(title=heading(result), title_justify="left", show_edge=False, pad_edge=False)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for row in scale_rows(result):
        table.add_row(*row)
    console.print(table)
    for note in notes():
        console.print(note, style="dim")
    for text, kept in targets(result):
        console.print(f"{'met   ' if kept else 'missed'}  {text}")
    unsteady = {one.name: one.measured.unsteady() for one in result.contenders}
    for name, scenarios in unsteady.items():
        if scenarios:
            console.print(f"unsteady  {name}: processes differ by more than 10 % ({', '.join(scenarios)}); try --rounds 10")


@contextmanager
def show_progress() -> Iterator[object]:
    """A progress bar on standard error; yields what `compare` takes as `progress`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("making tables", total=None)

        def update(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield update
