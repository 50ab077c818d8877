"""Figures over fresh processes with the same settings, and warnings about their quality."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from edgerec_bench.result.process import KIB, TIME, Process, Sustained, Window, clock_of

UNSTEADY = 0.10
"""Processes whose medians spread by more than this share of their median are unsteady."""
CONTESTED = 0.90
"""Processes with less than this share of the processor waited for other programs."""
DRIFTING = 0.05
"""If the halves of the calls differ by more than this, they were not warm or the machine changed its speed."""
TAIL_CONFIDENCE = 0.99
"""MLPerf LoadGen's confidence for its early-stopping estimate of a percentile."""
STREAM_SECONDS = 600
"""Minimum duration of a single stream in MLPerf's inference rules (section 3, table of scenarios)."""


@dataclass(frozen=True)
class Measured:
    """Processes measured with the same settings; every figure is the median over them."""

    processes: tuple[Process, ...]

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios, with 'recommend' first if it was measured."""
        return tuple(self.processes[0].scenarios)

    @property
    def load_ms(self) -> float | None:
        """Milliseconds to open the bundle without verification; None if the device does not report it."""
        return self.median(lambda process: process.load_ms)

    @property
    def verify_ms(self) -> float | None:
        """Milliseconds to compare every sha256; None if the device does not report it."""
        return self.median(lambda process: process.verify_ms)

    @property
    def sustained(self) -> Sustained | None:
        """Summary of the sustained load; None if not measured."""
        return Sustained.of(self.windows) if self.windows else None

    @property
    def windows(self) -> tuple[Window, ...]:
        """Windows of the sustained load, one per second."""
        return next((process.sustained for process in self.processes if process.sustained), ())

    @property
    def throughputs(self) -> dict[str, float]:
        """Users per second by batch and threads, medians over the processes."""
        found = [{one.name: one.users_per_second for one in process.offline} for process in self.processes]
        names = dict.fromkeys(name for by_name in found for name in by_name)
        return {name: median(by_name[name] for by_name in found if name in by_name) for name in names}

    def latency(self, scenario: str = "recommend", figure: str = "p50_ms") -> float:
        """Return the median over the processes of one of `Latency`'s figures, in milliseconds.

        Raises KeyError if the scenario was not measured, ValueError if the device does not report the figure.
        """
        value = self.figure(scenario, figure)
        if value is None:
            if scenario not in self.scenarios:
                raise KeyError(scenario)
            raise ValueError(f"the device does not report {figure} of {scenario}")
        return value

    def figure(self, scenario: str, figure: str) -> float | None:
        """Return the same as `latency`; None if it was not measured."""
        values = self.each(scenario, figure) if scenario in self.scenarios else []
        return median(values) if values else None

    def timed_at_once(self, scenario: str) -> float:
        """Return the milliseconds between two readings of the clock: one call, or several together."""
        return self.latency(scenario) * self.latency(scenario, "batch")

    def each(self, scenario: str = "recommend", figure: str = "p50_ms") -> list[float]:
        """Return one of `Latency`'s figures for each process; empty if the device does not report it."""
        values = (getattr(process.scenarios[scenario], figure) for process in self.processes)
        return [float(value) for value in values if value is not None]

    def curve(self, scenario: str = "recommend") -> dict[float, float]:
        """Return milliseconds by percentile, medians over the processes; empty if not measured."""
        curves = [process.scenarios[scenario].curve_ms for process in self.processes if scenario in process.scenarios]
        return {float(name): median(curve[name] for curve in curves) for name in min(curves, key=len, default={})}

    def spread(self, scenario: str = "recommend") -> float:
        """Return (largest - smallest) / median of the processes' p50."""
        medians = self.each(scenario)
        return (max(medians) - min(medians)) / median(medians)

    def memory(self, name: str) -> float | None:
        """Return a memory figure in bytes; None if it could not be read."""
        return self.median(lambda process: process.memory[name] * KIB if name in process.memory else None)

    def above_bare(self, name: str) -> float | None:
        """Return a memory figure minus that of the bare session, in bytes; None if it could not be read."""
        return self.median(lambda process: process.above_bare(name))

    def faults(self, scenario: str, kind: str) -> float | None:
        """Return minor or major page faults; None if not measured."""
        return self.median(lambda process: process.faults.get(scenario, {}).get(kind))

    def cost(self, scenario: str, kind: str) -> float | None:
        """Return instructions or joules per call; None if not measured."""
        return self.median(lambda process: process.cost.get(scenario, {}).get(kind))

    def unsteady(self) -> list[str]:
        """Return the scenarios whose processes differ by more than 10 %, with their spread."""
        spreads = {name: self.spread(name) for name in self.scenarios}
        return [f"{name} {value:.0%}" for name, value in spreads.items() if value > UNSTEADY]

    def few_calls(self, percentile: int = 99) -> dict[str, int]:
        """Return the scenarios with too few calls in a process to support a percentile, with their fewest calls."""
        fewest = {name: int(min(self.each(name, "count"))) for name in self.scenarios}
        return {name: count for name, count in fewest.items() if count < calls_needed(percentile)}

    @property
    def cpu_share(self) -> float | None:
        """Smallest share of the processor that a scenario had, the median over the processes; at most 1.

        None if the device does not report it.
        """
        shares = [share for name in self.scenarios if (share := self.figure(name, "cpu_share")) is not None]
        return min(1.0, *shares) if shares else None

    def drifting(self) -> list[str]:
        """Return the scenarios whose warm calls still became faster or slower by more than 5 %, with their drift."""
        drifts = {name: self.latency(name, "drift") for name in self.scenarios}
        return [f"{name} {value:+.0%}" for name, value in drifts.items() if abs(value) > DRIFTING]

    def paged(self) -> list[str]:
        """Return the scenarios with at least one major page fault per warm call, with their number of faults."""
        faults = {name: self.faults(name, "major") or 0 for name in self.scenarios}
        return [f"{name} {count:,.0f}" for name, count in faults.items() if count >= self.latency(name, "count")]

    def summary(self) -> dict[str, Any]:
        """Return the medians over the processes, for readers of the JSON; never parsed."""
        figures = ("first_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms")
        summary: dict[str, Any] = {
            "load": "warm" if self.cold("load_ms") is None else "cold and warm",
            "load_ms": self.load_ms,
            "verify_ms": self.verify_ms,
            "scenarios": {
                name: {figure: self.figure(name, figure) for figure in figures} | {"spread": self.spread(name)}
                for name in self.scenarios
            },
            "bytes": {name: self.memory(name) for name in self.processes[0].memory},
            "bytes_above_bare": {
                name: self.above_bare(name) for name in self.processes[0].memory if name in self.processes[0].bare
            },
        }
        if summary["load"] != "warm":
            summary["cold"] = {name: self.cold(name) for name in ("load_ms", "first_ms")}
        if self.throughputs:
            summary["users_per_second"] = self.throughputs
        if self.sustained:
            summary["sustained"] = self.sustained.to_json()
        return summary

    def cold(self, figure: str) -> float | None:
        """Return load_ms or first_ms with files evicted from the page cache; None if not measured."""
        return self.median(lambda process: getattr(process.cold, figure) if process.cold else None)

    def to_json(self) -> dict[str, Any]:
        """Return {"summary": ..., "processes": [...]}."""
        return {"summary": self.summary(), "processes": [process.to_json() for process in self.processes]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Measured:
        """Parse the fields. Raises KeyError, TypeError or ValueError if one is missing or of another type."""
        processes = tuple(Process.from_json(entry) for entry in fields["processes"])
        if not processes or any(tuple(p.scenarios) != tuple(processes[0].scenarios) for p in processes):
            raise ValueError("processes with the same scenarios are needed")
        return cls(processes)

    def median(self, figure: Callable[[Process], float | None]) -> float | None:
        """Return the median of a figure over the processes that have it; None if none has."""
        known = [value for value in map(figure, self.processes) if value is not None]
        return median(known) if known else None


FALLING = 0.10
"""A sustained load that loses more than this share of its speed leads to a warning."""

CLOCK_STEPS = 100
"""Calls shorter than this number of timer steps are measured with an error above 1 %."""


def quality_warnings(measured: Measured, device: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each reason to distrust the figures, with the flag of `edgerec bench` that helps."""
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
    if (sustained := measured.sustained) and sustained.speed_ratio < 1 - FALLING:
        yield _slowdown(sustained)
    step = float(device.get("clock_ns", 0)) / 1e6 if timed else 0.0
    coarse = [name for name in measured.scenarios if measured.timed_at_once(name) < CLOCK_STEPS * step]
    if coarse:
        yield f"the timer's step of {step * 1e6:g} ns is coarse for {', '.join(coarse)}; do not compare them"


def _slowdown(sustained: Sustained) -> str:
    """Describe the slowdown of a sustained load, with the changes of clock and temperature."""
    seen = []
    if sustained.mhz:
        seen.append("clock {:.0f} to {:.0f} MHz".format(*sustained.mhz))
    if sustained.temperature_c:
        seen.append("{:.0f} to {:.0f} °C".format(*sustained.temperature_c))
    causes = ", ".join([*seen, *sustained.throttled])
    return (
        f"sustained: after {sustained.seconds:.0f} s the speed fell to {sustained.speed_ratio:.0%}"
        f"{f' ({causes})' if causes else ''}; cool the device, power it better and measure again"
    )


def more_processes(processes: int) -> int:
    """Return the number of processes to suggest if `processes` were too few."""
    return max(10, 2 * processes)


def calls_needed(percentile: float) -> int:
    """Return the fewest calls that support a percentile: 662 for p99, 130 for p95, 64 for p90.

    This is MLPerf LoadGen's rule for its early-stopping estimate (loadgen/early_stopping.cc): with 99 % confidence, at
    least two of the calls lie beyond the true percentile.
    """
    below = percentile / 100
    count = 2
    while below**count + count * (1 - below) * below ** (count - 1) > 1 - TAIL_CONFIDENCE:
        count += 1
    return count
