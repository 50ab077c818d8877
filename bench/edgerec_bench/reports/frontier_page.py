"""The frontier as one self-contained page: which bundle to ship, the chart, the front by name, and the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgerec.budget import format_bytes
from edgerec_bench.frontier import (
    BEATEN,
    COLUMNS,
    Frontier,
    Point,
    dominated_rows,
    front,
    front_rows,
    rival_sentences,
    to_ship,
)
from edgerec_bench.record import now
from edgerec_bench.reports.charts import (
    INK,
    WIDTH,
    add_legend,
    bytes_tick,
    colour_of,
    drawing,
    inline,
    legend_height,
    marker_of,
    name_points,
    whole_powers,
)
from edgerec_bench.reports.headline import quality_words, times_smaller
from edgerec_bench.reports.html import Cell, Column, bytes_cell, in_bytes, write_template
from edgerec_devices import Local
from edgerec_devices.facts import MOMENTARY

SHAPES = {"wide": (8.2, 4.6), "narrow": (WIDTH, 5.2)}
"""Inches of the charts: for screens, and for phones."""
PALE = 0.3
PLAIN_FRONT = "front of plain tables"
SHIP = "ship this"
LETTERS_PT = {"wide": 8.5, "narrow": 9.0}


def write_page(out: Path, frontier: Frontier) -> None:
    """Write the page `out`. Raises StorageError."""
    seeds, points, ship = frontier.settings["seeds"], frontier.points, frontier.ship()
    write_template(
        out,
        "frontier.html.jinja",
        title=ship_sentence(points),
        subject=frontier.title,
        protocol=f"Test NDCG@20 of the bundles' answers, {f'mean of {seeds} seeds' if seeds > 1 else 'one seed'}.",
        ship=[] if ship is None else ship[1],
        notes=frontier.notes,
        rivals=rival_sentences(points),
        charts={name: frontier_svg(points, name) for name in SHAPES},
        tables=[
            ("The front", [*map(Column, COLUMNS)], _rows(front_rows(points), front(points))),
            ("Beaten by a bundle of the front", [*map(Column, BEATEN)], _rows(dominated_rows(points), _beaten(points))),
        ],
        device={"measured": [now()], **_device()},
        command=frontier.command,
    )


def ship_sentence(points: Sequence[Point]) -> str:
    """Return the sentence that the page opens with: the bundle to ship, against the best of all."""
    point = to_ship(points)
    if point is None:
        return "No bundle could be measured."
    best = front(points)[-1]
    if point == best:
        return f"Ship {point.name}: {format_bytes(point.nbytes)}, and no larger bundle is better."
    size = times_smaller(point.nbytes, best.nbytes, f"the best ({best.name})")
    return f"Ship {point.name}: {format_bytes(point.nbytes)}, {size}, {quality_words(point.score / best.score - 1)}."


def _beaten(points: Sequence[Point]) -> list[Point]:
    best = front(points)
    return [point for point in points if point not in best]


def _rows(rows: Sequence[Sequence[str]], points: Sequence[Point]) -> list[list[Cell]]:
    """Return the rows with the exact bytes of their points."""
    place = COLUMNS.index("bytes")
    return [
        [bytes_cell(point.nbytes) if number == place else Cell(text) for number, text in enumerate(row)]
        for row, point in zip(rows, points, strict=True)
    ]


def _device() -> dict[str, list[str]]:
    return {
        name.replace("_", " "): [in_bytes(value) if name.endswith("_bytes") else str(value)]
        for name, value in Local().info().items()
        if name not in MOMENTARY
    }


def frontier_svg(points: Sequence[Point], shape: str = "wide") -> str:
    """Draw the points as an <svg> element: a colour and a shape a kind, pale if another bundle beats it in both.

    The line is the front of all, with the name of each of its points; the dashed line is the front of plain tables.
    Whiskers are the least and the most of the seeds.

    Args:
        shape: of `SHAPES`.
    """
    best, kinds = front(points), sorted({point.kind for point in points})
    width, height = SHAPES[shape]
    with drawing(height + legend_height([*kinds, "front", PLAIN_FRONT, SHIP]), width) as (figure, axes):
        axes.step(*_stairs(best, points), where="post", color=INK, linewidth=1.4, label="front", zorder=2)
        baselines = front(point for point in points if point.plain)
        if baselines:
            across, up = _stairs(baselines, points)
            axes.step(across, up, where="post", color=INK, linewidth=1.1, linestyle="--", alpha=0.6, label=PLAIN_FRONT)
        for number, name in enumerate(kinds):
            marker, colour = marker_of(number), colour_of(number)
            axes.scatter([], [], s=44, marker=marker, color=colour, label=name)
            for point in (point for point in points if point.kind == name):
                alpha = 1.0 if point in best else PALE
                ends = [[point.score - min(point.scores)], [max(point.scores) - point.score]]
                whiskers = ends if len(point.scores) > 1 else None
                axes.errorbar(
                    [point.nbytes], [point.score], yerr=whiskers, fmt=marker, markersize=6.5, color=colour,
                    alpha=alpha, elinewidth=1.2, capsize=2, zorder=4 if point in best else 3,
                )  # fmt: skip
        ship = to_ship(points)
        if ship is not None:
            axes.scatter(
                ship.nbytes, ship.score, s=190, facecolors="none", edgecolors=INK, linewidths=1.4, label=SHIP, zorder=5
            )
        axes.set_xlabel("bytes of the bundle, all its files")
        axes.set_ylabel("test NDCG@20 of its answers")
        axes.set_xscale("log", base=2)
        axes.set_xlim(*whole_powers([point.nbytes for point in points]))
        axes.xaxis.set_major_formatter(bytes_tick)
        low, high = min(min(point.scores) for point in points), max(max(point.scores) for point in points)
        room = max(high - low, 0.01 * high, 1e-6)
        axes.set_ylim(low - 0.06 * room, high + 0.34 * room)
        axes.grid(alpha=0.18, color=INK)
        add_legend(figure)
        name_points(
            figure,
            {point.name: (point.nbytes, point.score) for point in best},
            size=LETTERS_PT[shape],
        )
        return inline(figure, "quality against bytes")


def _stairs(best: Sequence[Point], points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Return the corners of a front: the best of a size stays so until a larger one is better."""
    across, up = [float(point.nbytes) for point in best], [point.score for point in best]
    return [*across, float(max(point.nbytes for point in points))], [*up, up[-1]]
