"""What bench shows in a terminal: a progress bar on standard error, the comparison at scale on standard output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from edgerec.console import messages, print_table, results
from edgerec_bench.scale_result import ScaleResult
from edgerec_bench.scale_rows import COLUMNS, NOTES, heading, scale_rows, scale_warnings, targets
from edgerec_bench.turns import Progress


@contextmanager
def show_progress(first: str) -> Iterator[Progress]:
    """A bar on standard error while the block runs; `first` stands there until the first measurement."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task(first, total=None)

        def update(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield update


def print_scale(result: ScaleResult) -> None:
    """Print the table, how to read it, and each target."""
    print_table(heading(result), COLUMNS, scale_rows(result))
    console = results()
    for note in NOTES:
        console.print(note, style="dim")
    for text, kept in targets(result):
        console.print(f"{'met' if kept else 'missed':6}  {text}")
    for warning in scale_warnings(result):
        console.print(f"warning  {warning}")
