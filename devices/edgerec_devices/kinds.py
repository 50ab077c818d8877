"""What kinds of devices there are: how each is written, opened, set up, and what it lacks here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from edgerec_devices.protocol import Device

Tell = Callable[[str], None]
"""Called with what takes long now: 'sending 3 files'."""


def silent(_: str) -> None:
    """The Tell of those who do not listen."""


@dataclass(frozen=True)
class Options:
    """How a device is opened.

    Attributes:
        offline: the device fetches nothing itself.
        memory: bytes of memory of a device that is started here; None for its own default.
    """

    offline: bool = False
    memory: int | None = None
    tell: Tell = silent


@dataclass(frozen=True)
class Lack:
    """A part that is missing here, and the command that brings it."""

    what: str
    mend: str


@dataclass(frozen=True)
class Kind:
    """A kind of device.

    Attributes:
        name: what an address begins with, up to a colon.
        form: how an address is written.
        about: what it is, in a line.
        open: the device of an address, as a context; raises BenchError.
        lacks: what this machine needs for it and has not; nothing is changed, nothing fetched.
        set_up: brings what `edgerec devices setup NAME` can bring; None where nothing is to be set up.
    """

    name: str
    form: str
    about: str
    open: Callable[[str, Options], AbstractContextManager[Device]]
    lacks: Callable[[], list[Lack]] = list
    set_up: Callable[[Tell], None] | None = None
