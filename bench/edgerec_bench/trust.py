"""What makes measured figures less than trustworthy, and what to run next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgerec_bench.figures import CONTESTED, DRIFTING, UNSTEADY, Measured
from edgerec_bench.significance import calls_needed

CLOCK_STEPS = 100
"""A call that lasts fewer steps of the timer than this is read to no better than a hundredth."""


def doubts(measured: Measured, device: dict[str, Any]) -> Iterator[str]:
    """One sentence for each reason, with the flag of `edgerec bench` that mends it."""
    if unsteady := measured.unsteady():
        more = more_processes(len(measured.processes))
        yield (
            f"fresh processes differ by more than {UNSTEADY:.0%} ({', '.join(unsteady)}); "
            f"close other programs and measure again with --processes {more}"
        )
    if measured.cpu_share < CONTESTED:
        yield f"other programs took up to {1 - measured.cpu_share:.0%} of the processor; close them and measure again"
    if drifting := measured.drifting():
        yield (
            f"calls still became faster or slower by more than {DRIFTING:.0%} while they were measured "
            f"({', '.join(drifting)}); measure again with more --seconds"
        )
    if few := measured.few_calls():
        counts = ", ".join(f"{name} {count}" for name, count in few.items())
        needed = calls_needed(99)
        yield f"p99 rests on too few calls ({counts}, {needed} are needed); measure again with --calls {needed}"
    if (throttled := device.get("throttled", "none")) != "none":
        yield f"the device held its clock back ({throttled}); cool it, power it better, restart it and measure again"
    step = float(device.get("clock_ns", 0)) / 1e6
    if coarse := [name for name in measured.scenarios if measured.latency(name) < CLOCK_STEPS * step]:
        yield f"the timer's step of {step * 1e6:g} ns is coarse for {', '.join(coarse)}; do not compare them"


def more_processes(processes: int) -> int:
    """How many to measure with next, where so many did not suffice."""
    return max(10, 2 * processes)
