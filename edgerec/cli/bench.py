"""`edgerec bench`: latency and memory of bundles, in fresh processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from edgerec.budget import format_bytes
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_table
from edgerec_bench import Result, Settings, bench_all, write_results
from edgerec_bench.comparison import milliseconds
from edgerec_devices import open_device

DEFAULT = Settings()
COLUMNS = ("bundle", "bytes", "p50 ms", "p95 ms", "p99 ms", "raw ids", "load ms", "first ms", "verify ms", "peak")


@click.command("bench")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write JSON: one result as an object, several as a list.")
@click.option("--processes", default=DEFAULT.processes, show_default=True, help="Fresh processes a bundle.")
@click.option("--calls", default=DEFAULT.calls, show_default=True, help="Warm calls a scenario at least.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
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
    "--device", default="local", show_default=True, help="Where to measure: local or ssh://[user@]host[:port]."
)
@click.option("--offline", is_flag=True, help="Send the device its packages from here; it needs no internet.")
@json_option
def command(
    bundles: tuple[Path, ...],
    out: Path | None,
    processes: int,
    calls: int,
    seconds: float,
    k: int,
    exclude: int,
    threads: int,
    device: str,
    offline: bool,
    as_json: bool,
) -> None:
    """Measure latency, load time and memory of bundles on this machine, or on another one.

    Several bundles are measured in turns, so that they can be compared. A device behind SSH needs python3 alone: what
    else it takes is sent or installed there, below its ~/.cache/edgerec, and kept for the next time.

    \b
    Example:
      edgerec bench films.bundle --out films.json
      edgerec bench dense.bundle mixed.bundle --processes 10 --out both.json
      edgerec bench films.bundle --device ssh://pi@raspberrypi.local --out pi.json
      edgerec report both.json --out report.html
    """
    from edgerec_bench.console import show_progress

    settings = Settings(processes=processes, calls=calls, seconds=seconds, k=k, exclude=exclude, threads=threads)
    total = settings.processes * len(bundles)
    with (
        show_progress("starting") as progress,
        open_device(device, offline=offline, tell=lambda doing: progress(doing, 0, total)) as machine,
    ):
        results = bench_all(bundles, settings, device=machine, progress=progress)
    if out:
        write_results(out, results)
    if as_json:
        print_json([result.to_json() for result in results])
        return
    _print(results)
    for warning in (warning for result in results for warning in result.warnings):
        messages.print(f"Warning: {warning}", markup=False)


def _print(results: Sequence[Result]) -> None:
    print_table("", COLUMNS, [_row(result) for result in results])
    messages.print(
        "recommend, one user a call; raw ids: all of Recommender.recommend, p50; peak: memory above a bare session",
        style="dim",
    )


def _row(result: Result) -> list[str | None]:
    measured = result.measured
    times = [measured.latency("recommend", figure) for figure in ("p50_ms", "p95_ms", "p99_ms")]
    times += [measured.latency("recommend, raw ids"), measured.load_ms, measured.latency("recommend", "first_ms")]
    peak, verify = measured.above_bare("VmHWM"), measured.verify_ms
    return [
        result.bundle.name,
        format_bytes(result.bundle.nbytes),
        *map(milliseconds, times),
        None if verify is None else milliseconds(verify),
        None if peak is None else format_bytes(peak),
    ]
