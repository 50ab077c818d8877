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
    *,
    processes: int = 3,
    calls: int = 200,
    seconds: float = 1.0,
    k: int = 20,
    exclude: int = 20,
    history: int = 20,
    candidates: Sequence[int] = (50, 1000),
    threads: int = 1,
    seed: int = 0,
    scenarios: Sequence[str] = USUAL,
    sustained_seconds: float = 120.0,
    device: Device | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure latency, load time and memory of one bundle in fresh processes on a device.

    Example:
        >>> result = bench("films.bundle", processes=5)
        >>> result.measured.latency("recommend", "p95_ms")

    Args:
        bundle: folder of the bundle.
        processes: number of fresh processes, run one after the other.
        calls: minimum number of calls of each scenario, after warm-up.
        seconds: minimum duration of each scenario.
        k: number of items to recommend.
        exclude: number of random items to exclude in each call.
        history: number of random items in each history, for bundles without users.
        candidates: numbers of items that the scenario 'score' scores in one call.
        threads: number of onnxruntime's threads.
        seed: seed of the random requests.
        scenarios: names out of `edgerec_bench.result.SCENARIOS`.
        sustained_seconds: duration of the scenario 'sustained'.
        device: where to measure, from `edgerec_devices.open_device`; None for this machine.
        progress: called as processes start and finish.

    Raises:
        DoesNotFitError: the bundle takes more memory than the device has.
        BenchError: a setting is out of range, or a process failed or took too long.
        BundleError: the bundle is missing or damaged.
    """
    settings = Settings(
        processes=processes,
        calls=calls,
        seconds=seconds,
        k=k,
        exclude=exclude,
        history=history,
        candidates=tuple(candidates),
        threads=threads,
        seed=seed,
        scenarios=tuple(scenarios),
        sustained_seconds=sustained_seconds,
    )
    return bench_request(bundle, settings, device=device, progress=progress)


def bench_request(
    bundle: str | Path, settings: Settings, *, device: Device | None = None, progress: Progress | None = None
) -> Result:
    """Measure one bundle with checked settings; the other arguments and the errors are those of `bench`."""
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
        settings: settings of the measurement; None for the defaults of `bench`.
        on_partial: called with the results so far, marked as partial, if an error or Ctrl-C ends the measurement early.

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
