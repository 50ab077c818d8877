"""Measure bundles on a device."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import edgerec
from edgerec.budget import format_bytes
from edgerec.errors import BenchError, DoesNotFitError, reason_of
from edgerec_bench.interleave import Answers, Progress, run_interleaved
from edgerec_bench.record import now
from edgerec_bench.result import TIME, USUAL, BundleFacts, Measured, Result, Settings, clock_of
from edgerec_devices import Device, Local

OnPartial = Callable[[list[Result]], None]
"""Callback with partial results."""


def bench(
    bundle: str | Path,
    settings: Settings | None = None,
    *,
    device: Device | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure one bundle in fresh processes on a device (by default this machine).

    Example:
        >>> result = bench("films.bundle", Settings(processes=5))
        >>> result.measured.latency("recommend", "p95_ms")

    Raises:
        DoesNotFitError: the bundle takes more memory than the device has.
        BenchError: a process failed or took too long.
        BundleError: there is no bundle, or it is damaged.
    """
    return bench_all([bundle], settings, device=device, progress=progress)[0]


def bench_all(
    bundles: Sequence[str | Path],
    settings: Settings | None = None,
    *,
    device: Device | None = None,
    progress: Progress | None = None,
    on_partial: OnPartial | None = None,
) -> list[Result]:
    """Measure several bundles interleaved, for a fair comparison; return one result for each.

    Args:
        on_partial: called with partial results if measuring ends early, by Ctrl-C or by an error, which is then raised.

    Raises as `bench` does.
    """
    if not bundles:
        raise BenchError("no bundle to measure; give one or more folders")
    chosen, machine = settings or Settings(), device or Local()
    facts = [BundleFacts.read(Path(bundle)) for bundle in bundles]
    for fact in facts:
        if chosen.k > fact.items:
            raise BenchError(f"{fact.name} has only {fact.items} items and k is {chosen.k}; give a smaller -k")
    info, started = machine.info(), now()
    chosen = _without_seconds(chosen, info)

    def results(answers: Answers, device: dict[str, Any], partial: str | None) -> list[Result]:
        parsed = [(fact, _measured(taken, device)) for fact, taken in zip(facts, answers, strict=True) if taken]
        again, finished = command(bundles, chosen, machine), now()
        return [
            Result(fact, chosen, device, measured, started, finished, again, edgerec.__version__, partial)
            for fact, measured in parsed
        ]

    answers: Answers = [[] for _ in bundles]
    try:
        with _allowed(machine, chosen.lasts_s):
            requests = _requests(bundles, facts, chosen, machine)
            run_interleaved(requests, chosen.processes, machine, progress, into=answers)
        return results(answers, machine.info(), None)
    except (BenchError, KeyboardInterrupt) as error:
        if on_partial and any(answers):
            on_partial(
                results(answers, info, "interrupted" if isinstance(error, KeyboardInterrupt) else reason_of(error))
            )
        if isinstance(error, DoesNotFitError):
            raise _with_memory(error, info) from error
        raise


def _requests(
    bundles: Sequence[str | Path], facts: Sequence[BundleFacts], settings: Settings, device: Device
) -> list[tuple[str, dict[str, Any]]]:
    fields = {name: value for name, value in asdict(settings).items() if name != "processes"}
    return [
        (fact.name, {**fields, "task": "bundle", "bundle": device.push(Path(bundle)), "ask": []})
        for bundle, fact in zip(bundles, facts, strict=True)
    ]


def _measured(answers: list[dict[str, Any]], device: dict[str, Any]) -> Measured:
    try:
        measured = Measured.from_json({"processes": answers})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(
            f"invalid agent response ({error!r}); update the agent to the version of this edgerec"
        ) from error
    if clock_of(device) is TIME:
        return measured
    return Measured(tuple(process.in_instructions() for process in measured.processes))


def _without_seconds(settings: Settings, device: dict[str, Any]) -> Settings:
    """Set `seconds` to 0 if the device's clock counts instructions. Raises BenchError for scenarios that need time."""
    if clock_of(device) is TIME:
        return settings
    if timed := [name for name in ("load", "sustained", "offline") if name in settings.scenarios]:
        raise BenchError(
            f"this device's clock counts instructions, which cannot measure {' and '.join(timed)}; "
            "choose a device whose clock counts time"
        )
    return replace(settings, seconds=0.0)


@contextmanager
def _allowed(device: Device, seconds: float) -> Iterator[None]:
    """Extend the device's timeout by the duration of the requested scenarios."""
    device.timeout += seconds
    try:
        yield
    finally:
        device.timeout -= seconds


def _with_memory(error: DoesNotFitError, device: dict[str, Any]) -> DoesNotFitError:
    """Add the device's memory, if known, to the message of an error."""
    if "memory_bytes" not in device:
        return error
    memory = f"the device has {format_bytes(device['memory_bytes'])} of memory"
    if "memory_available_bytes" in device:
        memory += f", {format_bytes(device['memory_available_bytes'])} of it free before"
    return DoesNotFitError(f"{error}; {memory}")


def command(bundles: Sequence[str | Path], settings: Settings, device: Device) -> str:
    """Return the command line that repeats the measurement."""
    words = ["edgerec", "bench", *map(str, bundles)]
    if device.name != Local.name:
        words += ["--device", device.name]
    if device.memory is not None:
        words += ["--memory", f"{device.memory}"]
    for flag in ("processes", "calls", "seconds", "k", "exclude", "threads"):
        words += [f"--{flag}" if len(flag) > 1 else f"-{flag}", f"{getattr(settings, flag)}"]
    if settings.scenarios != USUAL:
        words += [word for name in settings.scenarios if name != "sustained" for word in ("--scenario", name)]
    if "sustained" in settings.scenarios:
        words += ["--sustained", f"{settings.sustained_seconds / 60:g}"]
    return shlex.join(words)
