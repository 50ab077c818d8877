"""Tables of the pages, whose sizes carry their exact number of bytes, and the templates that show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from edgerec.budget import format_bytes
from edgerec.extras import require
from edgerec.files import write_bytes

require("jinja2", "bench")

from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: E402


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: for people.
        exact: the same number in full, such as '86,123 bytes'; empty if the text is exact.
        note: small print below the text.
    """

    text: str
    exact: str = ""
    note: str = ""


class Column(NamedTuple):
    """The head of a column.

    Attributes:
        name: empty above the names of the rows.
        lines: small print below the name.
    """

    name: str
    lines: tuple[str, ...] = ()


def bytes_cell(count: float, note: str = "") -> Cell:
    """Return '84.1 KiB' with its exact number of bytes."""
    return Cell(format_bytes(count), exact_bytes(count), note)


def exact_bytes(count: float) -> str:
    """Return '86,123 bytes'; empty below 1 KiB, where `format_bytes` is exact already."""
    return f"{count:,.0f} bytes" if abs(count) >= 1024 else ""


def in_bytes(count: float) -> str:
    """Return '84.1 KiB (86,123 bytes)'."""
    exact = exact_bytes(count)
    return f"{format_bytes(count)} ({exact})" if exact else format_bytes(count)


def write_template(out: Path, template: str, **values: Any) -> None:
    """Render a template with `values` into the file `out`. Raises StorageError."""
    templates = Environment(loader=PackageLoader("edgerec_bench.reports"), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    write_bytes(out, templates.get_template(template).render(**values).encode())
