"""`edgerec bench`: latency and memory of bundles, in fresh processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes, parse_bytes
from edgerec.cli.options import FiniteRange, PathType, overwrite_option
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_table
from edgerec.outputs import Output, check_outputs, json_of
from edgerec_bench import Result, Settings, bench_all, write_results
from edgerec_bench.result import FORMAT, SCENARIOS, STREAM_SECONDS, USUAL, calls_needed, milliseconds
from edgerec_devices import open_device
from edgerec_devices.registry import KINDS

DEFAULT = Settings()
FORMS = ", ".join(kind.form for kind in KINDS.values())

Cell = Callable[[Result], str | None]


@click.command("bench")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=PathType())
@click.option("--out", type=PathType(), help="Write JSON: one result as an object, several as a list.")
@click.option("--processes", default=DEFAULT.processes, show_default=True, help="Fresh processes a bundle.")
@click.option("--calls", default=DEFAULT.calls, show_default=True, help="Warm calls a scenario at least.")
@click.option(
    "--seconds",
    type=FiniteRange(0, 3600),
    default=DEFAULT.seconds,
    show_default=True,
    help="Seconds a scenario at least.",
)
@click.option("-k", default=DEFAULT.k, show_default=True, help="Items to recommend.")
@click.option("--exclude", default=DEFAULT.exclude, show_default=True, help="Random items excluded a call.")
@click.option(
    "--threads", type=click.IntRange(1, 256), default=DEFAULT.threads, show_default=True, help="onnxruntime's threads."
)
@click.option(
    "--scenario",
    "scenarios",
    type=click.Choice(SCENARIOS),
    multiple=True,
    help=f"What to measure, as often as wanted; without any {', '.join(USUAL)}.",
)
@click.option(
    "--sustained",
    type=FiniteRange(0, 600, min_open=True),
    metavar="MINUTES",
    help="Load the device for so long too, and watch its speed, clock and temperature.",
)
@click.option(
    "--strict",
    is_flag=True,
    help=f"What MLPerf asks of a stream, a scenario: {STREAM_SECONDS} seconds and {calls_needed(99)} calls, at least.",
)
@click.option("--device", default="local", show_default=True, help=f"Where to measure: {FORMS}.")
@click.option("--offline", is_flag=True, help="Send the device its packages from here; it needs no internet.")
@click.option("--memory", metavar="SIZE", help="Memory of a device that is started for this, such as 128M.")
@overwrite_option
@json_option
def command(
    bundles: tuple[Path, ...],
    out: Path | None,
    scenarios: tuple[str, ...],
    sustained: float | None,
    strict: bool,
    device: str,
    offline: bool,
    memory: str | None,
    overwrite: bool,
    as_json: bool,
    **numbers: Any,
) -> None:
    """Measure latency, load time and memory of bundles on this machine, or on another one.

    Several bundles are measured in turns, so that they can be compared. A device behind SSH needs python3 alone: what
    else it takes is sent or installed there, below its ~/.cache/edgerec, and kept for the next time. Where measuring
    ends early, what was measured so far is written, marked as partial.

    \b
    Example:
      edgerec bench films.bundle --out films.json
      edgerec bench dense.bundle mixed.bundle --processes 10 --out both.json
      edgerec bench films.bundle --scenario load --scenario offline
      edgerec bench films.bundle --device ssh://pi@raspberrypi.local --sustained 10 --out pi.json
      edgerec report both.json --out report.html
    """
    from edgerec_bench.command import show_progress

    if out is not None:
        check_outputs([Output(out, ours=json_of(FORMAT))], bundles, overwrite=overwrite)
    settings = _settings(Settings(**numbers), scenarios, sustained, strict=strict)
    nbytes = None if memory is None else parse_bytes(memory)
    kept: list[Result] = []
    total = settings.processes * len(bundles)
    try:
        with (
            show_progress("starting") as progress,
            open_device(
                device, offline=offline, memory=nbytes, tell=lambda doing: progress(doing, 0, total)
            ) as machine,
        ):
            results = bench_all(bundles, settings, device=machine, progress=progress, on_partial=kept.extend)
    finally:
        if kept:
            _show(kept, out, as_json=as_json)
            where = f"in {out}" if out else "above; give --out to keep it in a file"
            messages.print(f"What was measured so far is {where}, marked as partial.", markup=False)
    _show(results, out, as_json=as_json)


def _settings(settings: Settings, scenarios: Sequence[str], sustained: float | None, *, strict: bool) -> Settings:
    """With what a flag asks for on top."""
    if strict:
        calls, seconds = max(settings.calls, calls_needed(99)), max(settings.seconds, STREAM_SECONDS)
        settings = replace(settings, calls=calls, seconds=seconds)
    wanted = tuple(scenarios) or USUAL
    if sustained is None:
        return replace(settings, scenarios=wanted)
    return replace(settings, scenarios=(*wanted, "sustained"), sustained_seconds=60 * sustained)


def _show(results: Sequence[Result], out: Path | None, *, as_json: bool) -> None:
    if out:
        write_results(out, results)
    if as_json:
        print_json([result.to_json() for result in results])
        return
    columns = {name: cell for name, cell in _columns(results[0].clock.unit).items() if any(map(cell, results))}
    print_table("", list(columns), [[cell(result) for cell in columns.values()] for result in results])
    messages.print(
        "recommend, one user a call; raw ids: all of Recommender.recommend, p50; peak: memory above a bare session",
        style="dim",
    )
    for warning in (warning for result in results for warning in result.warnings):
        messages.print(f"Warning: {warning}", markup=False)


def _columns(unit: str) -> dict[str, Cell]:
    """Columns by their heads; those that are empty for all results are left out."""
    return {
        "bundle": lambda result: result.bundle.name,
        "bytes": lambda result: format_bytes(result.bundle.nbytes),
        f"p50 {unit}": _latency("recommend", "p50_ms"),
        f"p95 {unit}": _latency("recommend", "p95_ms"),
        f"p99 {unit}": _latency("recommend", "p99_ms"),
        "raw ids": _latency("recommend, raw ids", "p50_ms"),
        "lookup": _latency("lookup", "p50_ms"),
        "load ms": lambda result: _ms(result.measured.load_ms),
        "cold load ms": lambda result: _ms(result.measured.cold("load_ms")),
        "first ms": _latency("recommend", "first_ms"),
        "verify ms": lambda result: _ms(result.measured.verify_ms),
        "kept": lambda result: f"{load.speed_ratio:.0%}" if (load := result.measured.sustained) else None,
        "users/s": lambda result: f"{max(found):,.0f}" if (found := result.measured.throughputs.values()) else None,
        "peak": _peak,
    }


def _latency(scenario: str, figure: str) -> Cell:
    return lambda result: _ms(result.measured.figure(scenario, figure))


def _ms(value: float | None) -> str | None:
    return None if value is None else milliseconds(value)


def _peak(result: Result) -> str | None:
    """The web has its heap in place of a process's pages."""
    peak = result.measured.above_bare("VmHWM")
    peak = result.measured.above_bare("wasm_heap") if peak is None else peak
    return None if peak is None else format_bytes(peak)
