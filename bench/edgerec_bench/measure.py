"""Measuring bundles on a device."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import edgerec
from edgerec.errors import BenchError
from edgerec_bench.figures import Measured
from edgerec_bench.record import now
from edgerec_bench.result import BundleFacts, Result, Settings
from edgerec_bench.turns import Progress, measure_in_turns
from edgerec_devices import Device, Local


def bench(
    bundle: str | Path,
    settings: Settings | None = None,
    *,
    device: Device | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure one bundle in fresh processes of a device, this machine if none is given.

    Example:
        >>> result = bench("films.bundle", Settings(processes=5))
        >>> result.measured.latency("recommend", "p95_ms")

    Raises:
        BenchError: a process failed or took too long.
        BundleError: no bundle there, or a damaged one.
    """
    return bench_all([bundle], settings, device=device, progress=progress)[0]


def bench_all(
    bundles: Sequence[str | Path],
    settings: Settings | None = None,
    *,
    device: Device | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Measure several bundles in turns, for a fair comparison; one result each. Raises as `bench` does."""
    if not bundles:
        raise BenchError("no bundle to measure; give one or more folders")
    chosen, machine = settings or Settings(), device or Local()
    facts = [BundleFacts.read(Path(bundle)) for bundle in bundles]
    for fact in facts:
        if chosen.k > fact.items:
            raise BenchError(f"{fact.name} has only {fact.items} items and k is {chosen.k}; give a smaller -k")
    asked = {name: value for name, value in asdict(chosen).items() if name != "processes"}
    requests: list[tuple[str, dict[str, Any]]] = [
        (fact.name, {**asked, "task": "bundle", "bundle": machine.push(Path(bundle)), "ask": []})
        for bundle, fact in zip(bundles, facts, strict=True)
    ]
    started = now()
    answers = measure_in_turns(requests, chosen.processes, machine, progress)
    said, finished = machine.info(), now()
    return [
        Result(
            bundle=fact,
            settings=chosen,
            device=said,
            measured=Measured.from_json({"processes": taken}),
            started=started,
            finished=finished,
            command=command(bundles, chosen, machine),
            edgerec=edgerec.__version__,
        )
        for fact, taken in zip(facts, answers, strict=True)
    ]


def command(bundles: Sequence[str | Path], settings: Settings, device: Device) -> str:
    """The command line that measures the same again."""
    words = ["edgerec", "bench", *map(str, bundles)]
    if device.name != Local.name:
        words += ["--device", device.name]
    for flag in ("processes", "calls", "seconds", "k", "exclude", "threads"):
        words += [f"--{flag}" if len(flag) > 1 else f"-{flag}", f"{getattr(settings, flag)}"]
    return shlex.join(words)
