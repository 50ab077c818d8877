"""Draw the pictures of ideas: a budget, block skipping, an encoder, a patch; each in cells, as those of the layouts.

usage, from the repository's root: python -m docs.pictures.concepts [FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from docs.pictures.layouts import ROWS, D, Picture

INTERACTIONS = (900, 400, 150, 60, 30, 10)
"""Counts of each row: what `popularity` follows."""
POPULAR = (6, 5, 3, 2, 1, 1)
BLOCKS = ((9, 7, 4), (8, 3, 2), (6, 5, 1), (3, 2, 1))
"""Scores of the rows of each block, the first of which is as high as its bound allows."""
K = 2
HISTORY = "bde"
CHANGED, NEW = "c", "g"


def _row(picture: Picture, row: str, size: int, note: str = "") -> None:
    cells = [(f"{row}{j}", j) if j < size else ("", None) for j in range(D)]
    picture.cells(row, cells, note)


def budget(picture: Picture) -> None:
    for heading, sizes in (
        ("a full table: 36 values", (D,) * len(ROWS)),
        ("half of it, uniform: 3 values a row", (3,) * len(ROWS)),
        ("half of it, popularity: the same 18 values, where they are used", POPULAR),
    ):
        picture.heading(heading)
        for row, size, count in zip(ROWS, sizes, INTERACTIONS, strict=True):
            _row(picture, row, size, f"{count} interactions")
        picture.space()


def skipping(picture: Picture) -> None:
    picture.heading(f"the {K} best of twelve rows, in blocks by the highest score that is possible")
    threshold = sorted(BLOCKS[0])[-K]
    for number, scores in enumerate(BLOCKS):
        bound = scores[0]
        read = number == 0 or bound > threshold
        cells = [(str(score) if read else "", 0 if read and score >= 8 else 1 if read else None) for score in scores]
        if number == 0:
            note = f"bound {bound}: read; the second best, {threshold}, is the threshold"
        else:
            note = f"bound {bound}: read, it is above {threshold}" if read else f"bound {bound}: skipped"
        picture.cells(f"block {number}", cells, note)
    picture.space()
    picture.heading("the answer, 9 and 8, is exact: no skipped row can have more than its bound")


def encoder(picture: Picture) -> None:
    picture.heading("the history on the device: rows of the item table")
    for row in HISTORY:
        _row(picture, row, D)
    picture.space()
    picture.heading("the encoder: a sum, a mean or a solve, inside the graph")
    picture.cells("user", [(f"u{j}", j) for j in range(D)], "never stored, never sent")
    picture.space()
    picture.heading("times every other row: a score each")
    for row in ROWS:
        if row not in HISTORY:
            _row(picture, row, D, f"score of {row}")


def patch(picture: Picture) -> None:
    picture.heading("the bundle on the device")
    for row in ROWS:
        picture.cells(row, [(f"{row}{j}", None) for j in range(3)])
    picture.space()
    picture.heading("the patch: rows that changed, and new ones")
    for row, note in ((CHANGED, "other values"), (NEW, "a new item")):
        picture.cells(row, [(f"{row}{j}'", j) for j in range(3)], note)
    picture.space()
    picture.heading("the bundle after it: byte for byte the one that was exported")
    for row in (*ROWS, NEW):
        new = row in (CHANGED, NEW)
        picture.cells(row, [(f"{row}{j}" + "'" * new, j if new else None) for j in range(3)])


CONCEPTS: dict[str, tuple[Callable[[Picture], None], str]] = {
    "budget": (budget, "one table in full, and two of half its values"),
    "skipping": (skipping, "four blocks of scores, two of which are skipped"),
    "encoder": (encoder, "a history becomes a vector, which scores the other items"),
    "patch": (patch, "a bundle, a patch of two rows, and the bundle after it"),
}


def main(arguments: Sequence[str]) -> None:
    """Write every picture."""
    folder = Path(arguments[0]) if arguments else Path(__file__).parent
    for name, (draw, title) in CONCEPTS.items():
        picture = Picture()
        draw(picture)
        (folder / f"{name}.svg").write_text(picture.svg(title))


if __name__ == "__main__":
    main(sys.argv[1:])
