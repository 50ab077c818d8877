"""Quality per byte: bundles of many trainings as points, and the front of those that no other beats in both.

Every point is one method, budget and precision over all seeds: bytes of all files of its bundles, and the quality of
their answers. Plain tables, dense and uniform, are the baselines: what anyone would ship without an embedding budget.
Fitted are dense tables that export shortens and quantises (`--precision auto --fit`) to the bytes of each budget.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from statistics import mean, median
from typing import Any

from edgerec.budget import format_bytes, knee
from edgerec.budget import front as front_of
from edgerec_bench.grid import AUTO, GridPlan, Row
from edgerec_bench.grid.plan import Cell, Shared
from edgerec_bench.result import markdown

METRIC = "ndcg@20"
PLAIN = ("dense", "uniform")
"""Methods whose tables have the same number of values in every row."""

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
"""A trial of some seconds on made-up data."""


@dataclass(frozen=True)
class Point:
    """Bundles that differ in the seed alone.

    Attributes:
        budget: None if the method takes none.
        layout: the one that export chose; several if seeds differ.
        nbytes: of a bundle's files, the median over the seeds.
        scores: METRIC by seed, of the bundles' own answers on the test part.
        max_bytes: the limit that export fitted the bundle to; None if it had none, and in older records.
    """

    method: str
    budget: str | None
    precision: str
    layout: str
    nbytes: int
    scores: tuple[float, ...]
    max_bytes: int | None = None

    @property
    def kind(self) -> str:
        """The method, or 'fitted' for a full table that export fitted into the budget."""
        return "fitted" if self.precision == AUTO else self.method

    @property
    def name(self) -> str:
        """The name for people: 'popularity 10% int8', 'dense int4', 'fitted to 10%'."""
        if self.kind == "fitted":
            return f"fitted to {self.budget}"
        return " ".join(part for part in (self.method, self.budget, self.precision) if part)

    @property
    def score(self) -> float:
        """The mean over the seeds."""
        return mean(self.scores)

    @property
    def plain(self) -> bool:
        """Say if it is a baseline: True for tables of PLAIN."""
        return self.kind in PLAIN

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `scores` is a list."""
        return {**asdict(self), "scores": list(self.scores)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Point:
        """Read the fields of `to_json`. Raises KeyError if one is missing."""
        plain = {name: fields[name] for name in ("method", "budget", "precision", "layout", "nbytes")}
        return cls(**plain, scores=tuple(fields["scores"]), max_bytes=fields.get("max_bytes"))


@dataclass(frozen=True)
class Frontier:
    """Points of one data set and backbone, and how to get them again.

    Attributes:
        settings: of the plan: backbone, method, budget, precision, seeds, dimensions; encoding and users if they were
            given.
        points: smallest first.
        notes: cells that were left out of the plan or failed, and why.
        command: the command that measured the points.
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

    def ship(self) -> tuple[Point, list[str]] | None:
        """Return the point to ship and the commands that build its bundle; None without a point."""
        point = to_ship(self.points)
        return None if point is None else (point, commands(point, self.data, self.settings))

    def to_json(self) -> dict[str, Any]:
        """Return the record: each point says if it is on the front; `ship` has the name and commands of one."""
        best, ship = front(self.points), self.ship()
        listed = [{**point.to_json(), "front": point in best} for point in self.points]
        return {
            "data": self.data,
            "metric": METRIC,
            "settings": self.settings,
            "points": listed,
            "ship": None if ship is None else {"name": ship[0].name, "commands": ship[1]},
            "left_out": self.notes,
        }


def frontier_plan(
    data: str,
    *,
    backbone: str = "ials",
    method: Iterable[str] = METHODS,
    budget: Iterable[str] = BUDGETS,
    precision: Iterable[str] = PRECISIONS,
    seeds: int = 3,
    dimensions: int = 64,
    users: bool = True,
    encoding: str | None = None,
) -> GridPlan:
    """Return the grid of every combination, of the seeds 0, 1, ... Raises BenchError, BudgetError."""
    axes = {"method": list(method), "budget": list(budget), "precision": list(precision), "seed": list(range(seeds))}
    skip = [{"method": [name for name in method if name != "dense"], "precision": AUTO}]
    shared: dict[str, Any] = {"dimensions": dimensions, "users": users}
    shared |= {} if encoding is None else {"encoding": encoding}
    return GridPlan.parse({"data": data, "backbone": backbone, **axes, **shared, "skip": skip})


def points(rows: Sequence[Row]) -> list[Point]:
    """Return the points of a grid's rows, smallest first."""
    groups: dict[tuple[str, str | None, str], list[Row]] = {}
    for row in rows:
        cell = row["cell"]
        groups.setdefault((cell["method"], cell["budget"], cell["precision"]), []).append(row)
    found = [
        Point(
            *axes,
            "/".join(sorted({row["layout"] for row in group})),
            round(median(row["bundle_bytes"] for row in group)),
            tuple(row["metrics"]["bundle"][METRIC] for row in group),
            _limit(group[0]) if axes[2] == AUTO else None,
        )
        for axes, group in groups.items()
    ]
    return sorted(found, key=lambda point: (point.nbytes, -point.score))


def _limit(row: Row) -> int | None:
    """Return the bytes that the export of a cell was fitted to."""
    cell = row["cell"]
    fields = {**cell, "shared": Shared(**cell["shared"])}
    return Cell(**fields).options(row["table_bytes"], verify=False).max_bytes


def front(among: Iterable[Point]) -> list[Point]:
    """Return the points that no other equals in bytes and quality or beats, smallest first."""
    return front_of(among, nbytes=lambda point: point.nbytes, score=lambda point: point.score)


def to_ship(points: Iterable[Point]) -> Point | None:
    """Return the knee of the front; None without a point."""
    return knee(front(points), score=lambda point: point.score)


def commands(point: Point, data: str, settings: Mapping[str, Any]) -> list[str]:
    """Return the commands that build a point's bundle of seed 0.

    Empty for a fitted point of an older record, which does not say how many bytes it was fitted to.
    """
    fitted = point.precision == AUTO
    if fitted and point.max_bytes is None:
        return []
    train = ["edgerec", "train", data, "--backbone", settings["backbone"], "--method", point.method]
    if point.budget is not None and not fitted:
        train += ["--budget", point.budget]
    if "encoding" in settings:
        train += ["--encoding", settings["encoding"]]
    train += ["--precision", "fp32" if fitted else point.precision, "--dimensions", str(settings["dimensions"])]
    export = ["edgerec", "export", "runs/best", "--precision", point.precision]
    if fitted:
        export += ["--fit", "--max-bytes", str(point.max_bytes)]
    if not settings.get("users", True):
        export += ["--no-users"]
    return [
        shlex.join([*train, "--seed", "0", "--threads", "1", "--out", "runs/best"]),
        shlex.join([*export, "--out", "best.bundle"]),
    ]


def rival_sentences(points: Sequence[Point]) -> list[str]:
    """Return a sentence for each method that was no baseline and has no point on the front."""
    best, found = front(points), []
    for kind in dict.fromkeys(point.kind for point in points if not point.plain):
        own = [point for point in points if point.kind == kind]
        if any(point in best for point in own):
            continue
        point = max(own, key=lambda point: point.score)
        rival = max((other for other in best if other.nbytes <= point.nbytes), key=lambda other: other.score)
        found.append(
            f"{kind} is beaten at each of its sizes: its best has {point.score:.4f} in {format_bytes(point.nbytes)}, "
            f"where {rival.name} has {rival.score:.4f} in {format_bytes(rival.nbytes)}"
        )
    return found


COLUMNS = ("", "bytes", "NDCG@20", "seeds", "best plain", "layout")


BEATEN = tuple("beaten by" if name == "best plain" else name for name in COLUMNS)
"""Columns of the dominated points."""


def front_rows(points: Sequence[Point]) -> list[list[str]]:
    """Return a numbered row for each point of the front, with the best plain bundle that is no larger."""
    rows = []
    for number, point in enumerate(front(points), 1):
        plain = [other.score for other in points if other.plain and other.nbytes <= point.nbytes]
        rows.append(_row(f"{number}. {point.name}", point, f"{max(plain):.4f}" if plain else ""))
    return rows


def _row(name: str, point: Point, other: str) -> list[str]:
    return [name, format_bytes(point.nbytes), f"{point.score:.4f}", spread(point), other, point.layout]


def spread(point: Point) -> str:
    """Return '0.3841 to 0.3902', the least and the most of the seeds; empty for one seed."""
    low, high = min(point.scores), max(point.scores)
    return f"{low:.4f} to {high:.4f}" if len(point.scores) > 1 else ""


def dominated_rows(points: Sequence[Point]) -> list[list[str]]:
    """Return a row for each dominated point, with the point of the front that beats it."""
    best = front(points)
    rows = []
    for point in points:
        if point not in best:
            over = max((other for other in best if other.nbytes <= point.nbytes), key=lambda other: other.score)
            rows.append(_row(point.name, point, f"{best.index(over) + 1}. {over.name}"))
    return rows


def to_markdown(points: Sequence[Point]) -> str:
    """Return the front as a Markdown table."""
    return markdown(COLUMNS, front_rows(points)) + "\n"


def to_csv(points: Sequence[Point]) -> str:
    """Return every point as CSV, numbers in full."""
    best, stream = front(points), StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["method", "budget", "precision", "layout", "bytes", "ndcg@20", "least", "most", "front", "plain"])
    for point in points:
        scores = point.score, min(point.scores), max(point.scores)
        about = point.method, point.budget or "", point.precision, point.layout, point.nbytes
        table.writerow([*about, *scores, int(point in best), int(point.plain)])
    return stream.getvalue()
