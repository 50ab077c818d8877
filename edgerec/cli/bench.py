"""edgerec bench: measures the latency and memory of bundles in fresh processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgerec.budget import format_bytes, parse_bytes
from edgerec.cli.devices import FORMS, device_options
from edgerec.cli.help import Choice, Command, argument, option
from edgerec.cli.options import FILE_OR_FOLDER, FOLDER, FiniteRange, overwrite_option
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_table
from edgerec.outputs import Output, check_outputs, json_of
from edgerec_bench import Result, Settings, bench_all, write_results
from edgerec_bench.result import FORMAT, SCENARIOS, STREAM_SECONDS, USUAL, calls_needed, milliseconds
from edgerec_devices import open_device

DEFAULT = Settings()

Cell = Callable[[Result], str | None]


@click.command("bench", cls=Command)
@argument(
    "bundles",
    metavar="BUNDLE...",
    nargs=-1,
    required=True,
    type=FOLDER,
    help="Folders of the bundles; several are measured interleaved, so that they can be compared.",
)
@option("--out", type=FILE_OR_FOLDER, help="File to write the results to, as JSON.")
@option("--processes", default=DEFAULT.processes, help="Number of fresh processes that measure each bundle.")
@option("--calls", default=DEFAULT.calls, help="Minimum number of timed calls for each scenario.")
@option(
    "--seconds",
    type=FiniteRange(0, 3600),
    default=DEFAULT.seconds,
    help="Minimum duration of each scenario in seconds; it ends when --calls is reached too.",
)
@option("-k", default=DEFAULT.k, help="Number of items to recommend in each call.")
@option("--exclude", default=DEFAULT.exclude, help="Number of random items that each call excludes.")
@option("--threads", type=click.IntRange(1, 256), default=DEFAULT.threads, help="Number of threads of onnxruntime.")
@option(
    "--scenario",
    "scenarios",
    type=Choice(SCENARIOS),
    multiple=True,
    show_default=", ".join(USUAL),
    help="Kind of calls to measure, as described above; may be repeated.",
)
@option(
    "--sustained",
    type=FiniteRange(0, 600, min_open=True),
    metavar="MINUTES",
    show_default=f"{DEFAULT.sustained_seconds / 60:g} with --scenario sustained, else none",
    help="Add the scenario sustained, for this many minutes.",
)
@option(
    "--strict",
    is_flag=True,
    help=f"Measure each scenario as MLPerf requires: at least {STREAM_SECONDS} seconds and {calls_needed(99)} calls.",
)
@option(
    "--device",
    default="local",
    metavar="ADDRESS",
    help=f"Device to measure on: {FORMS} (see 'edgerec devices --help').",
)
@device_options
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
    """Measure the latency and memory of bundles, here or on a device.

    \b
    Example:
      edgerec bench films.bundle --out films.json

    Every bundle is measured in fresh processes. The scenarios are: recommend ranks all items for a user; score scores
    50 and 1000 items for a user; lookup scores a single one; history computes a user's vector from a history, in
    bundles without users; load opens the bundle; offline recommends for many users at once (the option --offline is
    unrelated); sustained recommends for minutes without a pause, and records speed, clock and temperature.

    A device behind SSH needs python3 only; everything else is sent or installed in ~/.cache/edgerec there, and stays.
    If measuring is interrupted, the results so far are written and marked as partial.

    \b
    More examples:
      edgerec bench dense.bundle mixed.bundle --processes 10 --out both.json
      edgerec bench films.bundle --scenario load --scenario offline
      edgerec bench films.bundle --device ssh://pi@raspberrypi.local --sustained 10 --out pi.json
    """
    from edgerec_bench.command import show_progress

    if out is not None:
        check_outputs([Output(out, ours=json_of(FORMAT))], bundles, overwrite=overwrite)
    settings = _settings(Settings(**numbers), scenarios, sustained, strict=strict)
    nbytes = None if memory is None else parse_bytes(memory)
    measured: list[Result] = []
    total = settings.processes * len(bundles)
    try:
        with (
            show_progress("starting") as progress,
            open_device(
                device, offline=offline, memory=nbytes, tell=lambda doing: progress(doing, 0, total)
            ) as machine,
        ):
            results = bench_all(bundles, settings, device=machine, progress=progress, on_partial=measured.extend)
    finally:
        if measured:
            _show(measured, out, as_json=as_json)
            place = f"in {out}" if out else "above; give --out to write them to a file"
            messages.print(f"The results so far are {place}, marked as partial.", markup=False)
    _show(results, out, as_json=as_json)


def _settings(settings: Settings, scenarios: Sequence[str], sustained: float | None, *, strict: bool) -> Settings:
    """Return the settings with those that --strict, --scenario and --sustained add."""
    if strict:
        calls, seconds = max(settings.calls, calls_needed(99)), max(settings.seconds, STREAM_SECONDS)
        settings = replace(settings, calls=calls, seconds=seconds)
    chosen = tuple(scenarios) or USUAL
    if sustained is None:
        return replace(settings, scenarios=chosen)
    return replace(settings, scenarios=(*chosen, "sustained"), sustained_seconds=60 * sustained)


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
        "speed left": lambda result: f"{load.speed_ratio:.0%}" if (load := result.measured.sustained) else None,
        "users/s": lambda result: f"{max(found):,.0f}" if (found := result.measured.throughputs.values()) else None,
        "peak": _peak,
    }


def _latency(scenario: str, figure: str) -> Cell:
    return lambda result: _ms(result.measured.figure(scenario, figure))


def _ms(value: float | None) -> str | None:
    return None if value is None else milliseconds(value)


def _peak(result: Result) -> str | None:
    """Return the peak memory of a process, or of the WebAssembly heap in a browser."""
    peak = result.measured.above_bare("VmHWM")
    peak = result.measured.above_bare("wasm_heap") if peak is None else peak
    return None if peak is None else format_bytes(peak)
