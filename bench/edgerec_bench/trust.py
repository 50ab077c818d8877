"""What makes measured figures less than trustworthy, and what to run next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgerec_bench.apart import Sustained
from edgerec_bench.figures import CONTESTED, DRIFTING, UNSTEADY, Measured
from edgerec_bench.significance import calls_needed
from edgerec_bench.units import TIME, clock_of

FALLING = 0.10
"""A sustained load whose calls became slower by more than this share of their speed is told."""

CLOCK_STEPS = 100
"""A call that lasts fewer steps of the timer than this is read to no better than a hundredth."""


def doubts(measured: Measured, device: dict[str, Any]) -> Iterator[str]:
    """One sentence for each reason, with the flag of `edgerec bench` that mends it."""
    timed = clock_of(device) is TIME
    if unsteady := measured.unsteady():
        processes = more_processes(len(measured.processes))
        yield (
            f"fresh processes differ by more than {UNSTEADY:.0%} ({', '.join(unsteady)}); "
            f"{'close other programs and ' * timed}measure again with --processes {processes}"
        )
    if measured.cpu_share is not None and measured.cpu_share < CONTESTED:
        yield f"other programs took up to {1 - measured.cpu_share:.0%} of the processor; close them and measure again"
    if drifting := measured.drifting():
        became, more = ("faster or slower", "--seconds") if timed else ("shorter or longer", "--calls")
        yield (
            f"calls still became {became} by more than {DRIFTING:.0%} while measured ({', '.join(drifting)}); "
            f"measure again with more {more}"
        )
    if timed and (few := measured.few_calls()):
        counts = ", ".join(f"{name} {count}" for name, count in few.items())
        needed = calls_needed(99)
        yield f"p99 rests on too few calls ({counts}, {needed} are needed); measure again with --calls {needed}"
    if (throttled := device.get("throttled", "none")) != "none":
        yield f"the device held its clock back ({throttled}); cool it, power it better, restart it and measure again"
    if paged := measured.paged():
        yield (
            f"the bundle does not stay in the device's memory: each call waits for the disk ({', '.join(paged)} page "
            "faults); make it smaller, or close other programs"
        )
    if reason := next((one.warm_because for one in measured.processes if one.warm_because), None):
        yield f"load is warm only: {reason}"
    if (sustained := measured.sustained) and sustained.kept < 1 - FALLING:
        yield _fell(sustained)
    step = float(device.get("clock_ns", 0)) / 1e6 if timed else 0.0
    coarse = [name for name in measured.scenarios if measured.timed_at_once(name) < CLOCK_STEPS * step]
    if coarse:
        yield f"the timer's step of {step * 1e6:g} ns is coarse for {', '.join(coarse)}; do not compare them"


def _fell(sustained: Sustained) -> str:
    """By how much, and what was seen of the clock meanwhile."""
    seen = []
    if sustained.mhz:
        seen.append("clock {:.0f} to {:.0f} MHz".format(*sustained.mhz))
    if sustained.temperature_c:
        seen.append("{:.0f} to {:.0f} °C".format(*sustained.temperature_c))
    told = ", ".join([*seen, *sustained.throttled])
    return (
        f"sustained: after {sustained.seconds:.0f} s it kept {sustained.kept:.0%} of its speed"
        f"{f' ({told})' if told else ''}; cool it, power it better and measure again"
    )


def more_processes(processes: int) -> int:
    """How many to measure with next, where so many did not suffice."""
    return max(10, 2 * processes)
