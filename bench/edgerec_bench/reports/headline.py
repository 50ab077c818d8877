"""The sentence that a report opens with: how much smaller a bundle is, and what that costs in quality.

Quality is the test NDCG@20 of the trained tables, which results carry. Tables that export rounds or shortens afterwards
lose quality that no result has measured: the sentence then says so, and names the command that measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgerec.budget import format_bytes
from edgerec.training import Run
from edgerec_bench.reports.html import exact_bytes, in_bytes
from edgerec_bench.result import Result, ScaleResult, milliseconds, reference, unlike_devices

Figure = Callable[[Result], float | None]

METRIC = "ndcg@20"
SAME = 0.01
"""Qualities that differ by at most this share are called the same; the sentence states by how much they differ."""
QUALITY = "test NDCG@20 of the trained tables"


@dataclass(frozen=True)
class Tile:
    """One figure under the sentence.

    Attributes:
        label: of the figure.
        text: its value for people.
        exact: the value in full; empty if the text is exact.
        reference: the name of the reference and its value; empty if there is none.
    """

    label: str
    text: str
    exact: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Headline:
    """The opening of a report.

    Attributes:
        sentence: what a reader came for.
        notes: what qualifies it, a sentence each.
        tiles: its figures.
    """

    sentence: str
    notes: list[str]
    tiles: list[Tile]


def headline_of(results: Sequence[Result], scales: Sequence[ScaleResult], runs: Mapping[str, Run]) -> Headline:
    """Return the opening of a report of bundles; without bundles, of a comparison at scale; else of runs."""
    if len(results) > 1:
        return _compared(results)
    if results:
        return _alone(results[0])
    if scales:
        return Headline(scale_sentence(scales[0]), [], [])
    if runs:
        return Headline(" ".join(run_sentence(name, run) for name, run in runs.items()), [], [])
    return Headline("What a search of embedding sizes found.", [], [])


def to_recommend(results: Sequence[Result]) -> int:
    """Return the place of the result that the sentence compares with the reference.

    It is the smallest bundle with the reference's quality, within `SAME`; if none has it, the best of the smaller
    ones; if none is smaller or their quality is unknown, the smallest.
    """
    first = reference(results)
    base = results[first]
    others = [number for number in range(len(results)) if number != first]
    smallest = min(others, key=lambda number: results[number].bundle.nbytes)
    changes = {number: change for number in others if (change := quality_change(base, results[number])) is not None}
    smaller = {
        number: change for number, change in changes.items() if results[number].bundle.nbytes < base.bundle.nbytes
    }
    if not smaller:
        return smallest
    same = [number for number, change in smaller.items() if change >= -SAME]
    return (
        min(same, key=lambda number: results[number].bundle.nbytes) if same else max(smaller, key=smaller.__getitem__)
    )


def quality_change(base: Result, other: Result) -> float | None:
    """Return by which share the other's quality differs from the base's.

    None if it is unknown: they carry no metrics, or metrics of other data or another split, or the export changed what
    was trained.
    """
    if altered(base) or altered(other):
        return None
    if any(base.bundle.about.get(name) != other.bundle.about.get(name) for name in ("data", "split")):
        return None
    before, after = base.bundle.metric(METRIC), other.bundle.metric(METRIC)
    return after / before - 1 if before and after is not None else None


def altered(result: Result) -> bool:
    """Say whether the export rounded or shortened the trained tables, so that their metrics are not the bundle's."""
    bundle, about = result.bundle, result.bundle.about
    trained_for = about.get("precision", bundle.precision)
    full = about.get("dimensions", bundle.d)
    values = sum(width * rows for width, rows in bundle.item_blocks)
    shortened = bool(about.get("method") == "dense" and values and values < full * bundle.items)
    return bundle.precision != trained_for or shortened


def _compared(results: Sequence[Result]) -> Headline:
    base, other = results[reference(results)], results[to_recommend(results)]
    change = quality_change(base, other)
    size = times_smaller(other.bundle.nbytes, base.bundle.nbytes, base.bundle.name)
    sentence = f"{other.bundle.name} is {size}, {quality_words(change)}."
    return Headline(sentence, list(_notes(results, base, other, change)), _tiles(other, base))


def times(ratio: float, more: str, less: str) -> str:
    """Return '7.4 times smaller', '1.2 times slower', or for ratios near 1 'as large' or 'as fast'."""
    if abs(ratio - 1) < 0.05:
        return "as fast" if more == "faster" else "as large"
    word, many = (more, ratio) if ratio > 1 else (less, 1 / ratio)
    return f"{many:,.{1 if many < 100 else 0}f} times {word}"


def times_smaller(nbytes: float, other: float, name: str) -> str:
    """Return '7.4 times smaller than NAME', of `nbytes` against the `other` of that name."""
    phrase = times(other / nbytes, "smaller", "larger")
    return f"{phrase} {'as' if phrase.startswith('as ') else 'than'} {name}"


