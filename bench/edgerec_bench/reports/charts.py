"""Charts as inline SVG in the page's colours, light or dark. They take numbers and names, and know no results."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
from textwrap import fill, wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import format_bytes
from edgerec.extras import require

require("matplotlib", "bench")

from matplotlib import rc_context  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.axis import Axis  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Annotation, Text  # noqa: E402
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator  # noqa: E402
from matplotlib.transforms import Bbox  # noqa: E402

INK, POINT = "#010203", "#040506"
"""Stand-ins that the page's own colours replace."""
SERIES = [f"#0a0b0{number}" for number in range(8)]
"""Stand-ins of the colours of series, one a bundle or a part; more than eight begin again with the first."""

MARKERS = "osD^vPX*"
LETTERS = 22
"""Letters of a name that fit into half a chart's width: two columns of a legend, or the names of bars. Longer ones are
broken into lines, and make the legend one column."""

NARROW = 4
"""Times that the smallest value of a curve is below the largest, up to which its axis is linear."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgerec",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 10,
}

WIDTH = 4.8
"""Inches; the page scales charts to their place."""


def scatter(
    names: Sequence[str],
    x: Sequence[float],
    y: Sequence[float | None],
    *,
    x_label: str,
    y_label: str,
    y_bytes: bool = False,
    y_log: bool = False,
) -> str:
    """Draw one point a bundle, of a colour and a shape of its own: an <svg> element.

    Args:
        x: bytes, above 0.
        y: None leaves the bundle out, and its colour to it in other charts.
        y_bytes: y is in bytes.
        y_log: draw y on a logarithmic axis; all are above 0.
    """
    points = [
        (number, name, right, high)
        for number, (name, right, high) in enumerate(zip(names, x, y, strict=True))
        if high is not None
    ]
    with drawing(3.2 + legend_height([name for _, name, *_ in points])) as (figure, axes):
        for number, name, right, high in points:
            marker = marker_of(number)
            axes.scatter(right, high, s=64, marker=marker, color=colour_of(number), label=name, zorder=3)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        # Bundles differ by powers of two; a linear axis would heap the small ones up.
        axes.set_xscale("log", base=2)
        axes.set_xlim(*whole_powers([right for _, _, right, _ in points]))
        axes.xaxis.set_major_formatter(bytes_tick)
        if y_log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        else:
            top = max([*(high for *_, high in points), 1e-9]) * 1.2
            axes.set_ylim(bottom=0, top=top)
            if y_bytes:
                _bytes_axis(axes.yaxis, top)
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, f"{y_label} against {x_label}")


def percentile_curves(curves: Mapping[str, Mapping[float, float]], *, y_label: str) -> str:
    """Draw one line a bundle: milliseconds by percentile, the tail stretched so that 90, 99, ... are equally far apart.

    A bundle with an empty curve is left out, and its colour to it in other charts.
    """
    with drawing(3.2 + legend_height(curves)) as (figure, axes):
        for number, (name, curve) in enumerate(curves.items()):
            if not curve:
                continue
            across = [_nines(percentile) for percentile in curve]
            axes.plot(across, list(curve.values()), color=colour_of(number), label=name, linewidth=2)
        axes.set_xticks([_nines(percentile) for percentile in (1, 50, 90, 95, 99)], ["1", "50", "90", "95", "99"])
        axes.set_xlabel("percentile of the warm calls")
        axes.set_ylabel(y_label)
        reached = [value for curve in curves.values() for value in curve.values()]
        if max(reached) > NARROW * min(reached):  # on a narrower logarithmic axis no number would stand
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.18, color=INK)
        axes.minorticks_off()
        return with_legend(figure, f"{y_label} by percentile")


def stacked_bars(names: Sequence[str], parts: Mapping[str, Sequence[float]], *, x_label: str) -> str:
    """Draw one bar of bytes a bundle, its parts one after the other; a part below zero is shown as zero."""
    with drawing(1.2 + 0.42 * len(names) + legend_height(parts)) as (figure, axes):
        reached = [0.0] * len(names)
        for number, (part, sizes) in enumerate(parts.items()):
            lengths = [max(size, 0.0) for size in sizes]
            axes.barh(range(len(names)), lengths, left=reached, height=0.6, color=colour_of(number), label=part)
            reached = [before + length for before, length in zip(reached, lengths, strict=True)]
        _name_bars(axes, names)
        _bytes_axis(axes.xaxis, max(reached))
        axes.set_xlabel(x_label)
        axes.grid(axis="x", alpha=0.18, color=INK)
        return with_legend(figure, x_label)


def width_shares(blocks: Mapping[str, Sequence[tuple[int, int]]], *, x_label: str) -> str:
    """Draw one bar a bundle: which share of its rows has which width; wider rows are drawn stronger.

    Args:
        blocks: by bundle, (width, rows) of each block.
    """
    widest = max(width for pairs in blocks.values() for width, _ in pairs)
    with drawing(1.1 + 0.42 * len(blocks)) as (figure, axes):
        for place, pairs in enumerate(blocks.values()):
            total, reached = sum(rows for _, rows in pairs), 0.0
            for width, rows in sorted(pairs):
                share = 100 * rows / max(total, 1)
                strength = 0.15 + 0.75 * math.log1p(width) / math.log1p(max(widest, 1))
                axes.barh(place, share, left=reached, height=0.6, color=POINT, alpha=strength, linewidth=0)
                if share >= 4:
                    axes.text(reached + share / 2, place, str(width), ha="center", va="center", fontsize=10)
                reached += share
        _name_bars(axes, list(blocks))
        axes.set_xlim(0, 100)
        axes.set_xlabel(x_label)
        return inline(figure, x_label)


def bands(series: Mapping[str, NDArray[np.float64]], *, x_label: str, y_label: str) -> str:
    """Draw one line a series, and the band around it, over a logarithmic axis: an <svg> element.

    Args:
        series: by name, (4, n): places on the axis, above 0, the band's lower ends, the line, the upper ends.
    """
    with drawing(3.2 + legend_height(series)) as (figure, axes):
        for number, (name, (across, low, middle, high)) in enumerate(series.items()):
            colour, marker = colour_of(number), marker_of(number)
            axes.fill_between(across, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(across, middle, color=colour, marker=marker, label=name, linewidth=2)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_ylim(bottom=0, top=1.1 * max(band.max() for _, *ends in series.values() for band in ends))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
        axes.grid(alpha=0.18, color=INK)
        axes.minorticks_off()
        return with_legend(figure, f"{y_label} against {x_label}")


def over_time(series: Mapping[str, Sequence[tuple[float, float]]], *, y_label: str) -> str:
    """Draw one line a bundle, of (seconds, value); a bundle without values is left out, its colour unused."""
    with drawing(3.2 + legend_height(series)) as (figure, axes):
        for number, (name, points) in enumerate(series.items()):
            if points:
                across, up = zip(*points, strict=True)
                axes.plot(across, up, color=colour_of(number), label=name, linewidth=2)
        axes.set_xlabel("seconds")
        axes.set_ylabel(y_label)
        axes.set_ylim(bottom=0, top=1.15 * max(value for points in series.values() for _, value in points))
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, f"{y_label} over time")


def by_step(
    series: Mapping[str, Sequence[float]], *, y_label: str, x_label: str = "segment", y_bytes: bool = False
) -> str:
    """Draw one line a series, its values at 0, 1, ...: an <svg> element. With `y_bytes` the values are bytes."""
    with drawing(3.2 + legend_height(series)) as (figure, axes):
        for number, (name, values) in enumerate(series.items()):
            colour, marker = colour_of(number), marker_of(number)
            axes.plot(range(len(values)), values, color=colour, marker=marker, label=name, linewidth=2)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        top = 1.1 * max([1e-9, *(value for values in series.values() for value in values)])
        axes.set_ylim(bottom=0, top=top)
        if y_bytes:
            _bytes_axis(axes.yaxis, top)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, f"{y_label} by {x_label}")


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure of the page's style, of `width` times `height` inches, with one pair of axes."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def with_legend(figure: Figure, title: str) -> str:
    """Return the figure as inline SVG, with its legend below the axes."""
    add_legend(figure)
    return inline(figure, title)


def add_legend(figure: Figure) -> None:
    """Put a legend below the axes; a name that is too long for its column is broken into lines."""
    handles, names = figure.axes[0].get_legend_handles_labels()
    columns = _legend_columns(names)
    lines = [fill(name, 2 * LETTERS // columns) for name in names]
    figure.legend(handles, lines, loc="outside lower center", ncols=columns, handlelength=1.4)


def name_points(figure: Figure, points: Mapping[str, tuple[float, float]], *, size: float) -> None:
    """Write the names of points of a front up and to the left of them, where a front leaves room.

    Names that would overlap are raised, with a line to their point. The horizontal axis, of base 2, grows to the left
    so that the first names fit. To be called last: what changes the axes afterwards moves the points.

    Args:
        points: place of each by its name, from left to right.
        size: of the letters, in points.
    """
    (axes,) = figure.axes
    line = {"arrowstyle": "-", "color": INK, "alpha": 0.35, "linewidth": 0.7}
    near: dict[str, Any] = {"xytext": (-5, 3), "textcoords": "offset points", "ha": "right"}
    names = [axes.annotate(name, place, fontsize=size, arrowprops=line, **near) for name, place in points.items()]
    figure.draw_without_rendering()
    left, right = (math.log2(end) for end in axes.get_xlim())
    first = math.log2(min(across for across, _ in points.values()))
    share = min((max(_box(name).width for name in names[:3]) + 12) / axes.get_window_extent().width, 0.6)
    axes.set_xlim(2 ** min(left, (first - share * right) / (1 - share)), 2**right)
    figure.draw_without_rendering()
    placed: list[Bbox] = []
    for name in names:
        raised = 3.0
        while any(_box(name).overlaps(other) for other in placed):
            raised += 1.5
            name.xyann = (-5, raised)
        if raised == 3.0 and name.arrow_patch is not None:
            name.arrow_patch.set_visible(False)
        placed.append(_box(name))


def _box(name: Annotation) -> Bbox:
    """Return the place of a name's text in pixels, with some room around it."""
    figure = name.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    name.update_positions(renderer)
    return Text.get_window_extent(name, renderer).expanded(1.04, 1.05)


