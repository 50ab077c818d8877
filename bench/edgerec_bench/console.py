"""What bench shows in a terminal: a progress bar on standard error, the comparison at scale on standard output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgerec.extras import require
from edgerec_bench.scale_result import ScaleResult
from edgerec_bench.scale_rows import COLUMNS, NOTES, heading, scale_rows, scale_warnings, targets
from edgerec_bench.turns import Progress

require("rich", "bench")

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.progress import Progress as Bar  # noqa: E402
from rich.table import Table  # noqa: E402


@contextmanager
def show_progress(first: str) -> Iterator[Progress]:
    """A bar on standard error while the block runs; `first` stands there until the first measurement."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(first, total=None)

        def update(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield update


def print_scale(result: ScaleResult) -> None:
    """Print the table, how to read it, and each target."""
    console = Console(highlight=False, markup=False)
    table = Table(title=heading(result), title_justify="left", show_edge=False, pad_edge=False)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for row in scale_rows(result):
        table.add_row(*row)
    console.print(table)
    for note in NOTES:
        console.print(note, style="dim")
    for text, kept in targets(result):
        console.print(f"{'met' if kept else 'missed':6}  {text}")
    for warning in scale_warnings(result):
        console.print(f"warning  {warning}")
