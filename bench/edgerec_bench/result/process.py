"""What one fresh process showed.

Names that end with _ms are milliseconds where the device's clock counts time, and millions of instructions where it
counts those.
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
    """One scenario in one process: milliseconds a call, batch 1.

    Attributes:
        first_ms: the first call after loading, apart from the others; None where the clock tells nothing of it.
        warm_up: calls left out as warm-up.
        count: calls that the percentiles are of.
        drift: the median of their second half over that of the first, less 1: above 0 they were getting slower.
        cpu_share: the process's processor time over the time that passed; of several threads, their sum. None where
            the device does not tell.
        batch: calls that were timed together, because the clock is coarse: percentiles are then of their means.
        curve_ms: by percentile; empty in results of older versions.
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
    """What one fresh process showed, and processes of one scenario each beside it.

    Attributes:
        load_ms: opening without verification, with the recommend session, files in the page cache; None where the
            clock tells nothing of it.
        verify_ms: comparing every sha256; None where there is nothing to compare.
        scenarios: by name.
        memory: KiB by the kernel's names (VmHWM, RssAnon, Pss_File, ...), or wasm_heap; empty where not told.
        bare: the same of a process beside it that only ran a one-node session.
        yardstick_ms: a fixed piece of work, the same in every process; None where there is none.
        faults: minor and major page faults, by scenario and while loading.
        cost: instructions and joules a call, by scenario; without those that cannot be told.
        cold: None where it was not asked for, or files could not be put out of the page cache.
        warm_because: why they could not.
        offline, sustained: empty where not measured.
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
        """Raises KeyError, TypeError or ValueError where fields are missing or of another type."""
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
        """As it is written: what was not measured is absent, load_ms and verify_ms are null."""
        always = ("load_ms", "verify_ms", "scenarios", "memory", "bare")
        fields = asdict(self)
        fields["sustained"] = [
            {name: value for name, value in window.items() if value is not None} for window in fields["sustained"]
        ]
        return {name: value for name, value in fields.items() if name in always or value not in (None, {}, (), [])}

    def in_instructions(self) -> Process:
        """Without what does not repeat where the clock counts instructions: what waits for disks and other threads."""
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
        """Bytes of a memory figure above the bare session's; None where it could not be read."""
        if name not in self.memory or name not in self.bare:
            return None
        return (self.memory[name] - self.bare[name]) * KIB


def _optional(value: Any) -> float | None:
    return None if value is None else float(checked(float, value, "a figure"))


def _whole(counts: Any) -> dict[str, int]:
    return {name: int(count) for name, count in checked(dict[str, float], counts, "counts").items()}


def _by_scenario(faults: dict[str, Any]) -> dict[str, Any]:
    """An agent that does not tell scenarios apart answers {minor, major} of all of them."""
    return {"load and scenarios": faults} if set(faults) & {"minor", "major"} else faults


EDGE = 10
"""The beginning and the end of a sustained load are each a tenth of its windows."""


@dataclass(frozen=True)
class Cold:
    """A bundle opened and asked once, its files out of the page cache before.

    Attributes:
        first_ms: the first recommendation after the load.
        faults: minor and major page faults of both; empty where they were not measured.
    """

    load_ms: float
    first_ms: float
    faults: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """A second of a sustained load.

    Attributes:
        at_s: when it began.
        count: calls in it.
        mhz, temperature_c, throttled: at its end; None where they cannot be read.
    """

    at_s: float
    count: int
    p50_ms: float
    mhz: float | None = None
    temperature_c: float | None = None
    throttled: str | None = None


@dataclass(frozen=True)
class Throughput:
    """Recommendations for many users at once, MLPerf's scenario offline."""

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
        seconds: how long it lasted.
        start_ms, end_ms: the medians of its first and last windows.
        mhz, temperature_c: at both ends; None where not read.
        throttled: every flag that was seen.
    """

    seconds: float
    start_ms: float
    end_ms: float
    mhz: tuple[float, float] | None
    temperature_c: tuple[float, float] | None
    throttled: tuple[str, ...]

    @property
    def kept(self) -> float:
        """The speed at the end over that at the beginning: below 1 where the device fell off."""
        return self.start_ms / self.end_ms

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Sustained:
        """Summarise one or more windows, given in order of time."""
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
        """For readers of the JSON; never read back."""
        return {"start_ms": self.start_ms, "end_ms": self.end_ms, "kept": self.kept}


def _ends(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (known[0], known[-1]) if known else None


ClockName = Literal["time", "instructions"]


@dataclass(frozen=True)
class Clock:
    """A kind of clock. Figures whose names end with _ms are in `unit` of it.

    Attributes:
        name: as results say it.
        unit: of a call, for people.
        calls: heading of what a call takes.
        once: heading of what happens once.
        a_call: what one call takes, in words.
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
    """The unit that a device's clock counts: time, unless its facts name another."""
    return CLOCKS.get(str(device.get("clock", "time")), TIME)
