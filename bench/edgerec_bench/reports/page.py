"""One self-contained HTML page from results and runs: no request leaves it, and it reads on a phone, light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec.extras import require
from edgerec.files import write_bytes
from edgerec.training import Run
from edgerec_bench.reports.search import SearchFigures
from edgerec_bench.result import (
    COLUMNS,
    INSTRUCTIONS,
    NOTES,
    AnyResult,
    Result,
    ScaleResult,
    heading,
    lines,
    reference,
    scale_rows,
    scale_warnings,
    targets,
    unlike_devices,
    with_unique_names,
)
from edgerec_devices.facts import MOMENTARY

if TYPE_CHECKING:
    from edgerec_bench.reports.plots import Plot

require("jinja2", "bench")

from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: E402


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
        searches: by the name of the run that made them: what they tried, and found.

    Raises:
        BenchError: neither a result nor a run nor a search.
        RunError: a run is damaged.
        StorageError: the file system refuses.
    """
    if not results and not runs and not searches:
        raise BenchError("no result to show; measure one with 'edgerec bench BUNDLE --out result.json'")
    bundles = with_unique_names([result for result in results if isinstance(result, Result)])
    scales = [result for result in results if isinstance(result, ScaleResult)]
    templates = Environment(loader=PackageLoader("edgerec_bench.reports"), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    page = templates.get_template("report.html.jinja").render(
        bundles=_side_by_side(bundles) if bundles else None,
        scales=[_scale(scale) for scale in scales],
        runs=_runs(runs) if runs else None,
        searches=_searches(searches or {}),
        devices=_devices(results),
        warnings=[w for b in bundles for w in b.warnings] + [w for s in scales for w in scale_warnings(s)],
        commands=list(dict.fromkeys(result.command for result in results)),
        finished=max((result.finished for result in results), default=None),
    )
    write_bytes(Path(out), page.encode())


def _side_by_side(results: list[Result]) -> dict[str, Any]:
    from edgerec_bench.reports.plots import plots

    listed = lines(results)
    return {
        "heads": [_head(result) for result in results],
        "counted": [result.bundle.name for result in results if result.clock is INSTRUCTIONS],
        "groups": [(name, list(group)) for name, group in groupby(listed, key=lambda line: line.group)],
        "reference": results[reference(results)].bundle.name,
        "plots": plots(results),
        "unlike": unlike_devices(results),
    }


def _head(result: Result) -> tuple[str, str, str]:
    """A bundle's name, how it ships and was measured, and what it holds."""
    bundle = result.bundle
    said = [str(bundle.about[name]) for name in ("data", "backbone", "method", "budget") if bundle.about.get(name)]
    origin = ", ".join([*dict.fromkeys(said), f"{bundle.items:,} items"])
    told = [f"{bundle.layout} {bundle.precision}", *([result.runtime] if result.runtime != "python" else [])]
    return bundle.name, ", ".join([*told, *(["partial"] if result.partial else [])]), origin


def _scale(result: ScaleResult) -> dict[str, Any]:
    return {
        "heading": heading(result),
        "columns": COLUMNS,
        "rows": scale_rows(result),
        "targets": [(target.text, target.met) for target in targets(result)],
        "notes": NOTES,
    }


def _runs(runs: Mapping[str, Run]) -> dict[str, Any]:
    """Charts of the runs that keep the counts of interactions, and the names of the others."""
    from edgerec_bench.reports.plots import size_plot

    drawn = {name: size_plot(name, run) for name, run in runs.items()}
    return {
        "plots": [plot for plot in drawn.values() if plot is not None],
        "without": [name for name, plot in drawn.items() if plot is None],
    }


def _searches(searches: Mapping[str, SearchFigures]) -> list[Plot]:
    from edgerec_bench.reports.plots import search_plots

    return [plot for name, search in searches.items() for plot in search_plots(name, search)]


def _devices(results: Sequence[AnyResult]) -> dict[str, Any]:
    """The distinct devices as columns of facts; what changes by the moment has all its values in one cell."""
    devices: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        lasting = str({name: value for name, value in result.device.items() if name not in MOMENTARY})
        devices.setdefault(lasting, []).append(result.device)
    facts = dict.fromkeys(name for result in results for name in result.device)
    return {name.replace("_", " "): [_facts(name, told) for told in devices.values()] for name in facts}


def _facts(name: str, told: Sequence[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(_fact(name, device.get(name)) for device in told))


def _fact(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return format_bytes(value) if name.endswith("_bytes") else str(value)
