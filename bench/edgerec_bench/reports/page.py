"""One self-contained HTML page from results and runs: no request leaves it, and it reads on a phone, light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec.training import Run
from edgerec_bench.reports.headline import headline_of, run_sentence, scale_sentence
from edgerec_bench.reports.html import Cell, Column, bytes_cell, in_bytes, write_template
from edgerec_bench.reports.search import SearchFigures
from edgerec_bench.result import (
    INSTRUCTIONS,
    MORE,
    NOTES,
    SPEED,
    AnyResult,
    Line,
    Result,
    ScaleResult,
    answered_by,
    heading,
    lines,
    reference,
    scale_rows,
    scale_warnings,
    unlike_devices,
    with_unique_names,
)
from edgerec_devices.facts import MOMENTARY

if TYPE_CHECKING:
    from edgerec_bench.reports.plots import Plot

SCALE_TABLES = {"Speed, size and memory": SPEED, "Other calls, loading, and how each was built": MORE}
"""Tables of the comparison at scale."""


def report(
    results: Sequence[AnyResult],
    out: str | Path,
    *,
    runs: Mapping[str, Run] | None = None,
    searches: Mapping[str, SearchFigures] | None = None,
) -> None:
    """Write the page `out`.

    Bundles stand side by side in the given order, the second of a name with a number behind it; ratios are to the
    first dense fp32 bundle, else to the first. Where devices differ the page says so.

    Args:
        runs: by the name to show: how large their rows are, by popularity.
        searches: by the name of their run: what they tried, and found.

    Raises:
        BenchError: neither a result nor a run nor a search.
        RunError: a run is damaged.
        StorageError: the file system refuses.
    """
    if not results and not runs and not searches:
        raise BenchError("no result to show; measure one with 'edgerec bench BUNDLE --out result.json'")
    bundles = with_unique_names([result for result in results if isinstance(result, Result)])
    scales = [result for result in results if isinstance(result, ScaleResult)]
    headline = headline_of(bundles, scales, runs or {})
    write_template(
        Path(out),
        "report.html.jinja",
        title=headline.sentence,
        headline=headline,
        bundles=_side_by_side(bundles) if bundles else None,
        scales=[_scale(scale) for scale in scales],
        runs=_runs(runs) if runs else None,
        searches=_searches(searches or {}),
        devices=_devices(results),
        warnings=[w for b in bundles for w in b.warnings] + [w for s in scales for w in scale_warnings(s)],
        commands_typed=list(dict.fromkeys(result.command for result in results)),
        finished=max((result.finished for result in results), default=None),
    )


def _side_by_side(results: list[Result]) -> dict[str, Any]:
    from edgerec_bench.reports.plots import plots

    rows: list[str | list[Cell]] = []
    for group, listed in groupby(lines(results), key=lambda line: line.group):
        rows += [group, *([Cell(line.label), *_cells(line)] for line in listed)]
    return {
        "columns": [Column(""), *map(_head, results)],
        "counted": [result.bundle.name for result in results if result.clock is INSTRUCTIONS],
        "rows": rows,
        "reference": results[reference(results)].bundle.name,
        "plots": plots(results),
        "unlike": unlike_devices(results),
    }


def _cells(line: Line) -> list[Cell]:
    """Return a cell for each bundle: sizes with their exact number of bytes."""
    return [
        bytes_cell(value, ratio) if value is not None and text == format_bytes(value) else Cell(text, "", ratio)
        for value, text, ratio in zip(line.values, line.texts, line.ratios, strict=True)
    ]


def _head(result: Result) -> Column:
    """Return a bundle's name, its form and how it was measured, and its origin."""
    bundle = result.bundle
    parts = [str(bundle.about[name]) for name in ("data", "backbone", "method", "budget") if bundle.about.get(name)]
    origin = ", ".join([*dict.fromkeys(parts), f"{bundle.items:,} items"])
    answerer = answered_by(result)
    form = [f"{bundle.layout} {bundle.precision}", *([answerer] if answerer != "onnxruntime" else [])]
    return Column(bundle.name, (", ".join([*form, *(["partial"] if result.partial else [])]), origin))


def _scale(result: ScaleResult) -> dict[str, Any]:
    from edgerec_bench.reports.plots import scale_plots

    return {
        "heading": heading(result),
        "sentence": scale_sentence(result),
        "tables": [
            (caption, [Column(name) for name in columns], _scale_cells(result, columns))
            for caption, columns in SCALE_TABLES.items()
        ],
        "plots": scale_plots(result),
        "notes": NOTES,
    }


def _scale_cells(result: ScaleResult, columns: Sequence[str]) -> list[list[Cell]]:
    rows = [[*map(Cell, row)] for row in scale_rows(result, columns)]
    if "bytes" in columns:
        for one, row in zip(result.contenders, rows, strict=False):  # those that were left out have none
            row[columns.index("bytes")] = bytes_cell(one.nbytes)
    return rows


def _runs(runs: Mapping[str, Run]) -> dict[str, Any]:
    """Return a sentence a run, charts of the runs with counts of interactions, and the names of the others."""
    from edgerec_bench.reports.plots import size_plot

    drawn = {name: size_plot(name, run) for name, run in runs.items()}
    return {
        "sentences": [run_sentence(name, run) for name, run in runs.items()],
        "plots": [plot for plot in drawn.values() if plot is not None],
        "without": [name for name, plot in drawn.items() if plot is None],
    }


def _searches(searches: Mapping[str, SearchFigures]) -> list[Plot]:
    from edgerec_bench.reports.plots import search_plots

    return [plot for name, search in searches.items() for plot in search_plots(name, search)]


def _devices(results: Sequence[AnyResult]) -> dict[str, list[str]]:
    """Return the distinct devices as columns of facts; one that changes by the moment has all its values in a cell."""
    devices: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        lasting = str({name: value for name, value in result.device.items() if name not in MOMENTARY})
        devices.setdefault(lasting, []).append(result.device)
    names = dict.fromkeys(name for result in results for name in result.device)
    return {name.replace("_", " "): [_values(name, same) for same in devices.values()] for name in names}


def _values(name: str, same: Sequence[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(_value(name, device.get(name)) for device in same))


def _value(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return in_bytes(value) if name.endswith("_bytes") else str(value)
