"""Draw the pictures of docs/reference/layouts.md: one small table as each layout stores it.

usage: python docs/pictures/layouts.py [FOLDER]   (concepts.py draws the others)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CELL, GAP, LEFT = 26, 12, 96
HUES = (210, 25, 130, 280, 50, 340, 180, 90)
"""One a dimension."""

PREFIX = [[0, 1], [0], [0, 1, 2, 3, 4, 5], [0, 1], [0], [0, 1, 2, 3, 4, 5]]
"""The dimensions that each row keeps where rows have sizes."""
SPARSE = [[1, 4], [0], [0, 2, 5], [3, 4], [5], [1, 2, 5]]
"""The same where any position may be zero."""
D = 6
ROWS = "abcdef"


@dataclass
class Picture:
    """Collects shapes from the top down."""

    shapes: list[str] = field(default_factory=list)
    y: float = GAP
    width: float = 0

    def heading(self, text: str) -> None:
        self.shapes.append(f'<text x="{GAP}" y="{self.y + 14}" class="h">{text}</text>')
        self.y += 24
        self.width = max(self.width, GAP + 7.5 * len(text))

    def cells(self, label: str, cells: Sequence[tuple[str, int | None]], note: str = "") -> None:
        """A row of cells: text and dimension, None for padding and what belongs to no dimension."""
        middle = self.y + CELL / 2 + 4
        self.shapes.append(f'<text x="{LEFT - 8}" y="{middle}" class="l" text-anchor="end">{label}</text>')
        for number, (text, dimension) in enumerate(cells):
            x = LEFT + number * CELL
            fill = "none" if dimension is None else f"hsl({HUES[dimension]} 65% 55% / .38)"
            self.shapes.append(
                f'<rect x="{x}" y="{self.y}" width="{CELL}" height="{CELL}" fill="{fill}" class="c"/>'
                f'<text x="{x + CELL / 2}" y="{middle}" text-anchor="middle" class="v">{text}</text>'
            )
        end = LEFT + len(cells) * CELL
        if note:
            self.shapes.append(f'<text x="{end + 8}" y="{middle}" class="n">{note}</text>')
        self.width = max(self.width, end + 8 + 6.4 * len(note))
        self.y += CELL

    def space(self) -> None:
        self.y += GAP

    def svg(self, title: str) -> str:
        style = (
            "text{font:12px system-ui,sans-serif;fill:#1f2430}.h{font-weight:600}.v{font-size:11px}"
            ".n{fill:#6b7280}.c{stroke:#9aa3b2}"
            "@media(prefers-color-scheme:dark){text{fill:#e6e9ef}.n{fill:#9aa3b2}.c{stroke:#5b6475}}"
        )
        body = "\n".join(self.shapes)
        size = f'width="{self.width + GAP:.0f}" height="{self.y + GAP:.0f}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">\n'
            f"<title>{title}</title>\n<style>{style}</style>\n{body}\n</svg>\n"
        )


def _table(picture: Picture, stored: list[list[int]]) -> None:
    picture.heading("the table: six rows, six dimensions; empty is zero")
    for row, dimensions in zip(ROWS, stored, strict=True):
        picture.cells(row, [(f"{row}{j}" if j in dimensions else "", j if j in dimensions else None) for j in range(D)])
    picture.space()


def _value(row: str, dimension: int) -> tuple[str, int | None]:
    return f"{row}{dimension}", dimension


def dense(picture: Picture) -> None:
    _table(picture, PREFIX)
    picture.heading("one block, dimension after dimension")
    for j in range(D):
        picture.cells(
            f"dimension {j}", [_value(r, j) if j in k else ("0", None) for r, k in zip(ROWS, PREFIX, strict=True)]
        )


def mixed(picture: Picture) -> None:
    _table(picture, PREFIX)
    for width in (1, 2, 6):
        rows = [row for row, stored in zip(ROWS, PREFIX, strict=True) if len(stored) == width]
        picture.heading(f"block of width {width}: rows {', '.join(rows)}")
        for j in range(width):
            picture.cells(f"dimension {j}", [_value(row, j) for row in rows])
        picture.space()


def csr(picture: Picture) -> None:
    _table(picture, SPARSE)
    pairs = [(row, j) for row, stored in zip(ROWS, SPARSE, strict=True) for j in stored]
    picture.heading("rows one after the other")
    picture.cells("values", [_value(row, j) for row, j in pairs])
    picture.cells("columns", [(str(j), j) for _, j in pairs], "one or two bytes each")
    ends = [0]
    for stored in SPARSE:
        ends.append(ends[-1] + len(stored))
    picture.cells("pointers", [(str(end), None) for end in ends], "where each row starts and ends")


def ell(picture: Picture) -> None:
    _table(picture, SPARSE)
    for width in (1, 2, 3):
        rows = [(row, stored) for row, stored in zip(ROWS, SPARSE, strict=True) if len(stored) == width]
        picture.heading(f"block of {width} a row")
        picture.cells("values", [_value(row, j) for row, stored in rows for j in stored])
        picture.cells(
            "columns", [(str(j), j) for _, stored in rows for j in stored], "no pointers: rows are equally long"
        )
        picture.space()


def bitmask(picture: Picture) -> None:
    _table(picture, SPARSE)
    order = sorted(zip(ROWS, SPARSE, strict=True), key=lambda pair: len(pair[1]))
    picture.heading("a bit for each position, rows by their number of values")
    for row, stored in order:
        picture.cells(row, [("1" if j in stored else "0", j if j in stored else None) for j in range(D)])
    picture.space()
    picture.heading("and the values alone")
    picture.cells("values", [_value(row, j) for row, stored in order for j in stored])


def csc(picture: Picture) -> None:
    _table(picture, SPARSE)
    picture.heading("dimension after dimension, in blocks of equal length (2 here, 256 in a bundle)")
    for j in range(D):
        rows = [number for number, stored in enumerate(SPARSE) if j in stored]
        for start in range(0, len(rows), 2):
            some = rows[start : start + 2]
            filled = [_value(ROWS[number], j) for number in some] + [("0", None)] * (2 - len(some))
            numbers = [(str(number), None) for number in some] + [("0", None)] * (2 - len(some))
            picture.cells(f"dimension {j}", [*filled, *numbers], "values, then their rows")
    picture.space()
    picture.heading("only the blocks of dimensions that the user has are read")


LAYOUTS: dict[str, Callable[[Picture], None]] = {
    "dense": dense,
    "mixed": mixed,
    "csr": csr,
    "ell": ell,
    "bitmask": bitmask,
    "csc": csc,
}


def main(folder: Path) -> None:
    """Write every picture."""
    for name, draw in LAYOUTS.items():
        picture = Picture()
        draw(picture)
        (folder / f"{name}.svg").write_text(picture.svg(f"a small table in the layout {name}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
