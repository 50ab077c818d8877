"""Charts of a page, of results, runs and searches: each only if enough of them have its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RunError
from edgerec.training import Run
from edgerec_bench.reports.charts import (
    INK,
    SERIES,
    bands,
    colour_of,
    drawing,
    legend_height,
    marker_of,
    over_time,
    percentile_curves,
    scatter,
    stacked_bars,
    width_shares,
    with_legend,
)
from edgerec_bench.reports.headline import altered
from edgerec_bench.reports.search import SearchFigures
from edgerec_bench.result import CLOCKS, Clock, Result, ScaleResult

MEMORY = {"anonymous": "RssAnon", "file-backed": "RssFile"}


@dataclass(frozen=True)
class Plot:
    """A chart, and the sentence under it.

    Attributes:
        svg: an <svg> element.
    """

    caption: str
    svg: str


def plots(results: Sequence[Result]) -> list[Plot]:
    """Every chart that these results have the figures for."""
    drawn = [*_against_bytes(results), *_latencies(results), *_sustained(results)]
    return [*drawn, *_memory(results), _parts(results), *_widths(results)]


def size_plot(name: str, run: Run) -> Plot | None:
    """A run's sizes against popularity; None where it does not keep the counts. Raises RunError."""
    found = size_bands(run)
    if not found:
        return None
    origin = ", ".join(str(run.config[part]) for part in ("data", "backbone", "method", "budget") if run.config[part])
    unseen = unseen_rows(run)
    caption = f"{name} ({origin}): medians and the middle 80 % of each doubling of interactions in training."
    if unseen:
        caption += f" {unseen:,} rows without an interaction are left out."
    return Plot(caption, bands(found, x_label="interactions of a row", y_label="values of a row"))


def _against_bytes(results: Sequence[Result]) -> Iterator[Plot]:
    quality = _points(results, _quality, "test NDCG@20")
    if quality:
        caption = "Quality of the trained tables against the bytes of the bundle."
        if changed := [result.bundle.name for result in results if altered(result)]:
            caption += f" Not shown, because export rounded or shortened their tables: {', '.join(changed)}."
        yield Plot(caption, quality)
    for clock in CLOCKS.values():
        times = _points(results, partial(_median, clock), f"recommend p50, {clock.unit}")
        if times:
            yield Plot(f"{clock.a_call} of one recommendation, median.", times)
    label = "peak above a bare session"
    peaks = _points(results, lambda result: result.measured.above_bare("VmHWM"), label, y_bytes=True)
    if peaks:
        yield Plot("Memory that the bundle costs at its peak.", peaks)


def _quality(result: Result) -> float | None:
    return None if altered(result) else result.bundle.metric("ndcg@20")


def _median(clock: Clock, result: Result) -> float | None:
    return result.measured.figure("recommend", "p50_ms") if result.clock is clock else None


def _points(
    results: Sequence[Result], figure: Callable[[Result], float | None], y_label: str, *, y_bytes: bool = False
) -> str:
    """Draw the bundles that have the figure; return an empty text if none has it."""
    values = [figure(result) for result in results]
    if all(value is None for value in values):
        return ""
    names, nbytes = [result.bundle.name for result in results], [float(result.bundle.nbytes) for result in results]
    return scatter(names, nbytes, values, x_label="size of the bundle", y_label=y_label, y_bytes=y_bytes)


def _latencies(results: Sequence[Result]) -> Iterator[Plot]:
    for clock in CLOCKS.values():
        curves = {r.bundle.name: r.measured.curve() if r.clock is clock else {} for r in results}
        if any(curves.values()):
            caption = "How recommend's warm calls are distributed, medians over processes."
            yield Plot(caption, percentile_curves(curves, y_label=f"recommend, {clock.unit}"))


def _sustained(results: Sequence[Result]) -> Iterator[Plot]:
    """Calls, clock and temperature second by second, each where it was read."""
    figures = {
        "p50_ms": ("recommend p50, ms", "Recommend without a pause, the median of each second."),
        "mhz": ("clock, MHz", "The clock of the first core meanwhile."),
        "temperature_c": ("hottest zone, °C", "The temperature meanwhile."),
    }
    for name, (label, caption) in figures.items():
        series = {result.bundle.name: _seconds(result, name) for result in results}
        if any(series.values()):
            yield Plot(caption, over_time(series, y_label=label))


def _seconds(result: Result, figure: str) -> list[tuple[float, float]]:
    windows = result.measured.windows
    return [(window.at_s, value) for window in windows if (value := getattr(window, figure)) is not None]


def _memory(results: Sequence[Result]) -> Iterator[Plot]:
    names = [result.bundle.name for result in results]
    parts = {part: [result.measured.above_bare(name) for result in results] for part, name in MEMORY.items()}
    known = {part: [size for size in sizes if size is not None] for part, sizes in parts.items()}
    if all(len(sizes) == len(names) for sizes in known.values()):
        svg = stacked_bars(names, known, x_label="resident above a bare session")
        yield Plot("File-backed memory is shared between processes, and the system takes it back when it must.", svg)


def _parts(results: Sequence[Result]) -> Plot:
    """Draw the largest parts of the bundles, as many as there are colours; all others are 'the rest'."""
    bundles = [result.bundle for result in results]
    sizes = {
        part: [bundle.parts.get(part, 0) for bundle in bundles]
        for part in dict.fromkeys(part for bundle in bundles for part in bundle.parts)
    }
    shares = {
        part: max(size / bundle.nbytes for size, bundle in zip(column, bundles, strict=True))
        for part, column in sizes.items()
    }
    # A part of less than a hundredth of every bundle would only fill the legend.
    large = sorted((part for part in shares if shares[part] >= 0.01), key=lambda part: -shares[part])
    parts = {part: sizes[part] for part in sizes if part in large[: len(SERIES) - 1]}
    known = zip(*parts.values(), strict=True)
    rest = [bundle.nbytes - sum(column) for bundle, column in zip(bundles, known, strict=True)]
    if max(rest) > 0:
        parts["the rest"] = rest
    names = [bundle.name for bundle in bundles]
    return Plot("Bytes of a bundle by part.", stacked_bars(names, parts, x_label="size of the bundle"))


