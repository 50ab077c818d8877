"""How sure a ratio of two measurements is. The unit of replication is the fresh process, not the call.

Calls of one process share its memory layout, its moment and its neighbours: a thousand of them say little more about
the next process than one does. Each process therefore gives one value, and few values is what there is: 3 to 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance
from typing import Any, NamedTuple

CONFIDENCE = 0.95
TAIL_CONFIDENCE = 0.99
"""MLPerf LoadGen's confidence for its early-stopping estimate of a percentile."""
STREAM_SECONDS = 600
"""What MLPerf's inference rules ask of a single stream at least (section 3, table of scenarios)."""


class Interval(NamedTuple):
    """The ratio of two measurements and the limits of its 95 % confidence interval; high is inf where unknown."""

    ratio: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """A limit that is unknown is null."""
        known = math.isfinite(self.high)
        return {"ratio": self.ratio, "low": self.low if known else None, "high": self.high if known else None}


def ratio_interval(base: Sequence[float], new: Sequence[float], step: float = 0.0) -> Interval:
    """The ratio new / base of geometric means, with Welch's t-interval on the logarithms.

    A bootstrap over 3 to 10 processes resamples the same few values and comes out too narrow; t allows for not knowing
    the spread. Logarithms, because processes disturb each other by factors; Welch, because the slower of two is often
    also the more restless.

    Args:
        base, new: one positive value a process.
        step: what a reading may be off, whatever the number of processes; its rounding error widens the interval.

    Returns:
        An interval from 0 to inf where one side has a single process.
    """
    logs, more = [math.log(value) for value in base], [math.log(value) for value in new]
    ratio = fmean(more) - fmean(logs)
    if min(len(logs), len(more)) < 2:
        return Interval(math.exp(ratio), 0.0, math.inf)
    errors = [(variance(values) / len(values), len(values) - 1) for values in (logs, more)]
    sampled = sum(square for square, _ in errors)
    spare = sum(square**2 / freedom for square, freedom in errors)
    freedom = sampled**2 / spare if spare else float(min(freedom for _, freedom in errors))
    rounding = sum((step / fmean(values)) ** 2 / 12 for values in (base, new))
    half = t_quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(sampled + rounding)
    return Interval(*(math.exp(value) for value in (ratio, ratio - half, ratio + half)))


def t_quantile(probability: float, freedom: float) -> float:
    """Student's t at a probability of one half or more, for any real degrees of freedom of one or more."""
    low, high = 0.0, 1.0
    while _t_below(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, freedom) < probability else (low, middle)
    return high


def _t_below(t: float, freedom: float, slices: int = 200) -> float:
    """P(T <= t), t >= 0: with t = sqrt(freedom) tan(angle) the density is a power of a cosine; Simpson's rule."""
    if freedom > 1e6:
        return NormalDist().cdf(t)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    width = math.atan(t / math.sqrt(freedom)) / slices
    heights = [math.cos(width * place) ** (freedom - 1) for place in range(slices + 1)]
    area = width / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))
    return float(0.5 + scale * area)


def calls_needed(percentile: float) -> int:
    """Fewest calls that can back a percentile: 662 for p99, 130 for p95, 64 for p90.

    MLPerf LoadGen's rule for its early-stopping estimate (loadgen/early_stopping.cc): fewer calls, and two of them
    beyond the true percentile cannot be counted on with 99 % confidence.
    """
    below = percentile / 100
    count = 2
    while below**count + count * (1 - below) * below ** (count - 1) > 1 - TAIL_CONFIDENCE:
        count += 1
    return count
