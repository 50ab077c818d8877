"""The frontier as one self-contained page: the chart, the front by name, what it beats, where it was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgerec.budget import format_bytes
from edgerec.extras import require
from edgerec.files import write_bytes
from edgerec_bench.frontier import BEATEN, COLUMNS, Frontier, Point, dominated_rows, front, front_rows
from edgerec_bench.record import now
from edgerec_bench.reports.charts import INK, MARKERS, colour_of, drawing, legend_height, whole_powers, with_legend
from edgerec_devices import Local
from edgerec_devices.facts import MOMENTARY

require("jinja2", "bench")

from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: E402


def write_page(out: Path, frontier: Frontier) -> None:
    """Write the page `out`. Raises StorageError."""
    from edgerec_bench.reports.frontier_page import frontier_svg

    templates = Environment(loader=PackageLoader("edgerec_bench.reports"), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    seeds = frontier.settings["seeds"]
    mean = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    page = templates.get_template("frontier.html.jinja").render(
        title=frontier.title,
        subtitle=f"Test NDCG@20 of what the bundles answer, {mean}; made {now()}.",
        notes=frontier.notes,
        svg=frontier_svg(frontier.points),
        tables=[
            ("The front", COLUMNS, front_rows(frontier.points)),
            ("Beaten", BEATEN, dominated_rows(frontier.points)),
        ],
        facts=_facts(),
        command=frontier.command,
    )
    write_bytes(out, page.encode())


def _facts() -> dict[str, str]:
    return {
        name.replace("_", " "): format_bytes(value) if name.endswith("_bytes") else str(value)
        for name, value in Local().info().items()
        if name not in MOMENTARY
    }


HEIGHT = 4.0
PALE = 0.3
PLAIN_FRONT = "front of plain tables"


def frontier_svg(points: Sequence[Point]) -> str:
    """An <svg> element: a colour and a shape a kind, pale where another bundle beats it in both.

    The line is the front of all, the dashed one that of plain tables; whiskers are the least and the most of the seeds.
    """
    best, kinds = front(points), sorted({point.kind for point in points})
    with drawing(HEIGHT + legend_height(len(kinds) + 2)) as (figure, axes):
        axes.step(*_stairs(best, points), where="post", color=INK, linewidth=1.4, label="front", zorder=2)
        rivals = front(point for point in points if point.plain)
        if rivals:
            across, up = _stairs(rivals, points)
            axes.step(across, up, where="post", color=INK, linewidth=1.1, linestyle="--", alpha=0.6, label=PLAIN_FRONT)
        for number, name in enumerate(kinds):
            marker, colour = MARKERS[number % len(MARKERS)], colour_of(number)
            axes.scatter([], [], s=44, marker=marker, color=colour, label=name)
            for point in (point for point in points if point.kind == name):
                alpha = 1.0 if point in best else PALE
                ends = [[point.score - min(point.scores)], [max(point.scores) - point.score]]
                whiskers = ends if len(point.scores) > 1 else None
                axes.errorbar(
                    [point.nbytes], [point.score], yerr=whiskers, fmt=marker, markersize=6.5, color=colour,
                    alpha=alpha, elinewidth=1.2, capsize=2, zorder=4 if point in best else 3,
                )  # fmt: skip
        for number, point in enumerate(best, 1):
            # Up and to the left of a point on the front there is no other.
            place = (point.nbytes, point.score)
            axes.annotate(str(number), place, (-5, 3), textcoords="offset points", ha="right", fontsize=9)
        axes.set_xlabel("bytes of the bundle, all its files")
        axes.set_ylabel("test NDCG@20 of its answers")
        axes.set_xscale("log", base=2)
        axes.set_xlim(*whole_powers([point.nbytes for point in points]))
        axes.xaxis.set_major_formatter(lambda size, place: format_bytes(int(size)).replace(".0 ", " "))
        axes.margins(y=0.08)
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, "quality against bytes")


def _stairs(best: Sequence[Point], points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Corners of a front: what is best at a size stays so until a larger one is better."""
    across, up = [float(point.nbytes) for point in best], [point.score for point in best]
    return [*across, float(max(point.nbytes for point in points))], [*up, up[-1]]
