"""Which charts a page shows, of results and of runs: each only where enough of them have its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from edgerec.training import Run
from edgerec_bench.charts import SERIES, bands, over_time, percentile_curves, scatter, stacked_bars, width_shares
from edgerec_bench.result import Result
from edgerec_bench.run_sizes import size_bands, unseen_rows
from edgerec_bench.units import CLOCKS, Clock

MEBIBYTE = 2**20
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
    quality = _points(results, lambda result: result.bundle.metric("ndcg@20"), "test NDCG@20")
    if quality:
        yield Plot("Quality of the trained tables against what ships.", quality)
    for clock in CLOCKS.values():
        times = _points(results, partial(_median, clock), f"recommend p50, {clock.unit}")
        if times:
            yield Plot(f"{clock.a_call} of one recommendation, median.", times)
    label = "peak above a bare session, MiB"
    peaks = _points(results, lambda result: result.measured.above_bare("VmHWM"), label, MEBIBYTE)
    if peaks:
        yield Plot("Memory that the bundle costs at its peak.", peaks)


def _median(clock: Clock, result: Result) -> float | None:
    return result.measured.figure("recommend", "p50_ms") if result.clock is clock else None


def _points(
    results: Sequence[Result], figure: Callable[[Result], float | None], y_label: str, scale: float = 1.0
) -> str:
    """Bundles without the figure are left out; empty where none has it."""
    values = [figure(result) for result in results]
    if all(value is None for value in values):
        return ""
    names, nbytes = [result.bundle.name for result in results], [float(result.bundle.nbytes) for result in results]
    return scatter(names, nbytes, values, x_label="size of the bundle", y_label=y_label, scale=scale)


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
        svg = stacked_bars(names, known, x_label="resident above a bare session, MiB", scale=MEBIBYTE)
        yield Plot("File-backed memory is shared between processes, and the system takes it back when it must.", svg)


def _parts(results: Sequence[Result]) -> Plot:
    """The parts with the largest shares of a bundle, as many as there are colours; what is left is 'the rest'."""
    names = [result.bundle.name for result in results]
    shares = {
        part: [100 * result.bundle.parts.get(part, 0) / result.bundle.nbytes for result in results]
        for part in dict.fromkeys(part for result in results for part in result.bundle.parts)
    }
    # A part of less than a hundredth of every bundle would only fill the legend.
    large = sorted((part for part in shares if max(shares[part]) >= 1), key=lambda part: -max(shares[part]))
    parts = {part: shares[part] for part in shares if part in large[: len(SERIES) - 1]}
    rest = [100 - sum(column) for column in zip(*parts.values(), strict=True)]
    if max(rest) > 0:
        parts["the rest"] = rest
    return Plot("Where a bundle's bytes go.", stacked_bars(names, parts, x_label="share of the bundle, %"))


def _widths(results: Sequence[Result]) -> Iterator[Plot]:
    blocks = {result.bundle.name: result.bundle.item_blocks for result in results if result.bundle.item_blocks}
    if blocks:
        svg = width_shares(blocks, x_label="items by width of their row, %")
        yield Plot("How many values each item keeps: the number in a part is its width.", svg)
