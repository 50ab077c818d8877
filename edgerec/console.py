"""What people see in a terminal: results on standard output, progress and notes on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgerec.extras import require

require("rich", "cli")

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress and notes: standard error, so that results can be piped."""


class ResumableInterrupt(KeyboardInterrupt):
    """Ctrl-C, and how to go on has been told."""


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """Long work that Ctrl-C does not lose: `how` to go on is told then. Raises ResumableInterrupt."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        messages.print(f"interrupted; {how}", markup=False)
        raise ResumableInterrupt from interrupt


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on standard output; numbers to the right."""
    table = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False)
    listed = [[_cell(value) for value in row] for row in rows]
    raw = [[_is_number(value) for value in row] for row in listed]
    for number, name in enumerate(columns):
        numeric = bool(raw) and all(row[number] for row in raw)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*row)
    results().print(table)


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Names and values on standard output, one pair a line."""
    table = Table(title=title or None, title_justify="left", show_edge=False, show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, _cell(value))
    results().print(table)


def results() -> Console:
    """Standard output as it is now; wide where nobody's screen sets the width."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=160)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)


def _is_number(text: str) -> bool:
    """Whether a cell starts as a number does: '1,024 (1.0 KiB)' too."""
    return text.lstrip("+-<~")[:1].isdigit() or text == ""
