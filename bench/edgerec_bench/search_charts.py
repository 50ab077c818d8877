"""Charts of a search: fitness against iteration, sizes against popularity, predicted against true fitness."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgerec_bench.charts import INK, MARKERS, colour_of, drawing, legend_height, with_legend
from edgerec_bench.plots import Plot
from edgerec_bench.search_figures import SearchFigures

_MIDDLE = (0.1, 0.9)
"""Ends of the band that eight actions in ten lie in."""
_SPREAD = 1e-3
"""Densities that differ by less are one."""


def search_plots(name: str, search: SearchFigures) -> Iterator[Plot]:
    """Every chart that the search has the figures for."""
    yield Plot(_told(name, search), _fitness(search))
    yield Plot(
        f"{name}: mean sizes by popularity of the fittest action, and where eight in ten of all actions lie.",
        _sizes(search),
    )
    if max(search.densities) - min(search.densities) > _SPREAD:
        yield Plot(f"{name}: the share of the values that each action keeps.", _densities(search))
    if (correlation := search.rank_correlation) is not None:
        caption = f"{name}: each fitness as it was predicted before it was known. Rank correlation {correlation:.2f}."
        yield Plot(caption, _predictions(search))


def _told(name: str, search: SearchFigures) -> str:
    text = f"{name}: fitness of {len(search.fitness)} actions, judged in {search.seconds:,.0f} s"
    if search.best_at is not None:
        text += f"; the best is {search.fitness[search.best_at]:.4f}, after {search.best_at + 1}"
    if search.trained:
        text += f". Eval of those that were trained in full: {', '.join(f'{value:.4f}' for value in search.trained)}"
    return f"{text}."


def _fitness(search: SearchFigures) -> str:
    kinds = list(dict.fromkeys(search.strategies))
    with drawing(3.2 + legend_height(len(kinds) + 1)) as (figure, axes):
        for number, kind in enumerate(kinds):
            at = [place for place, strategy in enumerate(search.strategies) if strategy == kind]
            axes.scatter(
                [place + 1 for place in at],
                [search.fitness[place] for place in at],
                s=22,
                marker=MARKERS[number % len(MARKERS)],
                color=colour_of(number),
                label=kind,
                zorder=3,
            )
        known = [(place + 1, value) for place, value in enumerate(search.best) if value is not None]
        if known:
            axes.step(*zip(*known, strict=True), where="post", color=INK, linewidth=1.2, label="best so far")
        axes.set_xlabel("iteration")
        axes.set_ylabel("fitness over full sizes")
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, "fitness against iteration")


def _sizes(search: SearchFigures) -> str:
    parts = np.arange(1, 11)
    best = search.best_at if search.best_at is not None else int(np.argmax(search.fitness))
    with drawing(3.2 + legend_height(2)) as (figure, axes):
        for number, (side, listed) in enumerate(search.sizes.items()):
            low, high = np.quantile(np.array(listed), _MIDDLE, axis=0)
            axes.fill_between(parts, low, high, color=colour_of(number), alpha=0.2, linewidth=0)
            axes.plot(parts, listed[best], color=colour_of(number), marker=MARKERS[number], label=side, linewidth=2)
        axes.set_xticks(parts)
        axes.set_xlabel("tenth of the rows, the least popular first")
        axes.set_ylabel("values of a row")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, "sizes against popularity")


def _densities(search: SearchFigures) -> str:
    with drawing(3.2 + legend_height(1)) as (figure, axes):
        places = range(1, len(search.densities) + 1)
        axes.plot(places, [100 * value for value in search.densities], color=colour_of(0), label="kept", linewidth=2)
        axes.set_xlabel("iteration")
        axes.set_ylabel("values kept, %")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, "density against iteration")


def _predictions(search: SearchFigures) -> str:
    predicted, true = search.pairs
    with drawing(3.4) as (figure, axes):
        axes.scatter(predicted, true, s=22, color=colour_of(0), label="an action", zorder=3)
        axes.set_xlabel("predicted fitness")
        axes.set_ylabel("true fitness")
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, "true against predicted fitness")
