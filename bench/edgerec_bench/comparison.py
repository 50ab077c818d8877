"""Comparison of two results: the ratio of every figure with its confidence interval, and a verdict.

The unit of replication is the fresh process, not the call. Calls of one process share its memory layout and the load of
the machine, so that a thousand of them predict the next process little better than one. Each process therefore gives
one value, and samples are small: 3 to 10 values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, fsum, inf, log, sqrt
from statistics import fmean, variance
from typing import Any, NamedTuple

from edgerec.errors import BenchError
from edgerec.extras import require
from edgerec_bench.result import CONTESTED, AnyResult, Process, Result, differences, more_processes

SAME, UNSTABLE = "no difference found", "unstable"

RESOLVED = 1.10
"""The verdict 'no difference found' requires an interval that excludes differences of 10 %."""

AGREE = sqrt(RESOLVED)
"""5 %: the largest ratio of an interval that contains 1 and ends within 10 % of it.

If other programs took part of the processor, a median must differ by more to count: their load varies between runs,
which the spread between the processes of one run does not show. Tails and load times include the waiting, and are not
compared at all.
If the ratio of the yardstick differs significantly from 1 by more, the machine changed its speed, and no times are
compared.
"""

WORDS = {
    "ms": ("slower", "faster"),
    "users/s": ("faster", "slower"),
    "M instr.": ("larger", "smaller"),
    "instr.": ("larger", "smaller"),
    "bytes": ("larger", "smaller"),
}
"""The verdicts for a ratio above 1 and below 1, by unit."""
TIMED = ("ms", "users/s")
"""Units that depend on other programs and on the speed of the machine."""

RSS_BATCH = 64 * 4096
"""Linux counts resident pages in batches of up to 64 per thread: the possible error of a reading, in bytes."""

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """The ratio of two measurements with the limits of its 95 % confidence interval; `high` is inf if unknown."""

    ratio: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields; unknown limits are None."""
        known = math.isfinite(self.high)
        return {"ratio": self.ratio, "low": self.low if known else None, "high": self.high if known else None}


def ratio_interval(base: Sequence[float], new: Sequence[float], step: float = 0.0) -> Interval:
    """Return the ratio new / base of geometric means, with Welch's t-interval on the logarithms.

    A bootstrap over 3 to 10 processes resamples the same few values and gives intervals that are too narrow; t accounts
    for the unknown variance. Logarithms are used because disturbances are multiplicative, and Welch's interval because
    the slower side often varies more.

    Args:
        base, new: one positive value for each process.
        step: resolution of a reading; its rounding error widens the interval.

    Returns:
        The interval; from 0 to inf if one side has a single process.
    """
    logs, more = [math.log(value) for value in base], [math.log(value) for value in new]
    stdtrit = require("scipy.special", "bench").stdtrit
    ratio = fmean(more) - fmean(logs)
    if min(len(logs), len(more)) < 2:
        return Interval(math.exp(ratio), 0.0, math.inf)
    errors = [(variance(values) / len(values), len(values) - 1) for values in (logs, more)]
    sampled = sum(square for square, _ in errors)
    spare = sum(square**2 / freedom for square, freedom in errors)
    freedom = sampled**2 / spare if spare else float(min(freedom for _, freedom in errors))
    rounding = sum((step / fmean(values)) ** 2 / 12 for values in (base, new))
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(sampled + rounding)
    return Interval(*(math.exp(value) for value in (ratio, ratio - half, ratio + half)))


@dataclass(frozen=True)
class Sample:
    """One figure of one result, with a value for each process.

    Attributes:
        unit: a key of `WORDS`.
        exact: True if the value is counted, not measured, and has no variance.
        waits: True if it includes waiting for other programs: tail percentiles, and what happens once.
        step: resolution of a reading.
    """

    values: tuple[float, ...]
    unit: str = "ms"
    exact: bool = False
    waits: bool = False
    step: float = 0.0

    @property
    def centre(self) -> float:
        """Geometric mean; displayed ratios are ratios of these."""
        return exp(fsum(map(log, self.values)) / len(self.values))


