"""Quality per byte: bundles of many trainings as points, and the front of those that no other beats in both.

Every point is one method, budget and precision over all seeds: bytes of all files of its bundles, and the quality of
what they answer. Plain tables, dense and uniform, are the rivals: what anyone would ship without an embedding budget.
Fitted are dense tables that export cuts and quantises (`--precision auto --fit`) to the bytes of each budget.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from statistics import mean, median
from typing import Any

from edgerec.budget import format_bytes
from edgerec_bench.grid import AUTO, GridPlan, Row
from edgerec_bench.result import markdown

METRIC = "ndcg@20"
PLAIN = ("dense", "uniform")
"""Methods whose tables keep the same values of every row."""

METHODS = ("dense", "uniform", "popularity", "magnitude")
BUDGETS = ("5%", "10%", "20%", "40%")
PRECISIONS = ("fp32", "int8", "int4", AUTO)
QUICK: dict[str, Any] = {
    "data": "synthetic:300x200x9000",
    "method": ("dense", "uniform", "popularity"),
    "budget": ("25%", "50%"),
    "precision": ("fp32", "int8", AUTO),
    "seeds": 1,
    "dimensions": 16,
}
"""Made-up data, seconds: a trial."""


@dataclass(frozen=True)
class Point:
    """Bundles that differ in the seed alone.

    Attributes:
        budget: None where the method takes none.
        layout: what export chose; several where seeds differ.
        nbytes: of a bundle's files, the median over the seeds.
        scores: METRIC by seed, of the bundles' own answers on the test part.
    """

    method: str
    budget: str | None
    precision: str
    layout: str
    nbytes: int
    scores: tuple[float, ...]

    @property
    def kind(self) -> str:
        """The method, or 'fitted' for a full table that export fitted into the budget, of any precision."""
        return "fitted" if self.precision == AUTO else self.method

    @property
    def name(self) -> str:
        """'popularity 10% int8', 'dense int4', 'fitted to 10%'."""
        if self.kind == "fitted":
            return f"fitted to {self.budget}"
        return " ".join(part for part in (self.method, self.budget, self.precision) if part)

    @property
    def score(self) -> float:
        """The mean over the seeds."""
        return mean(self.scores)

    @property
    def plain(self) -> bool:
        """Whether it is a rival."""
        return self.kind in PLAIN

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `scores` is a list."""
        return {**asdict(self), "scores": list(self.scores)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Point:
        """Raises KeyError where something is missing."""
        plain = {name: fields[name] for name in ("method", "budget", "precision", "layout", "nbytes")}
        return cls(**plain, scores=tuple(fields["scores"]))


@dataclass(frozen=True)
class Frontier:
    """What is drawn.

    Attributes:
        settings: of the plan: backbone, method, budget, precision, seeds, dimensions.
        points: smallest first.
        notes: what was left out of the plan, and why.
        command: that makes it again.
    """

    data: str
    settings: dict[str, Any]
    points: list[Point]
    notes: list[str]
    command: str

    @property
    def title(self) -> str:
        """Heading of the page and of the tables."""
        settings = self.settings
        return f"Quality per byte: {self.data}, {settings['backbone']}, {settings['dimensions']} dimensions"

    def to_json(self) -> dict[str, Any]:
        """Each point says whether it is on the front."""
        best = front(self.points)
        listed = [{**point.to_json(), "front": point in best} for point in self.points]
        return {
            "data": self.data, "metric": METRIC, "settings": self.settings, "points": listed, "left_out": self.notes
        }  # fmt: skip


def frontier_plan(
    data: str,
    *,
    backbone: str = "ials",
    method: Iterable[str] = METHODS,
    budget: Iterable[str] = BUDGETS,
    precision: Iterable[str] = PRECISIONS,
    seeds: int = 3,
    dimensions: int = 64,
) -> GridPlan:
    """The grid to make: every combination, of the seeds 0, 1, ... Raises BenchError, BudgetError."""
    axes = {"method": list(method), "budget": list(budget), "precision": list(precision), "seed": list(range(seeds))}
    skip = [{"method": [name for name in method if name != "dense"], "precision": AUTO}]
    return GridPlan.parse({"data": data, "backbone": backbone, **axes, "dimensions": dimensions, "skip": skip})


def points(rows: Sequence[Row]) -> list[Point]:
    """The points of a grid's rows, smallest first."""
    groups: dict[tuple[str, str | None, str], list[Row]] = {}
    for row in rows:
        cell = row["cell"]
        groups.setdefault((cell["method"], cell["budget"], cell["precision"]), []).append(row)
    made = [
        Point(
            *axes,
            "/".join(sorted({row["layout"] for row in group})),
            round(median(row["bundle_bytes"] for row in group)),
            tuple(row["metrics"]["bundle"][METRIC] for row in group),
        )
        for axes, group in groups.items()
    ]
    return sorted(made, key=lambda point: (point.nbytes, -point.score))


def front(among: Iterable[Point]) -> list[Point]:
    """Those for which no other is at most as large and at least as good, smallest first; of equals the first."""
    kept: list[Point] = []
    for point in sorted(among, key=lambda point: (point.nbytes, -point.score)):
        if not kept or point.score > kept[-1].score:
            kept.append(point)
    return kept


COLUMNS = ("", "bytes", "NDCG@20", "seeds", "best plain", "layout")


BEATEN = tuple("beaten by" if name == "best plain" else name for name in COLUMNS)
"""The columns of the others."""


def front_rows(points: Sequence[Point]) -> list[list[str]]:
    """A numbered row for each point of the front, with the best plain bundle that is no larger."""
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
    """A row for each dominated point, with the point of the front that beats it."""
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
