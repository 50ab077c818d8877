"""Terminal output: results on standard output, progress and notes on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from edgerec.errors import HIDDEN, LONGEST, escaped, shown
from edgerec.extras import require

require("rich", "cli")

from rich.console import Console, ConsoleOptions, RenderableType  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.segment import Segment  # noqa: E402
from rich.table import Table  # noqa: E402

MOST_LINES = 1000
"""Maximum number of lines of one message or cell."""


def printable(text: str, most: int = LONGEST) -> str:
    """Return untrusted text as lines that are safe to print (see `shown`), of at most `most` characters each."""
    lines = text.split("\n", MOST_LINES + 1)
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], "..."]
    return "\n".join(shown(line, most) for line in lines)


class Terminal(Console):
    """A console that prints untrusted text: it escapes control characters and limits the length."""

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*(printable(one) if isinstance(one, str) else one for one in objects), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of every table, bar and text, escaped; rich's own control segments pass."""
        for segment in super().render(renderable, options):
            if segment.control or not HIDDEN.search(segment.text.replace("\n", "")):
                yield segment
            else:
                yield Segment("\n".join(map(escaped, segment.text.split("\n"))), segment.style)


messages = Terminal(stderr=True, highlight=False, soft_wrap=True)
"""Progress and notes: standard error, so that results can be piped."""


def tell(line: str) -> None:
    """Print a line of progress or a note."""
    messages.print(line, markup=False)


class ResumableInterrupt(KeyboardInterrupt):
    """Ctrl-C during resumable work, raised after the message that says how to resume."""


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """Run long work that Ctrl-C does not lose; print `how` to resume it. Raises ResumableInterrupt."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        messages.print(f"interrupted; {how}", markup=False)
        raise ResumableInterrupt from interrupt


def text_column(text: str) -> ProgressColumn:
    """Return a column of a bar; `text` is a format of its `task`."""
    return TextColumn(text, markup=False)


@contextmanager
def progress_bar(
    first: str, total: int | None = None, *, counts: Sequence[ProgressColumn] = (MofNCompleteColumn(),), **fields: Any
) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error while the block runs.

    Yields a function that updates its description, `completed`, `total` and fields.

    Args:
        first: description before the first update.
        counts: columns between the bar and the time.
        fields: initial fields of the columns.
    """
    columns = (text_column("{task.description}"), BarColumn(), *counts, TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        yield partial(bar.update, bar.add_task(first, total=total, **fields))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on standard output, with numbers aligned to the right."""
    table = Table(title=printable(title) or None, title_justify="left", show_edge=False, pad_edge=False)
    listed = [[_cell(value) for value in row] for row in rows]
    raw = [[_is_number(value) for value in row] for row in listed]
    for number, name in enumerate(columns):
        numeric = bool(raw) and all(row[number] for row in raw)
        table.add_column(printable(name), justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*row)
    results().print(table)


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print names and values on standard output, one pair a line."""
    table = Table(title=printable(title) or None, title_justify="left", show_edge=False, show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(printable(name), _cell(value))
    results().print(table)


def results() -> Console:
    """Return the current standard output as a console; 160 characters wide if it is no terminal."""
    console = Terminal(highlight=False, markup=False)
    return console if console.is_terminal else Terminal(highlight=False, markup=False, width=160)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else printable(str(value))


def _is_number(text: str) -> bool:
    """Return True for a cell that starts like a number, such as '1,024 (1.0 KiB)'."""
    return text.lstrip("+-<~")[:1].isdigit() or text == ""
