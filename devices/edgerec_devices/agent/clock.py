"""Timing of calls: the first call, the warm-up, percentiles of the warm calls; and the yardstick.

The yardstick is a fixed piece of work that every process times: it distinguishes a slower machine from a slower bundle.
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
    """Return the action's result and its duration in milliseconds."""
    start = perf_counter_ns()
    result = action()
    return result, (perf_counter_ns() - start) / 1e6


class Limits(NamedTuple):
    """The minimum length of a scenario: warm calls, and seconds. Both must be reached."""

    calls: int
    seconds: float


def time_calls(prepare: Callable[[], Any], call: Callable[[Any], Any], limits: Limits) -> dict[str, Any]:
    """Time `call(prepare())`, without the time of `prepare`, until both limits are reached.

    Returns:
        The figures of `summary`, and cpu_share: processor time over elapsed time, below 1 if other programs used the
        processor.
    """
    subject = prepare()
    start = perf_counter_ns()
    call(subject)
    first = perf_counter_ns() - start
    times = array("q")  # 8 bytes per call: measuring must not change the memory that is measured
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
    """Return the figures of one scenario from the durations of its calls in order.

    Args:
        first_ns: duration of the first call, in nanoseconds.
        times_ns: durations of the calls after it, one or more.

    Returns:
        first_ms; count (warm calls) and warm_up (calls before them); p50_ms, p90_ms, p95_ms, p99_ms, max_ms, mean_ms
        and curve_ms (by percentile) of the warm calls; drift: the relative difference between the medians of their
        second half and their first half.
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
    """Return the number of leading calls that are warm-up.

    The second half of the calls counts as warm. The warm-up ends before the first two consecutive windows of 10 calls
    whose medians are both within 5 % of the second half's median, and is at most half of the calls.
    """
    durations = np.asarray(times, np.float64)
    half = durations.size // 2
    if half < WINDOW:
        return 0
    limit = (1 + TOLERANCE) * float(np.median(durations[half:]))
    for start in range(0, half - WINDOW + 1, WINDOW):
        windows = durations[start : start + 2 * WINDOW].reshape(2, WINDOW)
        if np.all(np.median(windows, axis=1) <= limit):
            return start
    return half


VALUES = 2**18
CALLS = 100


def yardstick_ms() -> float:
    """Return the median time of 100 passes over 1 MiB of float32 in numpy, on one thread."""
    values = np.linspace(0, 1, VALUES, dtype=np.float32)
    squares = np.empty_like(values)

    def work() -> float:
        np.multiply(values, values, out=squares)
        return float(squares.sum())

    return median(timed(work)[1] for _ in range(CALLS))
