"""The measurements of one fresh process.

Names that end with _ms are in milliseconds if the device's clock counts time, and in millions of instructions if it
counts instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Literal

from edgerec.json_records import checked

KIB = 1024


@dataclass(frozen=True)
class Latency:
    """One scenario in one process: milliseconds per call, batch 1.

    Attributes:
        first_ms: the first call after loading, not part of the other figures; None if the clock cannot measure it.
        warm_up: number of calls left out as warm-up.
        count: number of calls behind the percentiles.
        drift: median of the second half of the calls over that of the first, minus 1; positive if calls became slower.
        cpu_share: processor time of the process over elapsed time; the sum over threads. None if the device does not
            report it.
        batch: number of calls timed together because the clock is coarse; percentiles are then of their means.
        curve_ms: latency by percentile; empty in results of older versions.
    """

    first_ms: float | None
    warm_up: int
    count: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    mean_ms: float
    drift: float = 0.0
    cpu_share: float | None = None
    batch: int = 1
    curve_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Process:
    """The measurements of one fresh process, and of the processes with one scenario each that ran with it.

    Attributes:
        load_ms: opening without verification, with the recommend session and files in the page cache; None if the
            clock cannot measure it.
        verify_ms: comparing every sha256; None if there is nothing to compare.
        scenarios: latencies by scenario.
        memory: KiB by the kernel's names (VmHWM, RssAnon, Pss_File, ...), or wasm_heap; empty if not reported.
        bare: the same figures of a process that only ran a one-node session.
        yardstick_ms: time of a fixed piece of work, the same in every process; None if not measured.
        faults: minor and major page faults, by scenario and during loading.
        cost: instructions and joules per call, by scenario; without figures that cannot be measured.
        cold: load with cold files; None if not requested, or if the files could not be evicted from the page cache.
        warm_because: the reason why the files could not be evicted.
        offline, sustained: empty if not measured.
    """

    load_ms: float | None
    verify_ms: float | None
    scenarios: dict[str, Latency]
    memory: dict[str, int]
    bare: dict[str, int]
    yardstick_ms: float | None = None
    faults: dict[str, dict[str, int]] = field(default_factory=dict)
    cost: dict[str, dict[str, float]] = field(default_factory=dict)
    cold: Cold | None = None
    warm_because: str | None = None
    offline: tuple[Throughput, ...] = ()
    sustained: tuple[Window, ...] = ()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Process:
        """Parse the fields. Raises KeyError, TypeError or ValueError if one is missing or of another type."""
        return cls(
            _optional(fields.get("load_ms")),
            _optional(fields.get("verify_ms")),
            checked(dict[str, Latency], fields["scenarios"], "scenarios"),
            _whole(fields.get("memory", {})),
            _whole(fields.get("bare", {})),
            _optional(fields.get("yardstick_ms")),
            {str(name): _whole(counts) for name, counts in _by_scenario(fields.get("faults", {})).items()},
            checked(dict[str, dict[str, float]], fields.get("cost", {}), "cost"),
            checked(Cold | None, fields.get("cold"), "cold"),
            checked(str | None, fields.get("warm_because"), "warm_because"),
            checked(tuple[Throughput, ...], fields.get("offline", ()), "offline"),
            checked(tuple[Window, ...], fields.get("sustained", ()), "sustained"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a result on disk has them: without figures that were not measured, except null times."""
        always = ("load_ms", "verify_ms", "scenarios", "memory", "bare")
        fields = asdict(self)
        fields["sustained"] = [
            {name: value for name, value in window.items() if value is not None} for window in fields["sustained"]
        ]
        return {name: value for name, value in fields.items() if name in always or value not in (None, {}, (), [])}

    def in_instructions(self) -> Process:
        """Drop the figures that instruction counts do not reproduce: those that wait for disks and other threads."""
        scenarios = {name: replace(latency, first_ms=None, cpu_share=None) for name, latency in self.scenarios.items()}
        return replace(
            self,
            load_ms=None,
            verify_ms=None,
            yardstick_ms=None,
            scenarios=scenarios,
            cold=None,
            offline=(),
            sustained=(),
        )

    def above_bare(self, name: str) -> int | None:
        """Return a memory figure minus that of the bare session, in bytes; None if it could not be read."""
        if name not in self.memory or name not in self.bare:
            return None
        return (self.memory[name] - self.bare[name]) * KIB