def quality_words(change: float | None) -> str:
    """Return the second half of the sentence, for a change of quality by a share; None if it is unknown."""
    if change is None:
        return "and what that costs in quality is not measured here"
    if abs(change) <= SAME:
        within = max(0.1, math.ceil(round(abs(change) * 1000, 6)) / 10)
        return f"with the same quality within {within:g} %"
    return f"and its quality is {100 * abs(change):.1f} % {'lower' if change < 0 else 'higher'}"


def _notes(results: Sequence[Result], base: Result, other: Result, change: float | None) -> Iterator[str]:
    changed = [one for one in (base, other) if altered(one)]
    if change is not None:
        yield f"Quality is the {QUALITY}."
        if len(results) > 2 and change >= -SAME:
            yield f"It is the smallest of the {len(results)} bundles with the quality of {base.bundle.name}."
    elif changed:
        names = " and ".join(one.bundle.name for one in changed)
        data = f", where DATA is {other.bundle.about['data']}" if "data" in other.bundle.about else ""
        command = f"edgerec evaluate {base.bundle.name} {other.bundle.name} --data DATA{data}"
        yield f"Export rounded or shortened the trained tables of {names}. Measure it with: {command}"
    elif all(one.bundle.metric(METRIC) is not None for one in (base, other)):
        yield "They were tested on different data or splits, so that their quality cannot be compared."
    else:
        yield "Not every bundle carries test metrics."


def _tiles(other: Result, base: Result | None = None) -> list[Tile]:
    """Return the figures of a bundle, next to those of the base if their devices allow it."""
    timed = base if base is not None and not unlike_devices([base, other]) else None
    nbytes, metric, call, peak = other.bundle.nbytes, other.bundle.metric(METRIC), _p50(other), _peak(other)
    unit = other.clock.unit
    tiles = [Tile("size, all files", format_bytes(nbytes), exact_bytes(nbytes), _text(base, _nbytes, in_bytes))]
    if metric is not None and not altered(other):
        before = "" if base is None or altered(base) else _text(base, _quality, "{:.4f}".format)
        tiles.append(Tile("test NDCG@20", f"{metric:.4f}", "", before))
    if call is not None:
        before = _text(timed, _p50, lambda value: f"{milliseconds(value)} {unit}")
        tiles.append(Tile("one recommendation, median", f"{milliseconds(call)} {unit}", "", before))
    if peak is not None:
        tiles.append(Tile("memory at its peak", format_bytes(peak), exact_bytes(peak), _text(timed, _peak, in_bytes)))
    return tiles


def _text(result: Result | None, figure: Figure, show: Callable[[float], str]) -> str:
    """Return 'dense.bundle: 706.6 KiB'; empty without a result or its figure."""
    value = None if result is None else figure(result)
    return "" if result is None or value is None else f"{result.bundle.name}: {show(value)}"


def _nbytes(result: Result) -> float:
    return result.bundle.nbytes


def _quality(result: Result) -> float | None:
    return result.bundle.metric(METRIC)


def _p50(result: Result) -> float | None:
    return result.measured.figure("recommend", "p50_ms")


def _alone(result: Result) -> Headline:
    bundle, call = result.bundle, _p50(result)
    answers = f" and answers in {milliseconds(call)} {result.clock.unit}" if call is not None else ""
    sentence = f"{bundle.name} recommends from {bundle.items:,} items in {format_bytes(bundle.nbytes)}{answers}."
    return Headline(sentence, ["Measured together with another bundle, it is compared here."], _tiles(result))


def _peak(result: Result) -> float | None:
    return result.measured.above_bare("VmHWM")


def scale_sentence(result: ScaleResult) -> str:
    """Return the sentence of a comparison at scale: the fastest bundle against the plain export."""
    rival, *others = result.contenders
    bundles = [one for one in others if one.kind == "bundle"]
    if not bundles:
        return f"{rival.name} answers in {milliseconds(rival.measured.latency())} ms at {result.items:,} items."
    best = max(bundles, key=result.faster)
    size = times_smaller(best.nbytes, rival.nbytes, rival.name)
    sizes = f"{format_bytes(best.nbytes)} instead of {format_bytes(rival.nbytes)}"
    speed = times(result.faster(best), "faster", "slower")
    return f"At {result.items:,} items, {best.name} is {size} ({sizes}) and {speed}."


def run_sentence(name: str, run: Run) -> str:
    """Return the sentence of a run: how many of its full tables' values it has, and its test quality."""
    tables = [table for table in (run.items, run.users) if table is not None]
    values = sum(int(table.sizes().sum()) for table in tables)
    full = sum(table.n_rows * table.d for table in tables)
    quality = run.metrics.get("test", {}).get(METRIC)
    tested = f", with a test NDCG@20 of {quality:.4f}" if quality is not None else ""
    return (
        f"{name} keeps {100 * values / full:.1f} % of the values of its full tables ({values:,} of {full:,}){tested}."
    )
