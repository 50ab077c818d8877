"""What was measured in processes of its own: a cold load, a load of minutes, and throughput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

EDGE = 10
"""The beginning and the end of a sustained load are each a tenth of its windows."""


@dataclass(frozen=True)
class Cold:
    """A bundle opened and asked once, its files out of the page cache before.

    Attributes:
        first_ms: the first recommendation after the load.
        faults: minor and major pages of both; empty where they are not told.
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
    """What became of a sustained load from its beginning to its end.

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
        """Of one window or more, in their order."""
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
