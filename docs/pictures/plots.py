"""Draw the gallery: results of bench/results as lines and bars, in the colours of a light or a dark page.

usage, from the repository's root: python -m docs.pictures.plots [FOLDER]      (after a new result, too)
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.experiments.bundle_grid import best_precisions
from edgerec.budget import parse_bytes
from edgerec_bench.result.file import read_results
from edgerec_bench.result.scale import ScaleResult, scale_rows

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 620, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 52
LIGHT = ("#1d63b8", "#b3560b", "#2e7d32", "#8e24aa", "#00748a", "#b71c4a")
DARK = ("#6fb1ff", "#ffb066", "#7fd184", "#d79bf0", "#5fd0e6", "#ff8fab")
"""A colour for each series, each with a contrast of at least 4.5 to the page."""
MARKS = ("", "6 4", "2 3", "10 3 2 3", "1 5", "12 4")
"""A dash for each series: none differs by its colour alone."""
Points = Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """A scale of a plot, from the least to the largest value, with its ticks."""

    name: str
    ticks: Sequence[float]
    least: float
    most: float
    log: bool = False
    show: Callable[[float], str] = "{:g}".format

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        change = math.log if self.log else float
        return (change(value) - change(self.least)) / (change(self.most) - change(self.least))


def rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())["rows"]
    return found


def kib(value: float) -> str:
    return f"{value / 1024:g} KiB" if value < 1 << 20 else f"{value / (1 << 20):g} MiB"


def lines(title: str, across: Axis, up: Axis, series: Mapping[str, Points]) -> str:
    """Return a plot of lines as SVG, each with its name at its end."""
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    shapes = [f'<text x="{LEFT}" y="20" class="h">{title}</text>']
    for tick in up.ticks:
        y = TOP + high * (1 - up.place(tick))
        shapes.append(f'<path d="M{LEFT} {y:.1f}h{wide}" class="g"/>')
        shapes.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" class="n">{up.show(tick)}</text>')
    for tick in across.ticks:
        x = LEFT + wide * across.place(tick)
        shapes.append(
            f'<text x="{x:.1f}" y="{TOP + high + 18}" text-anchor="middle" class="n">{across.show(tick)}</text>'
        )
    shapes.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 12}" text-anchor="middle">{across.name}</text>')
    shapes.append(f'<text x="{LEFT}" y="{TOP - 6}" class="n">{up.name}</text>')
    ends: list[float] = []
    for number, (name, points) in enumerate(sorted(series.items(), key=lambda one: -one[1][-1][1])):
        at = [(LEFT + wide * across.place(x), TOP + high * (1 - up.place(y))) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
        shapes.append(f'<path d="M{path}" class="s s{number}" stroke-dasharray="{MARKS[number]}"/>')
        shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="f{number}"/>' for x, y in at]
        ends.append(max(at[-1][1] + 4, ends[-1] + 15 if ends else 0))  # names do not overlap
        shapes.append(f'<text x="{at[-1][0] + 9:.1f}" y="{ends[-1]:.1f}" class="f{number}">{name}</text>')
    return _svg(title, shapes, HEIGHT)


def bars(title: str, unit: str, values: Mapping[str, float], show: Callable[[float], str]) -> str:
    """Return a plot of horizontal bars as SVG, from zero, each with its name and value."""
    left, step = 190, 30
    wide = WIDTH - left - 90
    shapes = [f'<text x="12" y="20" class="h">{title}</text>', f'<text x="{left}" y="{TOP}" class="n">{unit}</text>']
    for number, (name, value) in enumerate(values.items()):
        y = TOP + 10 + number * step
        length = wide * value / max(values.values())
        first = name.startswith("EdgeRec")
        shapes.append(f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{name}</text>')
        shapes.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="22" class="f{0 if first else 1}"/>')
        shapes.append(f'<text x="{left + length + 8:.1f}" y="{y + 15}">{show(value)}</text>')
    return _svg(title, shapes, TOP + 22 + step * len(values))


def _svg(title: str, shapes: Sequence[str], height: int) -> str:
    def colours(those: Sequence[str]) -> str:
        return "".join(f".s{i}{{stroke:{one}}}.f{i}{{fill:{one}}}" for i, one in enumerate(those))

    style = (
        "text{font:12px system-ui,sans-serif;fill:#1f2430}.h{font-weight:600}.n{fill:#5b6475}.g{stroke:#d5d9e0}"
        f".s{{fill:none;stroke-width:2}}{colours(LIGHT)}"
        "@media(prefers-color-scheme:dark){text{fill:#e6e9ef}.n{fill:#a9b1c0}.g{stroke:#3a4150}" + colours(DARK) + "}"
    )
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{title}">\n<title>{title}</title>\n<style>{style}</style>\n{body}\n</svg>\n'
    )


SIZES = Axis("bytes of the bundle", [32 << 10, 64 << 10, 128 << 10], 24 << 10, 136 << 10, log=True, show=kib)


def trained() -> str:
    at: dict[str, list[tuple[float, float]]] = {}
    for row in rows("trained-ml-1m"):
        if row["limit"]:
            name = "with a user table (ials)" if row["users"] else "histories alone (svd)"
            if row["backbone"] == ("ials" if row["users"] else "svd"):
                at.setdefault(name, []).append((row["nbytes"], row["ndcg"]))
    across = Axis("bytes of the bundle", [1 << 16, 1 << 17, 1 << 18], 56 << 10, 350 << 10, log=True, show=kib)
    up = Axis("NDCG@20", [0.28, 0.32, 0.36, 0.40], 0.28, 0.44, show="{:.2f}".format)
    return lines("MovieLens-1M: what a byte buys, with and without users", across, up, at)


def item_only() -> str:
    at: dict[str, list[tuple[float, float]]] = {}
    for row in rows("item-only") + rows("item-only-96"):
        if row["size"].endswith("KiB"):
            at.setdefault(row["backbone"], []).append((row["bytes"]["mean"], row["ndcg@20"]["mean"]))
    up = Axis("NDCG@20", [0.34, 0.36, 0.38, 0.40, 0.42], 0.33, 0.43, show="{:.2f}".format)
    return lines("MovieLens-1M: bundles of item vectors alone, by backbone", SIZES, up, at)


def sparse() -> str:
    at: dict[str, list[tuple[float, float]]] = {}
    for row in rows("sparse-quality"):
        if (row["data"], row["backbone"]) == ("ml-1m", "lightgcn"):
            at.setdefault(row["method"], []).append((-float(row["budget"][:-1]), row["ndcg@20"]["mean"]))
    across = Axis("values that remain", [-20, -10, -5], -21, -4, show=lambda value: f"{-value:g} %")
    least = min(y for points in at.values() for _, y in points)
    most = max(y for points in at.values() for _, y in points)
    ticks = [tick / 100 for tick in range(0, 50, 5) if least <= tick / 100 <= most]
    up = Axis("NDCG@20, mean of three seeds", ticks, least - 0.01, most + 0.01, show="{:.2f}".format)
    return lines("MovieLens-1M, LightGCN: six ways to fewer values", across, up, at)


def streams() -> str:
    found = {row["method"]: row["segments"] for row in rows("streams-ml-1m") if row["budget"] == "10%"}
    at = {name: [(i + 1, one["ndcg@20"]) for i, one in enumerate(segments)] for name, segments in found.items()}
    up = Axis("NDCG@20", [0.10, 0.12, 0.14, 0.16], 0.085, 0.16, show="{:.2f}".format)
    across = Axis("segment of the stream", range(1, 9), 1, 8)
    return lines("MovieLens-1M as a stream, at a tenth of the values", across, up, at)


def scale() -> str:
    (result,) = read_results(ROOT / "bench" / "results" / "scale-1m.json")
    assert isinstance(result, ScaleResult)
    wanted = ("plain dense ONNX", "faiss SQ8", "EdgeRec dense int8", "EdgeRec mixed fp32", "EdgeRec mixed int8")
    times = dict(scale_rows(result, ("", "p50 ms")))
    values = {name: float(times[name]) for name in wanted}
    return bars("One million items x 64: the 20 best", "milliseconds, one thread", values, "{:.2f}".format)


def first_answer() -> str:
    names = {"kernel": "EdgeRec's kernel", "onnxruntime-web": "onnxruntime-web"}
    values = {names[row["library"]]: row["together_ms"] for row in rows("first-answer")}
    return bars("A page: from import to the first answer", "milliseconds in Chromium", values, "{:.0f}".format)


TITLES = {
    "ml-100k": "MovieLens-100K",
    "ml-1m": "MovieLens-1M",
    "lastfm-hetrec": "Last.fm",
    "amazon-beauty": "Amazon Beauty",
}
WAYS = ("svd, fitted", "svd, by popularity", "ials, fitted", "ials, equal rows", "ials, user table", "lae")
"""The ways that are drawn, of those that the experiment compares."""


def ways(data: str) -> str:
    """Draw the best precision of each way to make a bundle, by the limit of its size."""
    at: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for (of, size), scores in best_precisions(rows("bundle-grid")).items():
        for name in WAYS if of == data else ():
            if name in scores:
                at[name].append((parse_bytes(size), scores[name]))
    points = {name: sorted(found) for name, found in at.items() if found}
    most = max(y for found in points.values() for _, y in found)
    # Points a third below the best would flatten the rest.
    points = {name: [(x, y) for x, y in found if y > 0.66 * most] for name, found in points.items()}
    step = 0.01 if most < 0.1 else 0.04 if most < 0.3 else 0.05
    ticks = [step * tick for tick in range(100) if 0.64 * most < step * tick <= 1.01 * most]
    up = Axis("NDCG@20", ticks, 0.64 * most, 1.02 * most, show="{:.2f}".format)
    across = Axis("size of the bundle", [4.0**k * 16384 for k in range(4)], 14 << 10, 2300 << 10, log=True, show=kib)
    return lines(f"{TITLES[data]}: ways to a bundle of a size", across, up, points)


PLOTS: dict[str, Callable[[], str]] = {
    **{f"ways-{data}": partial(ways, data) for data in TITLES},
    "trained": trained,
    "item-only": item_only,
    "sparse": sparse,
    "streams": streams,
    "scale": scale,
    "first-answer": first_answer,
}


def main(arguments: Sequence[str]) -> None:
    """Write every plot."""
    folder = Path(arguments[0]) if arguments else Path(__file__).parent
    for name, draw in PLOTS.items():
        (folder / f"plot-{name}.svg").write_text(draw())


if __name__ == "__main__":
    main(sys.argv[1:])