@dataclass(frozen=True)
class Change:
    """The change of one figure.

    Attributes:
        base, new: geometric means over the processes, in `unit`.
        allowed: ratio that two measurements of the same bundle may have; inf if they cannot be compared.
        verdict: slower, faster, larger, smaller, 'no difference found' or 'unstable'.
    """

    figure: str
    unit: str
    base: float
    new: float
    interval: Interval
    allowed: float
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with the interval as {"ratio", "low", "high"}; an infinite `allowed` is None."""
        allowed = self.allowed if self.allowed < inf else None
        return {**asdict(self), "interval": self.interval.to_json(), "allowed": allowed}


@dataclass(frozen=True)
class Comparison:
    """The comparison of two results of bench, figure by figure.

    Attributes:
        machine: ratio of the yardstick, the slowdown of the machine itself; None if a result has none.
        cpu_share: the smaller processor share of the two results; None if a device does not report it.
        again: commands that measure both with more processes.
    """

    base: str
    new: str
    changes: tuple[Change, ...]
    machine: Interval | None
    cpu_share: float | None
    again: tuple[str, ...]

    @property
    def machine_changed(self) -> bool:
        """True if the machine's speed changed, by the yardstick, so that times cannot be compared."""
        return _surely_beyond(self.machine, AGREE)

    @property
    def contested(self) -> bool:
        """True if other programs took part of the processor, so that medians must differ by more than 5 % to count."""
        return self.cpu_share is not None and self.cpu_share < CONTESTED

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with `machine_changed`, as JSON values."""
        return {
            "base": self.base,
            "new": self.new,
            "machine": self.machine and self.machine.to_json(),
            "machine_changed": self.machine_changed,
            "cpu_share": self.cpu_share,
            "changes": [change.to_json() for change in self.changes],
            "again": list(self.again),
        }


def compare(base: Sequence[AnyResult], new: Sequence[AnyResult], *, force: bool = False) -> list[Comparison]:
    """Compare results of the same bundles, matched by name; single results are compared whatever their names.

    Example:
        >>> (films,) = compare(read_results(Path("before.json")), read_results(Path("after.json")))
        >>> [change.figure for change in films.changes if change.verdict == "slower"]

    Args:
        force: compare even if devices or settings differ, or a result is partial.

    Raises:
        BenchError: devices or settings differ (the message names them), a result is partial, no bundle is in both, or
            there is no result of a bundle.
    """
    pairs = _pairs(_by_name(base), _by_name(new))
    for pair in pairs:
        if partial := next((result for result in pair if result.partial and not force), None):
            raise BenchError(
                f"the result of {partial.bundle.name} is partial ({partial.partial}); measure it again, or give --force"
            )
        unlike = differences(pair)
        if unlike and not force:
            listed = "; ".join(f"{name}: {before!r} and {after!r}" for name, (before, after) in unlike.items())
            raise BenchError(
                f"the measurements differ in more than the bundles ({listed}); measure both with the same settings on "
                "one device, or give --force"
            )
    return [_compare(*pair) for pair in pairs]


def _by_name(results: Sequence[AnyResult]) -> dict[str, Result]:
    named = {result.bundle.name: result for result in results if isinstance(result, Result)}
    if len(named) < len(results) or not named:
        raise BenchError(
            "compare takes results of 'edgerec bench' with one result per bundle; a file holds another kind, or a name "
            "twice"
        )
    return named


def _pairs(base: dict[str, Result], new: dict[str, Result]) -> list[tuple[Result, Result]]:
    if len(base) == len(new) == 1:
        return [(next(iter(base.values())), next(iter(new.values())))]
    names = [name for name in base if name in new]
    if not names:
        raise BenchError(
            f"no bundle is in both results: the first has {', '.join(base)}, the second {', '.join(new)}; "
            "measure the same bundles"
        )
    return [(base[name], new[name]) for name in names]


def _compare(base: Result, new: Result) -> Comparison:
    shares = [share for result in (base, new) if (share := result.measured.cpu_share) is not None]
    machine, share = _machine(base, new), min(shares, default=None)
    before, after = _samples(base), _samples(new)
    comparison = Comparison(base.bundle.name, new.bundle.name, (), machine, share, _again(base, new))
    alike = [name for name in before if name in after and before[name].unit == after[name].unit]
    changes = [_change(name, before[name], after[name], comparison) for name in alike]
    return replace(comparison, changes=tuple(changes))


def _again(base: Result, new: Result) -> tuple[str, ...]:
    more = max(more_processes(len(result.measured.processes)) for result in (base, new))
    again = [re.sub(r"--processes \d+", f"--processes {more}", result.command) for result in (base, new)]
    return tuple(dict.fromkeys(again))


def _change(name: str, base: Sample, new: Sample, comparison: Comparison) -> Change:
    interval, allowed = _interval(base, new), 1.0
    if base.unit in TIMED:
        if comparison.machine_changed or (comparison.contested and base.waits):
            allowed = inf
        elif comparison.contested:
            allowed = AGREE
    return Change(
        name, base.unit, base.centre, new.centre, interval, allowed, verdict(interval, allowed, WORDS[base.unit])
    )


def _interval(base: Sample, new: Sample) -> Interval:
    if base.exact:
        ratio = new.centre / base.centre
        return Interval(ratio, ratio, ratio)
    return ratio_interval(base.values, new.values, base.step)


def verdict(interval: Interval, allowed: float = 1.0, words: tuple[str, str] = ("slower", "faster")) -> str:
    """Return the verdict for an interval.

    Args:
        allowed: see `Change`.
        words: verdicts for a ratio above 1 and below 1.
    """
    if interval.low > allowed:
        return words[0]
    if interval.high < 1 / allowed:
        return words[1]
    resolved = interval.low > 1 / RESOLVED and interval.high < RESOLVED
    agree = 1 / AGREE <= interval.ratio <= AGREE
    return SAME if resolved and agree and allowed < inf else UNSTABLE


def _surely_beyond(interval: Interval | None, ratio: float) -> bool:
    """Return True if the interval excludes 1 and its ratio is beyond `ratio` in either direction."""
    if interval is None or interval.low <= 1 <= interval.high:
        return False
    return not 1 / ratio <= interval.ratio <= ratio


def _machine(base: Result, new: Result) -> Interval | None:
    sides = [[process.yardstick_ms for process in result.measured.processes] for result in (base, new)]
    before, after = ([value for value in side if value is not None] for side in sides)
    return ratio_interval(before, after) if before and after else None


def _samples(result: Result) -> dict[str, Sample]:
    """Return every figure that has a ratio; memory only if it is well above the kernel's resolution."""
    found = {name: sample for name, sample in _times(result) if sample.values and min(sample.values) > 0}
    peaks = [process.above_bare("VmHWM") for process in result.measured.processes]
    known = tuple(float(peak) for peak in peaks if peak is not None and peak > 4 * RSS_BATCH)
    if known and len(known) == len(peaks):
        found["peak"] = Sample(known, "bytes", step=RSS_BATCH)
    return found | {"bytes": Sample((float(result.bundle.nbytes),), "bytes", exact=True)}