def whole_powers(sizes: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis just outside the powers of two around the sizes, so that two at least have their ticks."""
    low, high = math.floor(math.log2(min(sizes))), math.ceil(math.log2(max(sizes)))
    margin = 0.06 * max(high - low, 1)
    return 2 ** (low - margin), 2 ** (max(high, low + 1) + margin)


def legend_height(names: Collection[str]) -> float:
    """Return the inches that a legend of these names takes."""
    columns = _legend_columns(names)
    lines = max((len(wrap(name, 2 * LETTERS // columns)) for name in names), default=1)
    return 0.22 * lines * math.ceil(len(names) / columns)


def _legend_columns(names: Iterable[str]) -> int:
    return 2 if all(len(name) <= LETTERS for name in names) else 1


def bytes_tick(size: float, place: object = None) -> str:
    """Return the text of a tick: '64 KiB'."""
    return format_bytes(int(size)).replace(".0 ", " ")


def _bytes_axis(axis: Axis, top: float) -> None:
    """Give an axis from 0 to `top` bytes at most four steps, each a power of two."""
    step = 2.0 ** math.ceil(math.log2(max(top, 1) / 4))
    axis.set_major_locator(MultipleLocator(step if top > 2 * step else step / 2))
    axis.set_major_formatter(bytes_tick)


def colour_of(number: int) -> str:
    """Return the colour of a series by its number; after the last colour the first follows."""
    return SERIES[number % len(SERIES)]


def marker_of(number: int) -> str:
    """Return the shape of a series by its number; no two of 64 share both colour and shape."""
    return MARKERS[(number + number // len(SERIES)) % len(MARKERS)]


def _nines(percentile: float) -> float:
    """How many nines: 90 is one, 99 is two."""
    return -math.log10(1 - percentile / 100)


def _name_bars(axes: Axes, names: Sequence[str]) -> None:
    """Write the names next to the bars, the first bundle on top, as in the table."""
    axes.set_yticks(range(len(names)), [fill(name, LETTERS) for name in names])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def inline(figure: Figure, title: str) -> str:
    """Return the figure as an <svg> element in the page's colours."""
    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    opening = rf'<svg viewBox="\1" role="img" aria-label="{escape(title)}">'
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', opening, text, count=1)
    for number, colour in enumerate(SERIES):
        text = text.replace(colour, f"var(--series-{number})")
    # Without its own namespaces (inline SVG needs none) the page names no address at all.
    return text.replace("xlink:href", "href").replace(INK, "currentColor").replace(POINT, "var(--accent)")
