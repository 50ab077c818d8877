"""What a device's clock counts, and how its figures are called: emulated seconds are never latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
    """What the clock of a device counts, by its facts: time, unless they say otherwise."""
    return CLOCKS.get(str(device.get("clock", "time")), TIME)
