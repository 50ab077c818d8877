"""Charts as inline SVG that takes the page's colours, light or dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

from edgerec.extras import require

require("matplotlib", "bench")

from matplotlib import rc_context  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

INK, POINT = "#010203", "#040506"
"""Stand-ins that the page's own colours replace."""

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
    "axes.spines.top": False,
    "axes.spines.right": False,
}

MEBIBYTE = 2**20


def scatter(
    names: Sequence[str], x: Sequence[float], y: Sequence[float], *, x_label: str, y_label: str, scale: float = 1.0
) -> str:
    """One point a bundle, its name beside it: an <svg> element.

    Args:
        x: bytes; shown in MiB.
        y: divided by `scale` before it is shown.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.3), layout="constrained")
        axes = figure.subplots()
        across, up = [value / MEBIBYTE for value in x], [value / scale for value in y]
        axes.scatter(across, up, s=48, color=POINT, zorder=3)
        middle = (max(across) * min(across)) ** 0.5
        # Neighbours' names go above and below in turn, and always towards the middle.
        for turn, place in enumerate(sorted(range(len(names)), key=lambda place: across[place])):
            left, above = across[place] <= middle, turn % 2 == 0
            axes.annotate(
                names[place],
                (across[place], up[place]),
                (8 if left else -8, 6 if above else -14),
                textcoords="offset points",
                ha="left" if left else "right",
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(0.15)
        # Bundles differ by powers of two; a linear axis would heap the small ones up.
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0, top=max([*up, 1e-9]) * 1.2)
        axes.grid(alpha=0.18, color=INK)
        return _inline(figure, f"{y_label} against {x_label}")


def _inline(figure: Figure, title: str) -> str:
    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    opening = rf'<svg viewBox="\1" role="img" aria-label="{title}">'
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', opening, text, count=1)
    # Without its own namespaces (inline SVG needs none) the page names no address at all.
    return text.replace("xlink:href", "href").replace(INK, "currentColor").replace(POINT, "var(--accent)")
