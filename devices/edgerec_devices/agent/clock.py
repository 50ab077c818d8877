"""Timing calls: the first apart, warm-up found afterwards and left out, percentiles of the rest; and the yardstick.

The yardstick is a fixed piece of work that every process times: it tells a slower machine from a slower bundle.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns, process_time_ns
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

WINDOW = 10
TOLERANCE = 0.05

PERCENTILES = (50, 90, 95, 99)
CURVE = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99)


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """The action's result and how many milliseconds it took."""
    start = perf_counter_ns()
    result = action()
    return result, (perf_counter_ns() - start) / 1e6


class Limits(NamedTuple):
    """How long a scenario is measured: at least so many warm calls, and at least so many seconds."""

    calls: int
    seconds: float


def time_calls(prepare: Callable[[], Any], call: Callable[[Any], Any], limits: Limits) -> dict[str, Any]:
    """Time `call(prepare())`, `prepare` outside the clock, until both limits are reached.

    Returns:
        What `summary` says, and cpu_share: processor time over time passed; below 1 where other programs took the
        processor.
    """
    subject = prepare()
    start = perf_counter_ns()
    call(subject)
    first = perf_counter_ns() - start
    times = array("q")  # 8 bytes a call: the measuring must not show in the memory that is measured
    wanted, started, worked = limits.calls, perf_counter_ns(), process_time_ns()
    while True:
        while len(times) < wanted or perf_counter_ns() - started < limits.seconds * 1e9:
            subject = prepare()
            start = perf_counter_ns()
            call(subject)
            times.append(perf_counter_ns() - start)
        skipped = warm_up(times)
        if len(times) - skipped >= limits.calls:
            share = (process_time_ns() - worked) / (perf_counter_ns() - started)
            return {**summary(first, times), "cpu_share": share}
        wanted = limits.calls + skipped


def summary(first_ns: float, times_ns: ArrayLike) -> dict[str, Any]:
    """The figures of one scenario, from how long each call took, in their order.

    Args:
        first_ns: of the first call, apart from the others.
        times_ns: of the calls after it, one or more.

    Returns:
        first_ms; count and warm_up (warm calls that count, calls before them that do not); p50_ms, p90_ms, p95_ms,
        p99_ms, max_ms, mean_ms and curve_ms (by percentile) of the warm calls; drift: by how much the median of their
        second half differs from the first half's.
    """
    skipped = warm_up(times_ns)
    warm = np.asarray(times_ns, np.float64)[skipped:] / 1e6
    values, curve = np.percentile(warm, PERCENTILES), np.percentile(warm, CURVE)
    earlier, later = np.array_split(warm, 2) if warm.size > 1 else (warm, warm)
    return {
        "first_ms": first_ns / 1e6,
        "warm_up": skipped,
        "count": warm.size,
        **{f"p{number}_ms": float(value) for number, value in zip(PERCENTILES, values, strict=True)},
        "max_ms": float(warm.max()),
        "mean_ms": float(warm.mean()),
        "drift": float(np.median(later) / np.median(earlier)) - 1,
        "curve_ms": {str(number): float(value) for number, value in zip(CURVE, curve, strict=True)},
    }


def warm_up(times: ArrayLike) -> int:
    """How many leading calls are warm-up.

    The second half of the calls is taken as warm. Warm-up ends with the first two neighbouring windows of 10 calls
    whose medians are both within 5 % of theirs (one alone may be luck); it is at most half of the calls.
    """
    taken = np.asarray(times, np.float64)
    half = taken.size // 2
    if half < WINDOW:
        return 0
    limit = (1 + TOLERANCE) * float(np.median(taken[half:]))
    for start in range(0, half - WINDOW + 1, WINDOW):
        windows = taken[start : start + 2 * WINDOW].reshape(2, WINDOW)
        if np.all(np.median(windows, axis=1) <= limit):
            return start
    return half


VALUES = 2**18
CALLS = 100


def yardstick_ms() -> float:
    """Milliseconds, the median of 100 passes over 1 MiB of float32 in numpy, which uses one thread for it."""
    values = np.linspace(0, 1, VALUES, dtype=np.float32)
    room = np.empty_like(values)

    def work() -> float:
        np.multiply(values, values, out=room)
        return float(room.sum())

    return median(timed(work)[1] for _ in range(CALLS))