def _widths(results: Sequence[Result]) -> Iterator[Plot]:
    blocks = {result.bundle.name: result.bundle.item_blocks for result in results if result.bundle.item_blocks}
    if blocks:
        svg = width_shares(blocks, x_label="items by width of their row, %")
        yield Plot("Items by the number of values in their row: the number in a part is the width.", svg)


def scale_plots(result: ScaleResult) -> list[Plot]:
    """Draw a comparison at scale: milliseconds of a recommendation against bytes, a point a contender."""
    names, nbytes = [one.name for one in result.contenders], [float(one.nbytes) for one in result.contenders]
    calls = [one.measured.latency() for one in result.contenders]
    svg = scatter(names, nbytes, calls, x_label="size of all files", y_label="recommend p50, ms", y_log=True)
    return [Plot("Time of one recommendation, median, against bytes; both axes are logarithmic.", svg)]


SHARES = (0.1, 0.5, 0.9)
"""The ends of a band and its middle: eight rows in ten lie inside."""


def size_bands(run: Run) -> dict[str, NDArray[np.float64]]:
    """The bands of 'items' and of 'users', each where the run has such a table and its counts.

    Returns (4, bins) by side: median interactions of a bin's rows, then the sizes that 10, 50 and 90 % of them do not
    exceed. A bin reaches from a power of two to below the next; empty ones are left out, and so are rows without an
    interaction, which have no place on a logarithmic axis.

    Raises RunError where counts and tables do not fit together.
    """
    return {side: _band(counts[counts > 0], sizes[counts > 0]) for side, counts, sizes in _sides(run) if counts.any()}


def unseen_rows(run: Run) -> int:
    """Rows of both sides without an interaction. Raises as `size_bands` does."""
    return sum(int((counts == 0).sum()) for _, counts, _ in _sides(run))


def _sides(run: Run) -> Iterator[tuple[str, NDArray[np.uint32], NDArray[np.int64]]]:
    for side, table, counts in (("items", run.items, run.item_counts), ("users", run.users, run.user_counts)):
        if table is None or counts is None:
            continue
        if counts.shape != (table.n_rows,):
            raise RunError(f"the run has {table.n_rows} {side} and counts {counts.size}: it is damaged; train it again")
        yield side, counts, table.sizes()


def _band(counts: NDArray[np.uint32], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    _, doublings = np.frexp(counts)
    bins = [doublings == number for number in np.unique(doublings)]
    return np.array([[np.median(counts[inside]), *np.quantile(sizes[inside], SHARES)] for inside in bins]).T


_MIDDLE = (0.1, 0.9)
"""Ends of the band that eight actions in ten lie in."""
_SPREAD = 1e-3
"""Densities that differ by less are one."""


def search_plots(name: str, search: SearchFigures) -> Iterator[Plot]:
    """Every chart that the search has the figures for."""
    yield Plot(_summary(name, search), _fitness(search))
    yield Plot(
        f"{name}: mean sizes by popularity of the fittest action, and where eight in ten of all actions lie.",
        _sizes(search),
    )
    if max(search.densities) - min(search.densities) > _SPREAD:
        yield Plot(f"{name}: the density of each action, its share of all values.", _densities(search))
    if (correlation := search.rank_correlation) is not None:
        caption = f"{name}: true fitness against its prediction. Rank correlation {correlation:.2f}."
        yield Plot(caption, _predictions(search))


def _summary(name: str, search: SearchFigures) -> str:
    text = f"{name}: fitness of {len(search.fitness)} actions, evaluated in {search.seconds:,.0f} s"
    if search.best_at is not None:
        text += f"; the best is {search.fitness[search.best_at]:.4f}, after {search.best_at + 1}"
    if search.trained:
        text += f". Eval of those that were trained in full: {', '.join(f'{value:.4f}' for value in search.trained)}"
    return f"{text}."


def _fitness(search: SearchFigures) -> str:
    kinds = list(dict.fromkeys(search.strategies))
    with drawing(3.2 + legend_height([*kinds, "best so far"])) as (figure, axes):
        for number, kind in enumerate(kinds):
            at = [place for place, strategy in enumerate(search.strategies) if strategy == kind]
            axes.scatter(
                [place + 1 for place in at],
                [search.fitness[place] for place in at],
                s=22,
                marker=marker_of(number),
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
    with drawing(3.2 + legend_height(search.sizes)) as (figure, axes):
        for number, (side, listed) in enumerate(search.sizes.items()):
            low, high = np.quantile(np.array(listed), _MIDDLE, axis=0)
            axes.fill_between(parts, low, high, color=colour_of(number), alpha=0.2, linewidth=0)
            axes.plot(parts, listed[best], color=colour_of(number), marker=marker_of(number), label=side, linewidth=2)
        axes.set_xticks(parts)
        axes.set_xlabel("tenth of the rows, the least popular first")
        axes.set_ylabel("values of a row")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.18, color=INK)
        return with_legend(figure, "sizes against popularity")


def _densities(search: SearchFigures) -> str:
    with drawing(3.2 + legend_height(["density"])) as (figure, axes):
        places = range(1, len(search.densities) + 1)
        axes.plot(places, [100 * value for value in search.densities], color=colour_of(0), label="density", linewidth=2)
        axes.set_xlabel("iteration")
        axes.set_ylabel("density, % of the values")
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
