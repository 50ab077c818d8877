"""A frontier as tables: markdown, CSV, and rows for a terminal or a page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO

from edgerec.budget import format_bytes
from edgerec_bench.frontier import Point, front
from edgerec_bench.scale.rows import markdown

COLUMNS = ("", "bytes", "NDCG@20", "seeds", "best plain", "layout")


BEATEN = tuple("beaten by" if name == "best plain" else name for name in COLUMNS)
"""The columns of the others."""


def front_rows(points: Sequence[Point]) -> list[list[str]]:
    """One row a point of the front, numbered; beside it the best plain bundle of at most its bytes."""
    rows = []
    for number, point in enumerate(front(points), 1):
        plain = [rival.score for rival in points if rival.plain and rival.nbytes <= point.nbytes]
        rows.append(_row(f"{number}. {point.name}", point, f"{max(plain):.4f}" if plain else ""))
    return rows


def _row(name: str, point: Point, beside: str) -> list[str]:
    return [name, format_bytes(point.nbytes), f"{point.score:.4f}", spread(point), beside, point.layout]


def spread(point: Point) -> str:
    """'0.3841 to 0.3902', of the seeds; empty for one."""
    low, high = min(point.scores), max(point.scores)
    return f"{low:.4f} to {high:.4f}" if len(point.scores) > 1 else ""


def dominated_rows(points: Sequence[Point]) -> list[list[str]]:
    """The others, each with the point of the front that beats it in place of the best plain one."""
    best = front(points)
    rows = []
    for point in points:
        if point not in best:
            over = max((other for other in best if other.nbytes <= point.nbytes), key=lambda other: other.score)
            rows.append(_row(point.name, point, f"{best.index(over) + 1}. {over.name}"))
    return rows


def to_markdown(points: Sequence[Point]) -> str:
    """The front as the documentation has it."""
    return markdown(COLUMNS, front_rows(points)) + "\n"


def to_csv(points: Sequence[Point]) -> str:
    """Every point, for spreadsheets: numbers in full."""
    best, stream = front(points), StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["method", "budget", "precision", "layout", "bytes", "ndcg@20", "least", "most", "front", "plain"])
    for point in points:
        scores = point.score, min(point.scores), max(point.scores)
        about = point.method, point.budget or "", point.precision, point.layout, point.nbytes
        table.writerow([*about, *scores, int(point in best), int(point.plain)])
    return stream.getvalue()