def _times(result: Result) -> Iterator[tuple[str, Sample]]:
    measured, unit = result.measured, result.clock.unit
    if "recommend" in measured.scenarios:
        for percentile in ("p50", "p95", "p99"):
            values = measured.each("recommend", f"{percentile}_ms")
            yield percentile, Sample(tuple(values), unit, waits=percentile != "p50")
    for scenario in measured.scenarios:
        if scenario != "recommend":
            name = "raw ids" if scenario == "recommend, raw ids" else scenario
            yield name, Sample(tuple(measured.each(scenario)), unit)
    yield "load", _each(result, lambda process: process.load_ms, unit)
    yield "cold load", _each(result, lambda process: process.cold.load_ms if process.cold else None, unit)
    yield (
        "offline",
        _each(result, lambda process: max((p.users_per_second for p in process.offline), default=None), "users/s"),
    )
    yield "instructions", _each(result, lambda process: process.cost.get("recommend", {}).get("instructions"), "instr.")


def _each(result: Result, figure: Callable[[Process], float | None], unit: str) -> Sample:
    """Return a figure that is measured once in each process; empty if a process does not have it."""
    values = [value for value in map(figure, result.measured.processes) if value is not None]
    whole = len(values) == len(result.measured.processes)
    return Sample(tuple(values) if whole else (), unit, waits=unit == "ms")


GRAMMAR = re.compile(r"\s*(?P<figure>[a-z][a-z0-9 ]*?)\s*>\s*(?P<times>\d+(\.\d+)?)\s*x\s*")


@dataclass(frozen=True)
class Limit:
    """A condition: a figure, and the ratio to the base that it must not exceed."""

    figure: str
    times: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Parse 'FIGURE > NUMBERx'. Raises BenchError for any other text."""
        match = GRAMMAR.fullmatch(text)
        if match is None or float(match["times"]) == 0:
            raise BenchError(f"{text!r} is not a condition; write FIGURE > NUMBERx, such as 'p50 > 1.1x'")
        return cls(match["figure"], float(match["times"]))

    def __str__(self) -> str:
        return f"{self.figure} > {self.times:g}x"

    def change(self, comparison: Comparison) -> Change:
        """Return the change of the figure. Raises BenchError if the comparison has no such figure."""
        for change in comparison.changes:
            if change.figure == self.figure:
                return change
        known = ", ".join(change.figure for change in comparison.changes)
        raise BenchError(f"no figure {self.figure!r} in both results of {comparison.new}; expected one of: {known}")

    def exceeded(self, comparison: Comparison) -> bool:
        """Return True if the whole interval is above the limit, with an allowance for noise between runs."""
        change = self.change(comparison)
        return change.interval.low > self.times * change.allowed


def failures(limits: Sequence[Limit], comparisons: Sequence[Comparison]) -> list[str]:
    """Return one line for each limit that a bundle exceeds. Raises BenchError for a figure that is not compared."""
    return [
        f"{comparison.new}: {limit} holds: {(ratio := limit.change(comparison).interval).ratio:.3f}x, "
        f"at least {ratio.low:.3f}x"
        for comparison in comparisons
        for limit in limits
        if limit.exceeded(comparison)
    ]