def _optional(value: Any) -> float | None:
    return None if value is None else float(checked(float, value, "a figure"))


def _whole(counts: Any) -> dict[str, int]:
    return {name: int(count) for name, count in checked(dict[str, float], counts, "counts").items()}


def _by_scenario(faults: dict[str, Any]) -> dict[str, Any]:
    """Group page faults by scenario; some agents answer {minor, major} of all scenarios together."""
    return {"load and scenarios": faults} if set(faults) & {"minor", "major"} else faults


EDGE = 10
"""The start and the end of a sustained load are each one tenth of its windows."""


@dataclass(frozen=True)
class Cold:
    """One load and one recommendation with files that were evicted from the page cache.

    Attributes:
        load_ms: opening the bundle.
        first_ms: the first recommendation after the load.
        faults: minor and major page faults of both; empty if not measured.
    """

    load_ms: float
    first_ms: float
    faults: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """One second of a sustained load.

    Attributes:
        at_s: start, in seconds after the start of the load.
        count: number of calls.
        mhz, temperature_c, throttled: state at the end; None if it cannot be read.
    """

    at_s: float
    count: int
    p50_ms: float
    mhz: float | None = None
    temperature_c: float | None = None
    throttled: str | None = None


@dataclass(frozen=True)
class Throughput:
    """Throughput of recommendations for many users at once, as in MLPerf's scenario offline."""

    threads: int
    batch: int
    calls: int
    users_per_second: float

    @property
    def name(self) -> str:
        """'batch 16, 2 threads'."""
        return f"batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass(frozen=True)
class Sustained:
    """Speed, clock and temperature at the start and the end of a sustained load.

    Attributes:
        seconds: duration.
        start_ms, end_ms: medians of the first and last windows.
        mhz, temperature_c: values at the start and the end; None if not read.
        throttled: every throttling flag that was set.
    """

    seconds: float
    start_ms: float
    end_ms: float
    mhz: tuple[float, float] | None
    temperature_c: tuple[float, float] | None
    throttled: tuple[str, ...]

    @property
    def speed_ratio(self) -> float:
        """Speed at the end relative to the start; below 1 if the device became slower."""
        return self.start_ms / self.end_ms

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Sustained:
        """Summarise one or more windows in chronological order."""
        edge = -(-len(windows) // EDGE)
        flags = (flag for window in windows if window.throttled for flag in window.throttled.split(", "))
        return cls(
            seconds=windows[-1].at_s + 1,
            start_ms=median(window.p50_ms for window in windows[:edge]),
            end_ms=median(window.p50_ms for window in windows[-edge:]),
            mhz=_ends([window.mhz for window in windows]),
            temperature_c=_ends([window.temperature_c for window in windows]),
            throttled=tuple(flag for flag in dict.fromkeys(flags) if flag != "none"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return a summary for readers of the JSON, which is never parsed."""
        return {"start_ms": self.start_ms, "end_ms": self.end_ms, "kept": self.speed_ratio}


def _ends(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (known[0], known[-1]) if known else None


ClockName = Literal["time", "instructions"]


@dataclass(frozen=True)
class Clock:
    """A kind of clock, with the unit of figures whose names end with _ms.

    Attributes:
        name: name in results.
        unit: displayed unit of a call.
        calls: heading of figures per call.
        once: heading of figures that are measured once.
        a_call: displayed name of the quantity.
    """

    name: ClockName
    unit: str
    calls: str
    once: str
    a_call: str


TIME = Clock("time", "ms", "Milliseconds a call, warm", "Milliseconds, once", "Time")
INSTRUCTIONS = Clock(
    "instructions", "M instr.", "Million instructions a call, warm", "Million instructions, once", "Instructions"
)
CLOCKS: dict[str, Clock] = {clock.name: clock for clock in (TIME, INSTRUCTIONS)}


def clock_of(device: Mapping[str, Any]) -> Clock:
    """Return the kind of a device's clock: time, unless its facts name another."""
    return CLOCKS.get(str(device.get("clock", "time")), TIME)
