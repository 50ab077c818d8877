"""Measured figures: of one process, and over the fresh processes that were measured alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from edgerec_bench.significance import calls_needed

KIB = 1024
UNSTEADY = 0.10
"""Processes whose medians differ by more than this share of their median are called unsteady."""
CONTESTED = 0.90
"""Processes that had less than this share of the processor had to wait for other programs."""
DRIFTING = 0.05
"""Calls whose second half differs from the first by more than this were not warm, or the machine changed its speed."""


@dataclass(frozen=True)
class Latency:
    """One scenario in one process: milliseconds a call, batch 1.

    Attributes:
        first_ms: the first call after loading, apart from the others.
        warm_up: calls left out as warm-up.
        count: calls that the percentiles are of.
        drift: the median of their second half over that of the first, less 1: above 0 they were getting slower.
        cpu_share: the process's processor time over the time that passed; of several threads, their sum.
        curve_ms: by percentile; empty in results of older versions.
    """

    first_ms: float
    warm_up: int
    count: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    mean_ms: float
    drift: float = 0.0
    cpu_share: float = 1.0
    curve_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Process:
    """What one fresh process showed.

    Attributes:
        load_ms: opening without verification, with the recommend session.
        verify_ms: comparing every sha256; None where there is nothing to compare.
        scenarios: by name.
        memory: KiB by the kernel's names (VmHWM, RssAnon, Pss_File, ...); empty without /proc.
        bare: the same of a process beside it that only ran a one-node session.
        yardstick_ms: a fixed piece of work, the same in every process; None in results of older versions.
    """

    load_ms: float
    verify_ms: float | None
    scenarios: dict[str, Latency]
    memory: dict[str, int]
    bare: dict[str, int]
    yardstick_ms: float | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Process:
        """Raises KeyError, TypeError or ValueError where fields are missing or of another type."""
        return cls(
            float(fields["load_ms"]),
            _optional(fields.get("verify_ms")),
            {str(name): Latency(**values) for name, values in fields["scenarios"].items()},
            {str(name): int(value) for name, value in fields["memory"].items()},
            {str(name): int(value) for name, value in fields["bare"].items()},
            _optional(fields.get("yardstick_ms")),
        )

    def above_bare(self, name: str) -> int | None:
        """Bytes of a memory figure above the bare session's; None where it could not be read."""
        if name not in self.memory or name not in self.bare:
            return None
        return (self.memory[name] - self.bare[name]) * KIB


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)


@dataclass(frozen=True)
class Measured:
    """Processes measured alike; every figure is the median over them."""

    processes: tuple[Process, ...]

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The names of the scenarios, 'recommend' first."""
        return tuple(self.processes[0].scenarios)

    @property
    def load_ms(self) -> float:
        return median(process.load_ms for process in self.processes)

    @property
    def verify_ms(self) -> float | None:
        return self._median(lambda process: process.verify_ms)

    def latency(self, scenario: str = "recommend", figure: str = "p50_ms") -> float:
        """Milliseconds: the median over the processes of one of `Latency`'s figures."""
        return median(self.each(scenario, figure))

    def each(self, scenario: str = "recommend", figure: str = "p50_ms") -> list[float]:
        """One of `Latency`'s figures, one value a process."""
        return [float(getattr(process.scenarios[scenario], figure)) for process in self.processes]

    def curve(self, scenario: str = "recommend") -> dict[float, float]:
        """Milliseconds by percentile, each the median over the processes; empty in results of older versions."""
        curves = [process.scenarios[scenario].curve_ms for process in self.processes]
        return {float(name): median(curve[name] for curve in curves) for name in min(curves, key=len)}

    def spread(self, scenario: str = "recommend") -> float:
        """(largest - smallest) / median of the processes' p50: how far to trust a single one."""
        medians = self.each(scenario)
        return (max(medians) - min(medians)) / median(medians)

    def memory(self, name: str) -> float | None:
        """Bytes of a memory figure; None where it could not be read."""
        return self._median(lambda process: process.memory[name] * KIB if name in process.memory else None)

    def above_bare(self, name: str) -> float | None:
        """Bytes of a memory figure above the bare session's; None where it could not be read."""
        return self._median(lambda process: process.above_bare(name))

    def unsteady(self) -> list[str]:
        """The scenarios whose processes differ by more than 10 %, each with its spread."""
        spreads = {name: self.spread(name) for name in self.scenarios}
        return [f"{name} {value:.0%}" for name, value in spreads.items() if value > UNSTEADY]

    def few_calls(self, percentile: int = 99) -> dict[str, int]:
        """The scenarios that some process called too rarely to back a percentile, each with its fewest calls."""
        fewest = {name: int(min(self.each(name, "count"))) for name in self.scenarios}
        return {name: count for name, count in fewest.items() if count < calls_needed(percentile)}

    @property
    def cpu_share(self) -> float:
        """The smallest share of the processor that a scenario had, the median over the processes; at most 1."""
        return min(1.0, *(self.latency(name, "cpu_share") for name in self.scenarios))

    def drifting(self) -> list[str]:
        """The scenarios whose warm calls still became faster or slower by more than 5 %, each with its drift."""
        drifts = {name: self.latency(name, "drift") for name in self.scenarios}
        return [f"{name} {value:+.0%}" for name, value in drifts.items() if abs(value) > DRIFTING]

    def summary(self) -> dict[str, Any]:
        """For readers of the JSON: medians over the processes; never read back."""
        figures = ("first_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms")
        return {
            "load_ms": self.load_ms,
            "verify_ms": self.verify_ms,
            "scenarios": {
                name: {figure: self.latency(name, figure) for figure in figures} | {"spread": self.spread(name)}
                for name in self.scenarios
            },
            "bytes_above_bare": {
                name: self.above_bare(name) for name in self.processes[0].memory if name in self.processes[0].bare
            },
        }

    def to_json(self) -> dict[str, Any]:
        """{"summary": ..., "processes": [...]}."""
        return {"summary": self.summary(), "processes": [asdict(process) for process in self.processes]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Measured:
        """Raises KeyError, TypeError or ValueError where something is missing or of another type."""
        processes = tuple(Process.from_json(entry) for entry in fields["processes"])
        if not processes or any(tuple(p.scenarios) != tuple(processes[0].scenarios) for p in processes):
            raise ValueError("processes with the same scenarios are needed")
        return cls(processes)

    def _median(self, figure: Callable[[Process], float | None]) -> float | None:
        known = [value for value in map(figure, self.processes) if value is not None]
        return median(known) if known else None
