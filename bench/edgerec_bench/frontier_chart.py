"""The frontier as a chart: quality against bytes on a logarithmic axis, the front drawn through and numbered."""

from __future__ import annotations

from collections.abc import Sequence

from edgerec.budget import format_bytes
from edgerec_bench.charts import INK, MARKERS, colour_of, drawing, legend_height, whole_powers, with_legend
from edgerec_bench.frontier import Point, front

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
